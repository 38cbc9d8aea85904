"""What a step dispatches on an accelerator, where the launch of an operation is what it costs.

Counted on meta tensors, views included, beside torch's own step of the same optimizer. And what the
packing of small tensors changes in the weights, which is nothing: a CPU that is taken for an
accelerator trains as a CPU.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import accelerator
import cases
import halflife
from accelerator import DEVICE, Counting
from cases import PEAK, OptimizerCase
from halflife.rules import DecayMap

SMALL = [(8, 8), (8,), (1,), (3, 4)]
LARGE = (300, 300)  # more than 65,536 elements
RULES = [*cases.RULES, *cases.MAPS]
HALVES = [torch.bfloat16, torch.float16]
LARGE_ONES, SMALL_ONES = 4, 80
FIXED = 60  # operations that a rule may add to a step, whatever the model
EACH, EACH_HALF = 8, 24  # and for each large tensor: of float32 under a map, or rounded
# The second moment of other optimizers than Adam is a formula over each tensor; AMSGrad's too.
MEAN = 24


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator.has_all_kernels(monkeypatch)


def shapes(large: int, small: int) -> list[tuple[int, ...]]:
    return [LARGE] * large + [SMALL[i % len(SMALL)] for i in range(small)]


def implementations(case: OptimizerCase) -> list[dict[str, Any]]:
    """The multi-tensor ones that a class has; torch's Muon has none."""
    known = inspect.signature(case.cls.__init__).parameters
    found: list[dict[str, Any]] = [{"foreach": True}] if "foreach" in known else []
    if "fused" in known and "amsgrad" not in case.arguments:
        found.append({"fused": True})
    if "capturable" in known:
        found.append({"foreach": True, "capturable": True})
    return found


def operations(make: Any, sizes: list[tuple[int, ...]], dtype: torch.dtype) -> int:
    """Of a step with decay due, after two that make state, views and buffers."""
    params = [torch.nn.Parameter(torch.empty(s, device=DEVICE, dtype=dtype)) for s in sizes]
    optimizer = make(params)
    for p in params:
        p.grad = torch.empty_like(p)
    for _ in range(2):
        with Counting():
            optimizer.step()
    with Counting() as counting:
        optimizer.step()
    return counting.operations.total()


QUICK = {"SGD-momentum-foreach", "AdamW-fused", "Lion-foreach"}
BASES = [
    pytest.param(
        case,
        how,
        id=(name := "-".join([case.id, *how])),
        marks=[] if name in QUICK else pytest.mark.slow,
    )
    for case in cases.OPTIMIZERS
    for how in implementations(case)
    if "maximize" not in case.id  # negates all gradients, as torch does
]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize(("case", "how"), BASES)
def test_a_rule_adds_few_operations(
    case: OptimizerCase, how: dict[str, Any], dtype: torch.dtype
) -> None:
    """So many small tensors that one operation more for each would be too many."""
    if how.get("fused") and case.cls is halflife.SGD and dtype in HALVES:
        pytest.skip("our SGD refuses it: torch's fused one takes no half precision on the CPU")
    arguments = {**case.arguments, **how}
    sizes = shapes(LARGE_ONES, SMALL_ONES)
    native = operations(lambda ps: case.native(ps, lr=PEAK, **arguments), sizes, dtype)
    for rule in RULES:
        if case.refuses(rule.rule):
            continue
        ours = operations(lambda ps, rule=rule: case.make(ps, rule, **how), sizes, dtype)
        each = (EACH if isinstance(rule.rule, DecayMap) else 0) + EACH_HALF * (dtype in HALVES)
        if "effective_rate" in rule.rule.needs and takes_a_pass(case):
            each += MEAN
        assert ours - native <= FIXED + LARGE_ONES * each, rule.id


def takes_a_pass(case: OptimizerCase) -> bool:
    """Whether the effective rate is a formula over the second moments."""
    known = issubclass(case.native, (torch.optim.Adam, torch.optim.SGD, torch.optim.NAdam))
    return not known or bool(case.arguments.get("amsgrad"))
