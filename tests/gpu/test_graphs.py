"""A step captured in a CUDA graph and replayed under a changing lr and weight decay is eager's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_device import (
    LRS,
    STEPS,
    bases,
    captured,
    made,
    rules_of,
    torchs_own,
)
from torch import Tensor

from cases import OptimizerCase

FIRST = 3  # eager steps, which make the state
# Replays run the same kernels as eager steps. What they leave apart is rounding: of float32 sums,
# and where that decides how a half rounds, of one weight in a thousand by its spacing.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
HALF = 2.0**-7


def fill(optimizer: Any, params: list[Tensor], grads: list[Tensor], t: int) -> None:
    """The lr, the weight decay and the gradients of a step, in the memory that a graph reads."""
    for group, scale in zip(optimizer.param_groups, (1.0, 0.5), strict=True):
        group["lr"].fill_(LRS[t] * scale)
        group["weight_decay"].fill_(group["given"] * (1.0 - 0.05 * t))
    generator = torch.Generator().manual_seed(t)
    for p, g in zip(params, grads, strict=True):
        g.copy_(torch.randn(p.shape, generator=generator))


def ready(
    case: OptimizerCase, rule: Any, device: torch.device, dtype: torch.dtype, how: dict[str, Any]
) -> tuple[Any, list[Tensor], list[Tensor]]:
    optimizer, params = made(case, rule, device, dtype, **how)
    for group in optimizer.param_groups:
        group["given"] = float(group["weight_decay"])
        for name in ("lr", "weight_decay"):
            group[name] = torch.tensor(float(group[name]), device=device)
    grads = [torch.zeros_like(p) for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    return optimizer, params, grads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("case", "how"), bases("capturable"))
def test_a_captured_step_follows_lr_and_weight_decay(
    case: OptimizerCase, how: dict[str, Any], dtype: torch.dtype, there: Callable[[], torch.device]
) -> None:
    device = there()
    torchs_own(case, how, device, dtype)
    apart = {}
    for rule in rules_of(case, how):
        ends = []
        for graph in (False, True):
            optimizer, params, grads = ready(case, rule, device, dtype, how)
            step: Any = optimizer.step
            with on_a_stream(device):
                for t in range(STEPS):
                    fill(optimizer, params, grads, t)
                    if graph and t == FIRST:
                        step = captured(device, optimizer.step)
                    step()
            for p, g in zip(params, grads, strict=True):
                p.grad = g  # a step that joins the gradients puts them back
            ends.append([p.detach() for p in params])
        for p, q in zip(*ends, strict=True):
            close = torch.isclose(p.float(), q.float(), **CLOSE)
            if dtype is not torch.float32:
                within = torch.isclose(p.float(), q.float(), rtol=HALF, atol=1e-6)
                if close.float().mean() > 0.999 and within.all():
                    continue
            if not close.all():
                apart[rule.id] = float((p - q).abs().max())
    assert not apart


class on_a_stream:
    """A side stream, on which what is to be captured has to run first."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def __enter__(self) -> None:
        if self.cuda:
            self.context = torch.cuda.stream(torch.cuda.Stream())
            self.context.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.cuda:
            torch.cuda.synchronize()
            self.context.__exit__(*error)
