"""accelerate, run for real: equal to a plain loop, and to itself when it is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_digits import (
    BATCH,
    SETTINGS,
    STEPS,
    Digits,
    Net,
    Setting,
    loop,
    optimizer_for,
    parameters,
    same,
    scheduler_for,
)

import halflife
from halflife.diagnostics import Monitor

accelerate = pytest.importorskip("accelerate", reason="needs the extra hf")


def prepare(setting: Setting, model: Net, **settings: Any) -> Any:
    accelerator = accelerate.Accelerator(
        cpu=True,
        mixed_precision="bf16" if setting.bf16 else "no",
        gradient_accumulation_steps=setting.accumulate,
    )
    optimizer = optimizer_for(model, **settings)
    loader = torch.utils.data.DataLoader(Digits(), BATCH)
    return accelerator, *accelerator.prepare(model, optimizer, loader, scheduler_for(optimizer))


def train(prepared: Any, setting: Setting, batches: range) -> None:
    accelerator, model, optimizer, loader, scheduler = prepared
    for batch in list(loader)[batches.start : batches.stop]:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch)["loss"])
            if accelerator.sync_gradients and setting.clip is not None:
                accelerator.clip_grad_norm_(model.parameters(), setting.clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_trains_as_a_plain_loop(setting: Setting) -> None:
    model = Net()
    prepared = prepare(setting, model)
    train(prepared, setting, range(STEPS * setting.accumulate))
    weights, optimizer = loop(setting, model.seen)
    assert same(parameters(model), weights)
    assert same(prepared[2].state_dict()["state"], optimizer.state_dict()["state"])
    undecayed, _ = loop(setting, model.seen, lambda m: optimizer_for(m, weight_decay=0.0))
    assert not same(weights, undecayed)


@pytest.mark.parametrize("decay", ["independent", "stable", "cautious", "anchored"])
def test_resume_is_bitwise(decay: str, tmp_path: Path) -> None:
    setting = SETTINGS[-1]
    half, whole = STEPS // 2 * setting.accumulate, STEPS * setting.accumulate
    stopped = prepare(setting, Net(dropout=0.2), decay=decay, weight_decay=0.05)
    train(stopped, setting, range(half))
    stopped[0].save_state(str(tmp_path))
    train(stopped, setting, range(half, whole))
    resumed = prepare(setting, Net(dropout=0.2), decay=decay, weight_decay=0.05)
    resumed[0].load_state(str(tmp_path))
    train(resumed, setting, range(half, whole))
    for index in (1, 2, 4):  # model, optimizer, scheduler
        assert same(stopped[index].state_dict(), resumed[index].state_dict())


@pytest.mark.parametrize("settings", [{}, {"fused": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("decay", ["independent", "stable", "cautious", "anchored"])
def test_a_step_that_the_scaler_skips_changes_nothing(decay: str, settings: Any) -> None:
    """accelerate replaces the optimizer's step by its own while it scales gradients."""
    accelerate.Accelerator(cpu=True)
    weight = torch.nn.Parameter(torch.ones(3))
    ours = halflife.AdamW([weight], lr=0.1, weight_decay=0.5, decay=decay, **settings)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = accelerate.optimizer.AcceleratedOptimizer(ours, scaler=scaler)
    seen = [weight.detach().clone()]
    for gradient in (1.0, float("inf"), 2.0):
        scaler.scale(torch.ones(()))
        weight.grad = torch.full((3,), gradient * scaler.get_scale())
        optimizer.step()
        seen.append(weight.detach().clone())
    assert same(seen[1], seen[2])
    alone = torch.nn.Parameter(torch.ones(3))
    other = halflife.AdamW([alone], lr=0.1, weight_decay=0.5, decay=decay, **settings)
    for gradient in (1.0, 2.0):
        alone.grad = torch.full((3,), gradient)
        other.step()
    assert same(seen[3], alone.detach())


class Tracker(accelerate.tracking.GeneralTracker):
    name, requires_logging_directory, tracker = "list", False, None

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int, dict[str, float]]] = []

    def store_init_configuration(self, values: Any) -> None:
        """Nothing to configure."""

    def log(self, values: dict[str, float], step: int, **_: Any) -> None:
        self.logged.append((step, values))


def test_an_accelerator_is_a_sink_for_the_monitor() -> None:
    accelerator = accelerate.Accelerator(cpu=True, log_with=(tracker := Tracker()))
    accelerator.init_trackers("run")
    model = Net()
    model, optimizer = accelerator.prepare(model, optimizer_for(model))
    with Monitor(optimizer, model, every=2, sinks=[accelerator]) as monitor:
        for batch in list(torch.utils.data.DataLoader(Digits(), BATCH))[:4]:
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
    accelerator.end_training()
    assert [step for step, _ in tracker.logged] == [1, 2, 4]
    last = next(r for r in monitor.history if r["step"] == 4 and r["name"] == "decayed")
    assert tracker.logged[-1][1]["weight_rms/decayed"] == last["weight_rms"]


def test_a_rule_is_not_put_on_a_wrapper() -> None:
    model = Net()
    *_, optimizer, _, _ = prepare(SETTINGS[0], model)
    with pytest.raises(TypeError, match=f"this {type(optimizer).__name__} wraps another"):
        halflife.attach(optimizer, "constant")
    assert optimizer.param_groups[0]["decay"] == halflife.Independent()


@pytest.mark.parametrize("own", [True, False])
def test_describe_sees_through_the_wrapper(own: bool) -> None:
    model = Net()
    ours = optimizer_for(model) if own else torch.optim.AdamW(model.parameters())
    wrapped = accelerate.Accelerator(cpu=True).prepare(ours)
    assert wrapped is not ours
    assert halflife.describe(wrapped) == halflife.describe(ours)
