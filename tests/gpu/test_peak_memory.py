"""What a step holds beside weights and state: a constant, and nothing more from step to step.

The constant is `MOST` temporaries of a piece of `halflife.tensors.pieces`, in float32. Such a piece
has 2^25 elements, 128 MiB; counted by operations that hold at a time:

- a half-precision weight: itself in float32, its random bits, and one step of their hash; for
  float16 two more, which round below its smallest normal number,
- a map of it: what it looks at in float32, and an operation on that (at most 4, `Preconditioned`
  and `ProximalL1` with that metric: the second moment, its root, what it divides, the result).

Torch's own fused kernels hold nothing; its foreach ones two copies of the model, which is theirs.
Small tensors share buffers of up to 64 MiB of float32, which the first steps make and all keep.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_device import LRS, rules_of, torchs_own

import accelerator
import cases
from halflife.tensors import pieces

MOST = 6
FUSED = {"fused": True}
HOWS = [FUSED, {}, {"implementation": "compiled"}]


def peak(device: torch.device, step: Callable[[], Any]) -> tuple[int, int]:
    """The most bytes that a step held beyond what there was, and what it left behind."""
    if device.type != "cuda":
        with accelerator.Peak() as counted:
            step()
        return counted.most, counted.held
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    most, after = torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
    return most - before, after - before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("how", HOWS, ids=lambda how: next(iter(how.values()), "open"))
@pytest.mark.parametrize("name", ["AdamW", pytest.param("SGD-momentum", marks=pytest.mark.slow)])
def test_a_step_holds_a_constant_and_no_more_from_step_to_step(
    name: str,
    how: dict[str, Any],
    dtype: torch.dtype,
    there: Callable[[], torch.device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = there()
    size = 1 << 27
    if device.type == "cpu":  # the same at a 1024th
        size >>= 10
        monkeypatch.setattr(pieces, "_ON_DEVICE", pieces._ON_DEVICE >> 10)
        if how.get("implementation") == "compiled":
            pytest.skip("a kernel that is not compiled has temporaries")
        how = how or {"implementation": "native"}
        if dtype is torch.bfloat16 and name != "AdamW":
            pytest.skip("torch's fused SGD takes no half precision on the CPU, others hold copies")
    case = cases.optimizer(name)
    case = case if name == "AdamW" else case.only(momentum=0.9)
    torchs_own(case, how, device, dtype)
    few = pieces.piece_size(torch.empty(1, device=device)) * 4
    allowed = MOST * few + (1 << 20)  # and its numbers, and the sums of a norm
    beyond = {}
    for rule in rules_of(case, how):
        sizes = [(size,)] + [(64, 4)] * 100
        params = [torch.nn.Parameter(torch.ones(s, device=device, dtype=dtype)) for s in sizes]
        optimizer = case.make(params, rule, weight_decay=1e-4, **how)
        for p in params:
            p.grad = torch.full_like(p, 1e-3)
        found = []
        for t, lr in enumerate(LRS):
            optimizer.param_groups[0]["lr"] = lr
            if t < 3:
                optimizer.step()
            else:
                found.append(peak(device, optimizer.step))
        if max(most for most, _ in found) > allowed or any(left > 1 << 16 for _, left in found):
            beyond[rule.id] = found
        del optimizer, params, p
        gc.collect()
    assert not beyond
