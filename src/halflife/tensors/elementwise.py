"""Changes of weights in which each element is its own affair, on tensors as they best are taken.

On the CPU a tensor goes piece by piece, in the cache. On an accelerator large tensors go whole, and
small ones together in one flat buffer. Half-precision weights come as float32 and are rounded
stochastically: rounded to the nearest, a small decay would be lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..checks import Scalar
from .packs import Packs, Row, kind_of, runs
from .pieces import PIECE, pieces
from .rounding import OWED_KEY, Seed, is_half, next_step, rounded, seed_of_part, seeds_at

__all__ = ["change", "multiply_halves", "sweep"]


def sweep(
    function: Callable[..., None], rows: Mapping[int, Row], step: Seed, packs: Packs | None
) -> None:
    """Call ``function(weight, *others)``, which writes the weight, on parts of all rows.

    Args:
        function: acts on each element by itself.
        rows: by the number of the weight.
        step: number of the step, for the rounding of half-precision weights.
        packs: where small tensors of an accelerator are put together; None for one by one.
    """
    together: dict[Any, list[int]] = {}
    halves = [number for number, row in rows.items() if is_half(row[0])]
    seeds = dict(zip(halves, seeds_at(step, halves), strict=True))
    for number, row in rows.items():
        kind = None if packs is None else kind_of(row)
        if kind is None:
            change(function, row, seeds.get(number, 0))
        else:
            together.setdefault(kind, []).append(number)
    for (_, numbers_at), members in together.items():
        for run in runs([rows[number] for number in members]):
            some = [rows[number] for number in members[run]]
            seed = seeds.get(members[run][0], 0)
            if len(some) == 1 or packs is None:
                change(function, some[0], seed)
                continue
            change(function, packs.row(some, numbers_at), seed)
            packs.write(0, [row[0] for row in some])


def change(function: Callable[..., None], row: Row, seed: Seed) -> None:
    """Call ``function(weight, *others)`` on pieces of one row; round a half-precision weight.

    Args:
        function: acts on each element by itself.
        row: the weight, changed in place, and what is beside it.
        seed: of this step and weight.
    """
    if not is_half(row[0]):
        if row[0].numel() <= PIECE:
            function(*row)
            return
        for piece in pieces(*row):
            function(*piece)
        return
    start = 0
    for weight, *others in pieces(*row):
        exact = weight.float()
        function(exact, *(t.float() if is_half(t) else t for t in others))
        weight.copy_(rounded(exact, weight.dtype, seed_of_part(seed, start)))
        start += weight.numel()


def multiply_halves(
    group: dict[str, Any], weights: dict[int, Tensor], factor: Scalar, packs: Packs | None
) -> None:
    """Multiply half-precision weights, in arrears where the factor is a number.

    A pass that rounds costs several times a fused step. So the factors of a weight are gathered
    until they make an eighth of its spacing, less than the weight can show, and then applied.

    Args:
        group: theirs, after `halflife.tensors.rounding.begin`.
        weights: by position in the group.
        factor: what remains of each weight.
        packs: as `sweep` takes them.
    """
    step = next_step(group)
    if isinstance(factor, Tensor) or torch.compiler.is_compiling():
        sweep(lambda w: w.mul_(factor), {i: [w] for i, w in weights.items()}, step, packs)
        return
    if len(group[OWED_KEY]) != len(group["params"]):  # some were added or taken out
        group[OWED_KEY] = torch.zeros(len(group["params"]), dtype=torch.float64)
    owed = group[OWED_KEY].numpy()
    owed[list(weights)] += -math.log(factor) if factor > 0.0 else math.inf
    due: dict[float, dict[int, Row]] = {}
    for position, w in weights.items():
        if owed[position] >= torch.finfo(w.dtype).eps / 16.0:
            due.setdefault(math.exp(-owed[position]), {})[position] = [w]
            owed[position] = 0.0
    for left, rows in due.items():
        sweep(lambda w, left=left: w.mul_(left), rows, step, packs)
