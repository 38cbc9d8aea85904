"""What a step holds on an accelerator, counted on meta tensors of 2^27 elements that hold nothing.

The reasons for the constant are in `tests/gpu/test_peak_memory.py`, which measures it on a device.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.operations import stepped

import cases
from accelerator import DEVICE, Peak, has_all_kernels  # noqa: F401
from cases import OptimizerCase
from halflife.tensors import pieces

RULES = [*cases.RULES, *cases.MAPS]
MOST = 6  # temporaries of one piece, in float32
SHAPES = [(1 << 27,), (64, 64), (64,), (3,)]


pytestmark = pytest.mark.usefixtures("has_all_kernels")


def held(make: Any, dtype: torch.dtype) -> list[tuple[int, int]]:
    """Of some steps, after two that make state and buffers: the most, and what is left."""
    optimizer = stepped(make, SHAPES, dtype)
    found = []
    for _ in range(2):
        with Peak() as peak:
            optimizer.step()
        found.append((peak.most, peak.held))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["AdamW", "AMSGrad", "SGD-momentum"])
def test_a_fused_step_holds_a_constant(name: str, dtype: torch.dtype) -> None:
    case: OptimizerCase = cases.optimizer(name)
    if case.native is torch.optim.SGD:
        if dtype is not torch.float32:
            pytest.skip("our SGD refuses it: torch's fused one takes no half precision on the CPU")
        case = case.only(momentum=0.9)
    piece = 4 * pieces.piece_size(torch.empty(1, device=DEVICE))
    for rule in RULES:
        if case.refuses(rule.rule):
            continue
        found = held(lambda ps, rule=rule: case.make(ps, rule, fused=True), dtype)
        assert found[0][0] <= MOST * piece + (1 << 20), rule.id
        assert all(left < 1 << 16 for _, left in found), rule.id


def test_the_check_can_fail() -> None:
    """torch's foreach step holds copies of the model, and a tensor that is kept is held."""
    found = held(lambda ps: torch.optim.AdamW(ps, foreach=True), torch.float32)
    assert found[0][0] >= 4 << 27
    with Peak() as peak:
        kept = torch.empty(1000, device=DEVICE)
        kept.mul_(2.0).view(10, 100)
        kept + 1.0
    assert (peak.most, peak.held) == (8000, 4000)
