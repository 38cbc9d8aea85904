"""Every rule on every optimizer and implementation: weights and state as on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_device import RULES, bases, made, rules_of, state_of, torchs_own, train, written
from torch import Tensor

import cases
import halflife
from cases import OptimizerCase

# float64: sums of some 66,000 numbers in another order, 1e-13; what torch's kernels take in another
# order is less. float32: 2^-24 of a weight (up to 4) at each of 8 steps, and some of that again in
# an update of 0.02, are 2e-6.
CLOSE = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-11},
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
}
# Counts of steps that a graph can advance are in float32, and so are torch's bias corrections.
CAPTURED = CLOSE[torch.float32]
# Its products are in bfloat16, 2^-8 of entries of 0.2 lr = 0.004, in five rounds and 8 steps; a
# decay of 2.0 removes a quarter of a weight.
MUON = {"rtol": 0.0, "atol": 2e-3}
# Of a large tensor in float32: where a direction is zero but for rounding, its sign is chance, and
# so is what a rule or Lion makes of it.
CHANCE = 3


@functools.lru_cache(maxsize=len(RULES) + 1)
def on_the_cpu(name: str, rule: str, dtype: torch.dtype) -> tuple[list[Tensor], dict[Any, Any]]:
    case = cases.optimizer(name)
    optimizer, params = made(case, next(r for r in RULES if r.id == rule), "cpu", dtype)
    train(optimizer, params)
    return [p.detach() for p in params], state_of(optimizer)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("case", "how"), bases())
def test_every_rule_trains_as_on_the_cpu(
    case: OptimizerCase, how: dict[str, Any], dtype: torch.dtype, there: Callable[[], torch.device]
) -> None:
    """Two groups, a changing lr, small tensors and a large one, a gradient missing at times."""
    rules = rules_of(case, how)
    wanted = {rule.id: on_the_cpu(case.id, rule.id, dtype) for rule in rules}
    device = there()
    torchs_own(case, how, device, dtype)
    close = MUON if case.id == "Muon" else CAPTURED if "capturable" in how else CLOSE[dtype]
    apart = {}
    for rule in rules:
        optimizer, params = made(case, rule, device, dtype, **how)
        train(optimizer, params)
        weights, state = wanted[rule.id]
        try:
            assert_same(params, weights, close)
            found = state_of(optimizer)
            assert found.keys() == state.keys()
            for position, held in state.items():
                assert found[position].keys() == held.keys()
                assert_same([found[position][name] for name in held], held.values(), close)
        except AssertionError as error:
            apart[rule.id] = str(error)
    assert not apart


def assert_same(found: Any, wanted: Any, close: dict[str, float]) -> None:
    for one, other in zip(found, wanted, strict=True):
        there, here = one.detach().cpu().double(), other.double()
        chance = here.numel() > 1000 and close is not CLOSE[torch.float64]
        if int((~torch.isclose(there, here, **close)).sum()) > CHANCE * chance:
            torch.testing.assert_close(there, here, **close)


@pytest.mark.parametrize("name", ["stable", "adaptive"])
def test_clip_and_step_as_on_the_cpu(name: str, there: Callable[[], torch.device]) -> None:
    """A clip hands its norms over; one bound is reached, the other is not."""
    found = []
    rule = next(r for r in cases.RULES if r.id == name)
    for where in (lambda: torch.device("cpu"), there):
        optimizer, params = made(cases.optimizer("AdamW"), rule, where(), torch.float64)
        for t, bound in enumerate((100.0, 1e6)):
            written(optimizer, params, t)
            norm = halflife.clip_grad_norm_(optimizer, bound)
            optimizer.step()
        found.append([norm.cpu(), *(p.detach().cpu() for p in params)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **CLOSE[torch.float64])
