"""Lightning Fabric, run for real: equal to a plain loop, and to itself when it is resumed."""

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

fabric_package = pytest.importorskip("lightning.fabric", reason="needs the extra lightning")


def prepare(setting: Setting, precision: str | None = None, **settings: Any) -> Any:
    precision = precision or ("bf16-mixed" if setting.bf16 else "32-true")
    fabric = fabric_package.Fabric(accelerator="cpu", devices=1, precision=precision)
    model = Net()
    model, optimizer = fabric.setup(model, optimizer_for(model, **settings))
    return fabric, model, optimizer, scheduler_for(optimizer)


def train(prepared: Any, setting: Setting, batches: range) -> None:
    fabric, model, optimizer, scheduler = prepared
    loader = fabric.setup_dataloaders(torch.utils.data.DataLoader(Digits(), BATCH))
    for index, batch in enumerate(list(loader)[batches.start : batches.stop], 1):
        accumulating = index % setting.accumulate != 0
        with fabric.no_backward_sync(model, enabled=accumulating):
            fabric.backward(model(**batch)["loss"] / setting.accumulate)
        if accumulating:
            continue
        if setting.clip is not None:
            fabric.clip_gradients(model, optimizer, max_norm=setting.clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_trains_as_a_plain_loop(setting: Setting) -> None:
    prepared = prepare(setting)
    train(prepared, setting, range(STEPS * setting.accumulate))
    seen = prepared[1].module.seen
    weights, optimizer = loop(setting, seen)
    assert same(parameters(prepared[1]), weights)
    assert same(prepared[2].state_dict()["state"], optimizer.state_dict()["state"])
    undecayed, _ = loop(setting, seen, lambda m: optimizer_for(m, weight_decay=0.0))
    assert not same(weights, undecayed)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("decay", ["independent", "stable", "cautious", "anchored"])
def test_resume_is_bitwise(decay: str, precision: str, tmp_path: Path) -> None:
    setting = SETTINGS[-1]
    half, whole = STEPS // 2 * setting.accumulate, STEPS * setting.accumulate
    stopped = prepare(setting, precision, decay=decay, weight_decay=0.05)
    train(stopped, setting, range(half))
    state = dict(zip(("model", "optimizer", "scheduler"), stopped[1:], strict=True))
    stopped[0].save(tmp_path / "checkpoint", state)
    train(stopped, setting, range(half, whole))
    resumed = prepare(setting, precision, decay=decay, weight_decay=0.05)
    state = dict(zip(("model", "optimizer", "scheduler"), resumed[1:], strict=True))
    resumed[0].load(tmp_path / "checkpoint", state)
    train(resumed, setting, range(half, whole))
    for a, b in zip(stopped[1:], resumed[1:], strict=True):
        assert same(a.state_dict(), b.state_dict())


def test_a_rule_is_not_put_on_a_wrapper() -> None:
    *_, optimizer, _ = prepare(SETTINGS[0])
    with pytest.raises(TypeError, match=f"this {type(optimizer).__name__} wraps another"):
        halflife.attach(optimizer, "constant")
    assert optimizer.param_groups[0]["decay"] == halflife.Independent()


@pytest.mark.parametrize("own", [True, False])
def test_describe_sees_through_the_wrapper(own: bool) -> None:
    model = Net()
    ours = optimizer_for(model) if own else torch.optim.AdamW(model.parameters())
    wrapped = fabric_package.Fabric(accelerator="cpu").setup(model, ours)[1]
    assert wrapped is not ours
    assert halflife.describe(wrapped) == halflife.describe(ours)


def test_our_clipping_hands_its_norms_through_the_wrapper() -> None:
    model = Net()
    setting = Setting("ours", clip=0.5)
    fabric, model, optimizer, scheduler = prepare(setting, decay="stable", weight_decay=0.05)
    for batch in list(torch.utils.data.DataLoader(Digits(), BATCH))[:STEPS]:
        fabric.backward(model(**batch)["loss"])
        norm = halflife.clip_grad_norm_(optimizer, 0.5)
        assert norm > 0.5
        assert optimizer.optimizer._measures().handed
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


def test_a_small_decay_is_kept_in_bfloat16() -> None:
    """Fabric turns the weights into bfloat16 after the optimizer has been made."""
    _, model, optimizer, _ = prepare(SETTINGS[0], "bf16-true", weight_decay=0.01, decay="constant")
    weight = model.module.first.weight
    assert weight.dtype == torch.bfloat16
    for group in optimizer.param_groups:
        group["weight_decay"] = 2.0**-10  # no bfloat16 is nearer to w (1 - d) than w itself
    before = weight.detach().float()
    for _ in range(64):
        model.zero_grad(set_to_none=False)
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    # Random rounding: 1.6 % standard deviation for a weight, 0.04 % for their 1,536 together.
    ratio = (weight.detach().float() * before).sum() / before.square().sum()
    assert ratio.item() == pytest.approx((1 - 2.0**-10) ** 64, abs=2e-3)


def test_names_are_without_the_wrapper() -> None:
    _, model, *_ = prepare(SETTINGS[0])
    names = [decision.name for decision in halflife.param_groups(model).decisions]
    assert names == [name for name, _ in Net().named_parameters()]
