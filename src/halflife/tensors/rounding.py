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
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = [
    "HALF",
    "KEYS",
    "OWED_KEY",
    "STEP_KEY",
    "Seed",
    "begin",
    "is_half",
    "next_step",
    "place",
    "rounded",
    "seed_at",
    "seed_of_part",
    "seeds_at",
    "stochastic",
]

Seed: TypeAlias = "int | Tensor"  # below 2^30; a tensor, int64 without dimensions, in graphs

STEP_KEY, OWED_KEY = "rounding_step", "rounding_owed"  # in the parameter group
KEYS = {STEP_KEY, OWED_KEY}

HALF = (torch.bfloat16, torch.float16)

_MASK = 0xFFFFFFFF
_SEEDS = (1 << 30) - 1  # so that seed and index make an int32
_BLOCK = 1 << 29  # elements; the next ones take another seed
_MULTIPLIER = 0x45D9F3B  # Mueller's 32-bit finaliser; below 2^31, so that int64 holds the products

_FACTORS = 0x2C1B3C6D, 0x297A2D39  # odd; of Wellons' search for 32-bit hashes

_SUBNORMALS = 2.0**24  # of float16's smallest spacing, in 1
_UNIFORM = 2.0**-32 * (1.0 - 2.0**-19)  # a random int32 times it is less than a half


def is_half(tensor: Tensor) -> bool:
    """Whether a tensor has 8 or 11 significant bits."""
    return tensor.dtype in HALF


def begin(group: dict[str, Any]) -> None:
    """Start what a group with half-precision weights keeps: the number of its steps, and arrears.

    They are tensors, which a checkpoint keeps and a graph advances.
    """
    if STEP_KEY not in group and any(map(is_half, group["params"])):
        group[STEP_KEY] = torch.zeros((), dtype=torch.int64, device="cpu")
        group[OWED_KEY] = torch.zeros(len(group["params"]), dtype=torch.float64, device="cpu")
        place(group)


def place(group: dict[str, Any]) -> None:
    """Put what the group keeps where its steps look for it, also what a checkpoint has brought.

    That is the host, but for a step that a graph captures: a number on the host would be the same
    one at every replay.
    """
    if STEP_KEY in group and group["params"]:
        device = group["params"][0].device if group.get("capturable") else "cpu"
        group[STEP_KEY] = group[STEP_KEY].to(device)
        group[OWED_KEY] = group[OWED_KEY].cpu()


def next_step(group: dict[str, Any]) -> Seed:
    """The number of this step, for `seed_at`; 0 where no weight is in half precision."""
    if STEP_KEY not in group:
        begin(group)  # the weights may have been converted since the optimizer was made
        if STEP_KEY not in group:
            return 0
    if group.get("capturable") and group[STEP_KEY].is_cpu:  # the flag may have been set since
        place(group)
    step = group[STEP_KEY].add_(1)
    graph = torch.compiler.is_compiling() or not step.is_cpu
    return step & _MASK if graph else int(step) & _MASK


def seed_at(step: Seed, *place: int) -> Seed:
    """One seed for each step and place, such as a tensor's number."""
    seed = _mix(step)
    for number in place:
        seed = _mix((seed + number) & _MASK)
    return seed & _SEEDS


def seed_of_part(seed: Seed, start: int) -> Seed:
    """The seed of a tensor's part, for the bits that its elements have in the whole.

    How a tensor is cut depends on the number of threads, and replicas may differ in it.

    Example:
        >>> seed_of_part(7, 0), seed_of_part(7, 65536)
        (7, 65543)
    """
    block, offset = divmod(start, _BLOCK)
    seed = seed_at(seed, block) if block else seed
    return seed + offset if offset else seed  # to add 0 to a tensor is an operation too


def seeds_at(step: Seed, numbers: Sequence[int]) -> Sequence[Seed]:
    """The seed of each number at a step, as `seed_at`; of a tensor, by operations on all at once.

    Example:
        >>> seeds = seeds_at(torch.tensor(7), [0, 3])
        >>> int(seeds[1]) == seeds_at(7, [0, 3])[1] == seed_at(7, 3)
        True
    """
    if not isinstance(step, Tensor) or torch.compiler.is_compiling():
        return [seed_at(step, number) for number in numbers]
    every = torch.arange(max(numbers, default=-1) + 1, device=step.device)
    seeds = seed_at(step, every).unbind()  # type: ignore[arg-type, union-attr]
    return [seeds[number] for number in numbers]


def stochastic(exact: Tensor, dtype: torch.dtype, seed: Seed) -> Tensor:
    """Round float32 numbers up or down at random, without bias (float16: 1e-4 of the spacing).

    Args:
        exact: float32, any shape, at most 2^30 elements.
        dtype: bfloat16 or float16.
        seed: of this step and place. An element's bits follow from it and the element's index.

    Example:
        >>> x = torch.full((4096,), 1 + 2**-10)  # an eighth of the way from 1 to the next
        >>> rounded = stochastic(x, torch.bfloat16, seed=0)
        >>> sorted(set(rounded.tolist())), abs(rounded.float().mean() - x[0]).item() < 1e-4
        ([1.0, 1.0078125], True)
    """
    return rounded(exact, dtype, seed).to(dtype)


def rounded(exact: Tensor, dtype: torch.dtype, seed: Seed) -> Tensor:
    """`stochastic`, as float32 numbers that the dtype holds exactly.

    Example:
        >>> rounded(torch.tensor([3.0]), torch.float16, seed=1)
        tensor([3.])
    """
    bits = _bits(exact, seed)
    if dtype is torch.bfloat16:
        dropped = 16  # of float32's bits
    else:
        # Below its smallest normal number float16's spacing is constant. Every number that it has
        # is a multiple of it, so all are rounded to one first, by bits that are not used below.
        # The sum is in float32, whose own rounding goes to the even multiple at a tie: a number's
        # mean is off by up to 2^-13 of the spacing, as its last bits say, and in the mean not.
        dropped = 13
        exact = (exact * _SUBNORMALS).add_(bits << dropped, alpha=_UNIFORM)
        exact = exact.round_().mul_(1.0 / _SUBNORMALS)
    # CUDA's own NaN has all bits set: what is added to it would make it a zero.
    exact = exact.nan_to_num(nan=math.nan, posinf=math.inf, neginf=-math.inf)
    noise = bits.bitwise_right_shift_(32 - dropped).bitwise_and_((1 << dropped) - 1)
    return noise.add_(exact.view(torch.int32)).bitwise_and_(-1 << dropped).view(torch.float32)


def _bits(like: Tensor, seed: Seed) -> Tensor:
    """32 random bits for each element, as an int32; the upper ones are the better ones."""
    size = like.numel()
    if isinstance(seed, Tensor):
        bits = torch.arange(size, dtype=torch.int32, device=like.device).add_(seed)
    else:
        bits = torch.arange(seed, seed + size, dtype=torch.int32, device=like.device)
    bits = bits.view(like.shape) if like.dim() != 1 else bits
    bits.mul_(_FACTORS[0])
    # A shift that repeats the sign costs the highest bit, and the next product makes a new one.
    return bits.bitwise_xor_(bits >> 15).mul_(_FACTORS[1])


def _mix(x: Any) -> Any:
    x = (((x >> 16) ^ x) * _MULTIPLIER) & _MASK
    x = (((x >> 16) ^ x) * _MULTIPLIER) & _MASK
    return (x >> 16) ^ x
