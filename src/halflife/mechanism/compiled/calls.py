"""Which tensors go into which call of a kernel.

A call costs tens of microseconds, however small its tensors are. So small tensors share one: they
are copied into one flat buffer, and what the kernel wrote is copied back. Large ones are handed
over as they lie in the memory. What shares a call has the same numbers, so the same step count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import Scalar
from ...rules import DecayMap
from ...rules.contract import DecayRule
from ...rules.wish import Wish
from ...tensors.pieces import flat
from ...tensors.rounding import Seed, is_half, seed_at
from ...versions import copy_each, flatten, mark_static, unflatten
from . import kernels

__all__ = ["BaseStep", "take"]

# Elements below which a tensor shares a call: about where copying it costs as much as a call.
SMALL = 1 << 14


class BaseStep(NamedTuple):
    """A base optimizer's part of one group's step."""

    kernel: Callable[..., kernels.Kernel]
    options: tuple[Any, ...]  # of the kernel
    state: list[list[Tensor]]  # by state key, one tensor for each parameter
    steps: list[Tensor]  # step counts to advance
    marks: list[float]  # of each parameter: what its numbers depend on
    numbers: Callable[[float], list[Scalar]]  # of a mark


def take(
    base: BaseStep,
    rule: DecayRule,
    wish: Wish,
    rounding_step: Seed,
    columns: list[list[Tensor]],
) -> None:
    """Take the step.

    Args:
        base: the base optimizer's part.
        rule: the rule.
        wish: what it wants of this step.
        rounding_step: number of this step, for the rounding of half-precision weights.
        columns: weights, state, gradients and, if the rule has them, anchors; each one dense tensor
            for each parameter, of which only what this process holds.
    """
    shared: dict[Any, list[list[Tensor]]] = {}
    call = _Caller(base, rule, wish, rounding_step)
    for mark, *row in zip(base.marks, *columns, strict=True):
        weight = row[0]
        if weight.numel() < SMALL or (lying := flat(row)) is None:
            shared.setdefault((mark, weight.dtype, weight.device), []).append(row)
        else:
            call(mark, [t.detach() for t in lying])  # a graph of a view would depend on its base
    for (mark, *_), rows in shared.items():
        together = list(zip(*rows, strict=True))
        buffers = [flatten(column).detach() for column in together]
        call(mark, buffers)
        for written, buffer in zip(together[: 1 + len(base.state)], buffers, strict=False):
            copy_each(written, unflatten(buffer, written))


class _Caller:
    """What calls the kernel; what tensors have in common is looked up once in a step."""

    def __init__(self, base: BaseStep, rule: DecayRule, wish: Wish, rounding_step: Seed) -> None:
        self.base, self.wish, self.rounding_step = base, wish, rounding_step
        self.map = rule if isinstance(rule, DecayMap) else None
        self.numbers: dict[Any, Tensor] = {}
        self.compiled: dict[Any, kernels.Kernel] = {}
        self.calls = 0

    def __call__(self, mark: float, tensors: list[Tensor]) -> None:
        (kernel, options, *_), wish, weight = self.base, self.wish, tensors[0]
        key = mark, weight.device
        if key not in self.numbers:
            decay = [wish.amount, 1.0 - wish.amount, wish.gradient]
            self.numbers[key] = _numbers([*decay, *self.base.numbers(mark)], weight.device)
        seed = None
        if is_half(weight):
            place = seed_at(self.rounding_step, self.calls)
            seed = torch.as_tensor(place, dtype=torch.int64).to(weight.device, non_blocking=True)
        self.calls += 1
        if weight.numel() < 2:  # a length of 0 or 1 would be compiled for itself
            kernel(self.map, *options)(self.numbers[key], seed, *tensors)
            return
        kind = weight.dtype, weight.device.type
        if (run := self.compiled.get(kind)) is None:
            run = kernels.compiled(kernel, self.map, options, *kind, kernels.BACKEND)
            self.compiled[kind] = run
        run(self.numbers[key], seed, *tensors)


def _numbers(values: list[Scalar], device: torch.device) -> Tensor:
    """One tensor of the numbers, without waiting for a device; in float64 where that has it."""
    there = [isinstance(v, Tensor) and not v.is_cpu for v in values]
    dtype = torch.float32 if device.type == "mps" else torch.float64
    known = [0.0 if on_device else float(v) for v, on_device in zip(values, there, strict=True)]
    numbers = torch.tensor(known, dtype=dtype).to(device, non_blocking=True)
    for i, on_device in enumerate(there):
        if on_device:
            numbers[i] = values[i]
    # Else their count would be compiled as that of a tensor's elements, where the two coincide.
    mark_static(numbers)
    return numbers
