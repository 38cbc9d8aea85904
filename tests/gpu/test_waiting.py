"""No step waits for the device, by CUDA's own word; the first ones, which make state, may."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from on_device import HALVES, bases, made, no_waiting, possible, rules_of, torchs_own, written

import cases
import halflife
from cases import PEAK, OptimizerCase
from halflife.diagnostics import Monitor


def torchs_waits(case: OptimizerCase, how: dict[str, Any], device: torch.device) -> None:
    """Skip what torch's own step waits in; the first one, which makes state, is not watched.

    A step that is stopped while it makes state leaves half of it, and no later one makes the rest.
    """
    how = {k: v for k, v in how.items() if k != "implementation"}
    w = torch.nn.Parameter(torch.ones(3, 3, device=device))
    native = case.native([w], lr=PEAK, **case.arguments, **how)
    for t in range(3):
        w.grad = torch.ones_like(w)
        try:
            with no_waiting(device) if t else contextlib.nullcontext():
                native.step()
        except RuntimeError as error:
            if "synchroniz" in str(error):
                pytest.skip(f"torch's own {case.native.__name__} with {how} waits")


def waits_in(optimizer: Any, t: int, device: torch.device) -> str | None:
    """Why step `t` could not be taken without waiting; the first three, which make state, may."""
    try:
        with no_waiting(device) if t >= 3 else contextlib.nullcontext():
            optimizer.step()
    except RuntimeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize(("case", "how"), bases())
def test_no_step_waits(
    case: OptimizerCase, how: dict[str, Any], dtype: torch.dtype, there: Callable[[], torch.device]
) -> None:
    """After some that make state and buffers: under another lr, and with a gradient more."""
    device = there()
    possible(case, how, device, dtype)
    torchs_waits(case, how, device)
    waiting = {}
    for rule in rules_of(case, how):
        optimizer, params = made(case, rule, device, dtype, **how)
        for t in range(7):
            written(optimizer, params, t)  # at odd t a parameter has no gradient
            if why := waits_in(optimizer, t, device):
                waiting[rule.id] = why
                break
    assert not waiting


@pytest.mark.parametrize("kind", ["lr", "weight_decay", "both"])
@pytest.mark.parametrize(("case", "how"), bases("capturable"))
def test_nor_with_tensors_for_lr_and_weight_decay(
    case: OptimizerCase, how: dict[str, Any], kind: str, there: Callable[[], torch.device]
) -> None:
    device = there()
    torchs_own(case, how, device, torch.float32)
    torchs_waits(case, how, device)
    waiting = {}
    for rule in rules_of(case, how):
        optimizer, params = made(case, rule, device, torch.float32, **how)
        for t in range(6):
            written(optimizer, params, t)
            for group in optimizer.param_groups:
                for name in ("lr", "weight_decay"):
                    if kind in (name, "both"):
                        group[name] = torch.full((), float(group[name]), device=device)
            if why := waits_in(optimizer, t, device):
                waiting[rule.id] = why
                break
    assert not waiting


@pytest.mark.parametrize("name", ["decoupled", "stable", "adaptive", "cautious"])
@pytest.mark.parametrize("how", [{}, {"implementation": "native"}, {"implementation": "compiled"}])
def test_nor_clip_and_step(
    name: str, how: dict[str, Any], there: Callable[[], torch.device]
) -> None:
    device = there()
    rule = next(r for r in (*cases.RULES, *cases.MAPS) if r.id == name)
    case = cases.optimizer("AdamW")
    # Gradients of norm 1 over 66,000 weights: the rules that follow them ask for more.
    optimizer, params = made(case, rule, device, torch.float32, **how)
    for group in optimizer.param_groups:
        group["weight_decay"] *= 1e-3
    for t in range(6):
        written(optimizer, params, t)
        if t < 3:
            halflife.clip_grad_norm_(optimizer, 1.0)
            optimizer.step()
            continue
        with no_waiting(device):
            halflife.clip_grad_norm_(optimizer, 1.0)
            optimizer.step()


def test_nor_a_step_between_the_monitors_samples(there: Callable[[], torch.device]) -> None:
    device = there()
    rule = next(r for r in cases.RULES if r.id == "stable")
    optimizer, params = made(cases.optimizer("AdamW"), rule, device, torch.float32)
    monitor = Monitor(optimizer, every=50, preset="economy")
    for t in range(6):
        written(optimizer, params, t)
        if t < 3:
            optimizer.step()
            continue
        with no_waiting(device):
            optimizer.step()
    assert monitor.history is not None


class Torchs(torch.optim.SGD):
    """As torch's ASGD: its first step makes state in two halves, and waits between them."""

    watched = False

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        state = self.state[self.param_groups[0]["params"][0]]
        if not state:
            state["step"] = 0
            if self.watched:
                raise RuntimeError("called a synchronizing operation")
            state["mu"] = 1.0
        state["step"] += state["mu"]


def test_torchs_first_step_is_not_stopped_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def watching(device: torch.device) -> Iterator[None]:
        monkeypatch.setattr(Torchs, "watched", True)
        yield
        monkeypatch.setattr(Torchs, "watched", False)

    monkeypatch.setattr(sys.modules[__name__], "no_waiting", watching)
    case = cases.OptimizerCase("SGD", halflife.SGD, Torchs)
    torchs_waits(case, {}, torch.device("cpu"))


def test_the_check_can_fail(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("only CUDA says that something waits")
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting(device):
        torch.ones(3, device=device).sum().item()
