"""Half-precision weights keep their decay, and a run that is resumed rounds as one that is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_device import HALVES, LARGE, bases, made, possible, rules_of, state_of, train

import cases
import halflife
from cases import OptimizerCase

# 66,000 weights and 4,000 that go together; random rounding of one spacing (2^-8 at most) leaves a
# mean of 4,000 uncertain by 2^-8 / 2 / sqrt(4000) = 3e-5 at each step that rounds.
SIZES = [LARGE, (999,), (3001,)]
HALF_BASES = [b for b in bases() if b.values[0].id in ("SGD-momentum", "AdamW", "Lion")]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(("case", "how"), HALF_BASES)
def test_their_mean_decays_as_in_float32(
    case: OptimizerCase, how: dict[str, Any], dtype: torch.dtype, there: Callable[[], torch.device]
) -> None:
    """Without gradients, so that nothing but the decay moves them; under a changing lr."""
    device = there()
    possible(case, how, device, dtype)
    case = case.given(eps=1e-3) if "Adam" in case.id else case  # else the rates are 1 / 1e-8
    apart = {}
    # A term of the gradients is as large as SGD's update, whose rounding is torch's own.
    lost = case.cls is halflife.SGD and how.get("implementation") != "compiled"
    for rule in rules_of(case, how):
        if lost and rule.rule.joins_gradient:
            continue
        moved = []
        for kind in (torch.float32, dtype):
            starts = [torch.linspace(0.5, 1.0, torch.Size(s).numel()).view(s) for s in SIZES]
            params = [torch.nn.Parameter(s.to(device, kind, copy=True)) for s in starts]
            optimizer = case.make(params, rule, weight_decay=0.1 * rule.weight_decay, **how)
            for lr in cases.schedule("cosine"):
                for p in params:
                    p.grad = torch.zeros_like(p)
                optimizer.param_groups[0]["lr"] = lr
                optimizer.step()
            pairs = zip(params, starts, strict=True)
            moved.append([float((p.detach().cpu().double() - s.double()).mean()) for p, s in pairs])
        for full, half in zip(*moved, strict=True):
            if half != pytest.approx(full, rel=0.03, abs=2e-4):
                apart[rule.id] = full, half
    assert not apart


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(("case", "how"), HALF_BASES)
def test_resuming_is_not_stopping(
    case: OptimizerCase, how: dict[str, Any], dtype: torch.dtype, there: Callable[[], torch.device]
) -> None:
    """Every bit, by a checkpoint that went through the CPU."""
    device = there()
    possible(case, how, device, dtype)
    apart = []
    for rule in rules_of(case, how):
        optimizer, params = made(case, rule, device, dtype, **how)
        train(optimizer, params, 0, 4)
        stored = on_cpu(optimizer.state_dict())
        weights = [on_cpu(p.detach()) for p in params]
        train(optimizer, params, 4)
        resumed, others = made(case, rule, device, dtype, **how)
        resumed.load_state_dict(stored)
        with torch.no_grad():
            for p, w in zip(others, weights, strict=True):
                p.copy_(w)
        train(resumed, others, 4)
        same = all(torch.equal(p, q) for p, q in zip(params, others, strict=True))
        found, wanted = state_of(resumed), state_of(optimizer)
        for position, held in wanted.items():
            same &= all(torch.equal(found[position][name], held[name]) for name in held)
        if not same:
            apart.append(rule.id)
    assert not apart


def on_cpu(value: Any) -> Any:
    """A checkpoint's tensors on the CPU, as ``torch.load(map_location="cpu")`` has them."""
    if isinstance(value, torch.Tensor):
        return value.to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: on_cpu(v) for k, v in value.items()}
    return [on_cpu(v) for v in value] if isinstance(value, list) else copy.deepcopy(value)
