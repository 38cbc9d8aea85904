r"""Stochastic rounding: how half-precision weights keep a decay smaller than their spacing.

A bfloat16 has 8 significant bits, so ``w (1 - d)`` rounded to the nearest one is ``w`` again for
every ``d < 2^-9``: all decay is lost, at every step (float16: 2^-12). Rounded up or down at random,

    P(up) = (x - below) / (above - below)       E[rounded x] = x

it is kept on average. The random bits are a hash of the step, the tensor and the element. They need
no generator: a run that is resumed, or that replays in a graph, rounds as one that never stopped,
replicas agree, and no random state of the user's moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..checks import Scalar
from .pieces import pieces

__all__ = [
    "HALF",
    "KEYS",
    "OWED_KEY",
    "STEP_KEY",
    "Seed",
    "begin",
    "change",
    "is_half",
    "multiply",
    "next_step",
    "seed_at",
    "stochastic",
]

Seed: TypeAlias = "int | Tensor"  # below 2^32; a tensor, int64 without dimensions, in graphs

STEP_KEY, OWED_KEY = "rounding_step", "rounding_owed"  # in the parameter group
KEYS = {STEP_KEY, OWED_KEY}

HALF = (torch.bfloat16, torch.float16)


_MASK = 0xFFFFFFFF
_MULTIPLIER = 0x45D9F3B  # Mueller's 32-bit finaliser; below 2^31, so that int64 holds the products

_SMALLEST_NORMAL = 2.0**-14  # of float16; below it the spacing is constant
_SUBNORMAL_SPACING = 2.0**-24


def is_half(tensor: Tensor) -> bool:
    """Whether a tensor has 8 or 11 significant bits."""
    return tensor.dtype in HALF


def begin(group: dict[str, Any]) -> None:
    """Start what a group with half-precision weights keeps: the number of its steps, and arrears.

    They are tensors, which a checkpoint keeps and a graph advances.
    """
    if STEP_KEY not in group and (halves := [p for p in group["params"] if is_half(p)]):
        device = halves[0].device if group.get("capturable") else "cpu"
        group[STEP_KEY] = torch.zeros((), dtype=torch.int64, device=device)
        group[OWED_KEY] = torch.zeros(len(group["params"]), dtype=torch.float64)


def next_step(group: dict[str, Any]) -> Seed:
    """The number of this step, for `seed_at`; 0 where no weight is in half precision."""
    if STEP_KEY not in group:
        begin(group)  # the weights may have been converted since the optimizer was made
        if STEP_KEY not in group:
            return 0
    step = group[STEP_KEY].add_(1)
    graph = torch.compiler.is_compiling() or not step.is_cpu
    return step & _MASK if graph else int(step) & _MASK


def seed_at(step: Seed, *place: int) -> Seed:
    """One seed for each step and place, such as a tensor's and a piece's number."""
    seed = _mix(step)
    for number in place:
        seed = _mix((seed + number) & _MASK)
    return seed


def stochastic(exact: Tensor, dtype: torch.dtype, seed: Seed) -> Tensor:
    """Round float32 numbers up or down at random, without bias.

    Args:
        exact: float32, any shape.
        dtype: bfloat16 or float16.
        seed: of this step and place. An element's bits follow from it and the element's index.

    Example:
        >>> x = torch.full((4096,), 1 + 2**-10)  # an eighth of the way from 1 to the next
        >>> rounded = stochastic(x, torch.bfloat16, seed=0)
        >>> sorted(set(rounded.tolist())), abs(rounded.float().mean() - x[0]).item() < 1e-4
        ([1.0, 1.0078125], True)
    """
    index = torch.arange(exact.numel(), device=exact.device).view(exact.shape)
    bits = _mix((index + seed) & _MASK)
    dropped = 16 if dtype is torch.bfloat16 else 13  # of float32's bits, for normal numbers
    noise = (bits >> (32 - dropped)).to(torch.int32)
    kept = ((exact.view(torch.int32) + noise) & -(1 << dropped)).view(torch.float32)
    if dtype is torch.float16:
        uniform = (bits >> 8).to(torch.float32) * 2.0**-24
        small = (exact / _SUBNORMAL_SPACING + uniform).floor() * _SUBNORMAL_SPACING
        kept = torch.where(exact.abs() < _SMALLEST_NORMAL, small, kept)
    return kept.to(dtype)


def multiply(group: dict[str, Any], weights: dict[int, Tensor], factor: Scalar) -> None:
    """Multiply half-precision weights, in arrears where the factor is a number.

    A pass that rounds costs several times a fused step. So the factors of a weight are gathered
    until they make an eighth of its spacing, less than the weight can show, and then applied.

    Args:
        group: theirs, after `begin`.
        weights: by position in the group.
        factor: what remains of each weight.
    """
    step = next_step(group)
    if isinstance(factor, Tensor) or torch.compiler.is_compiling():
        for position, w in weights.items():
            change(w, seed_at(step, position), lambda w: w.mul_(factor))
        return
    if len(group[OWED_KEY]) != len(group["params"]):  # some were added or taken out
        group[OWED_KEY] = torch.zeros(len(group["params"]), dtype=torch.float64)
    owed = group[OWED_KEY].numpy()
    owed[list(weights)] += -math.log(factor) if factor > 0.0 else math.inf
    for position, w in weights.items():
        if owed[position] >= torch.finfo(w.dtype).eps / 16.0:
            due = math.exp(-owed[position])
            change(w, seed_at(step, position), lambda w, due=due: w.mul_(due))
            owed[position] = 0.0


def change(weight: Tensor, seed: Seed, function: Callable[..., None], *others: Tensor) -> None:
    """Call ``function(piece, *others)``, which writes the piece, in float32; round what it wrote.

    Args:
        weight: half precision, changed in place.
        seed: of this step and tensor.
        function: acts on each element by itself.
        others: of the weight's shape, or without dimensions.
    """
    for number, (piece, *rest) in enumerate(pieces(weight, *others)):
        exact = piece.float()
        function(exact, *(t.float() if is_half(t) else t for t in rest))
        piece.copy_(stochastic(exact, weight.dtype, seed_at(seed, number)))


def _mix(x: Any) -> Any:
    x = (((x >> 16) ^ x) * _MULTIPLIER) & _MASK
    x = (((x >> 16) ^ x) * _MULTIPLIER) & _MASK
    return (x >> 16) ^ x
