"""The measurement that most studies ask for, and the choices that their plans make of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...optim import Padam, RAdam, Yogi
from ...rules import DecayRule, as_rule
from ...rules.published import PUBLISHED
from ..statistics.valley import FloatArray
from ..tasks import Member
from .bench import PLAIN_SGD, Bench, task_of, trained
from .calls import Call, Curve, Findings, Values, call

__all__ = [
    "FRESH", "OTHER", "Arms", "Choice", "cells_of", "chosen", "findings", "jackknife", "mean_line",
    "rule_of", "run", "scores", "slopes",
]  # fmt: skip

# The first of the seeds that judge, and of those of a null; those that choose begin at 0. Grids and
# controls were laid out with pilots of other seeds (from 100 and 500).
FRESH, OTHER = 1000, 5000

_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
NATIVE: Mapping[str, tuple[str, Any]] = {
    "adamw": ("adamw", None),
    "sgd": ("sgd", None),
    "sgd-plain": ("sgd", PLAIN_SGD),
    "adagrad": ("adamw", (torch.optim.Adagrad, {})),
    "amsgrad": ("adamw", (torch.optim.Adam, {**_ADAM, "amsgrad": True})),
    "padam": ("adamw", (Padam, {})),
    "radam": ("adamw", (RAdam, {})),
    "yogi": ("adamw", (Yogi, {})),
}
MEASURES: Mapping[str, Callable[[Bench], Tensor]] = {
    "G1": Bench.gradient_norm,
    "G2": Bench.batch_gradient_norm,
    "objective": Bench.objective_gradient_norm,
    "sharpness": Bench.sharpness,
}


def rule_of(name: str) -> DecayRule:
    """A rule by its own name, or that of an algorithm: ``"adams"`` is Stable.

    Example:
        >>> rule_of("decoupled"), rule_of("adams")
        (Decoupled(), Stable())
    """
    return PUBLISHED[name] if name in PUBLISHED else as_rule(name)


def run(
    *,
    seed: int,
    task: Mapping[str, Any],
    cells: Sequence[Sequence[Any]],
    optimizer: str = "adamw",
    schedule: str = "cosine",
    epochs: int | None = None,
    **more: Any,
) -> Bench:
    """Train cells of one seed, all at once.

    Args:
        seed: of data, initial weights and order.
        task: ``kind`` and settings of `task_of`.
        cells: of each training the rule's name, lr and weight decay.
        optimizer: one of `NATIVE`.
        schedule: of the lr, by name.
        epochs: passes; by default the task's.
        more: as `trained` takes it.
    """
    base, native = NATIVE[optimizer]
    members = [Member(rule_of(rule), lr, wd, seed) for rule, lr, wd in cells]
    return trained(
        task_of(**task), members, optimizer=base, native=native, schedule=schedule, epochs=epochs,
        **more,
    )  # fmt: skip


def scores(*, what: Sequence[str] = (), **settings: Any) -> Values:
    """What each cell of a `run` came to, each a list with a number a cell.

    Args:
        what: of `MEASURES`, beside what `Bench.scores` gives.
        settings: of `run`.
    """
    bench = run(**settings)
    return {**bench.scores(), **{name: MEASURES[name](bench).tolist() for name in what}}


def cells_of(
    rule: str, lrs: Sequence[float], weight_decays: Sequence[float]
) -> list[tuple[str, float, float]]:
    """A rule's grid, row by row of the learning rates.

    Example:
        >>> cells_of("decoupled", [0.1, 0.2], [1.0])
        [('decoupled', 0.1, 1.0), ('decoupled', 0.2, 1.0)]
    """
    return [(rule, lr, wd) for lr in lrs for wd in weight_decays]


class Arms:
    """Cells of several arms, trained together: the same batches, one pass for all.

    Args:
        cells: by name of the arm.

    Example:
        >>> ours, none = cells_of("decoupled", [0.1], [1.0, 2.0]), cells_of("l2", [0.1], [0])
        >>> arms = Arms(ours=ours, none=none)
        >>> arms.cells
        [('decoupled', 0.1, 1.0), ('decoupled', 0.1, 2.0), ('l2', 0.1, 0)]
        >>> arms.of("none", {"val": [3.0, 2.0, 1.0]})
        {'val': [1.0]}
    """

    def __init__(self, **cells: Sequence[Sequence[Any]]) -> None:
        self.by_name = {name: list(own) for name, own in cells.items()}

    @property
    def cells(self) -> list[Sequence[Any]]:
        """Of all arms, one after the other."""
        return [cell for own in self.by_name.values() for cell in own]

    def calls(self, seeds: Iterable[int], **shared: Any) -> list[Call]:
        """One call of `scores` for each seed."""
        return [call(scores, seed=seed, cells=self.cells, **shared) for seed in seeds]

    def of(self, arm: str, values: Values) -> Values:
        """An arm's own part of what a call came to."""
        start = 0
        for name, own in self.by_name.items():
            if name == arm:
                return {k: v[start : start + len(own)] for k, v in values.items()}
            start += len(own)
        raise KeyError(arm)

    def column(self, arm: str, found: Sequence[Values], name: str) -> FloatArray:
        """One measure of an arm, shape ``[seeds, cells]``; ``[seeds]`` where it has one cell."""
        values = np.array([self.of(arm, each)[name] for each in found], dtype=np.float64)
        return values[:, 0] if values.shape[1] == 1 else values

    def chosen(self, arm: str, found: Sequence[Values]) -> Choice:
        """An arm's cell that is best on validation."""
        return chosen(self.by_name[arm], [self.of(arm, each) for each in found])


class Choice(NamedTuple):
    """The cell that was chosen on validation.

    Attributes:
        place: in the list of cells.
        lr: of the cell.
        weight_decay: of the cell.
        value: mean over the tuning seeds.
        border: what it lies on the border of; empty for a cell inside.
    """

    place: int
    lr: float
    weight_decay: float
    value: float
    border: str

    def cell(self, rule: str, factor: float = 1.0) -> list[tuple[str, float, float]]:
        """As an arm of one cell, with a multiple of its weight decay."""
        return [(rule, self.lr, factor * self.weight_decay)]

    def __str__(self) -> str:
        border = f", on the border ({self.border})" if self.border else ""
        return f"lr {self.lr:g}, weight decay {self.weight_decay:g}{border}"


def chosen(cells: Sequence[Sequence[Any]], found: Sequence[Values], by: str = "val") -> Choice:
    """The cell with the lowest mean over the seeds; of equal ones that with the least decay.

    Args:
        cells: rule, lr and weight decay of each.
        found: what they came to, one mapping a seed.
        by: what is low where it is good.

    Example:
        >>> found = [{"val": [3.0, 1.0, 2.0]}]
        >>> print(chosen(cells_of("l2", [1.0], [0.0, 0.1, 0.2]), found))
        lr 1, weight decay 0.1
    """
    means = np.mean([[_high(v) for v in each[by]] for each in found], axis=0)
    index = min(range(len(cells)), key=lambda i: (means[i], cells[i][2], cells[i][1]))
    _, lr, wd = cells[index]
    border = []
    for what, value, position in (("lr", lr, 1), ("weight decay", wd, 2)):
        axis = sorted({cell[position] for cell in cells})
        # No decay at all is a setting and no border.
        if len(axis) > 2 and value in (axis[0], axis[-1]) and value != 0.0:
            border.append(f"{what} {value:g}")
    return Choice(index, lr, wd, float(means[index]), " and ".join(border))


def slopes(x: Sequence[float], y: FloatArray) -> FloatArray:
    """Slope of the least-squares line through each row.

    Args:
        x: shape (n,).
        y: shape (rows, n).

    Example:
        >>> slopes([0.0, 1.0, 2.0], np.array([[0.0, 2.0, 4.0]])).tolist()
        [2.0]
    """
    centred = np.asarray(x) - np.mean(x)
    return np.asarray(y @ centred / (centred @ centred))


def jackknife(values: FloatArray, statistic: Callable[[FloatArray], float]) -> FloatArray:
    """Pseudo-values of a statistic of all seeds: their mean and deviation tell it and its error.

    ``n t - (n - 1) t_without_i`` of seed i (Tukey).

    Args:
        values: first axis: seeds.
        statistic: of such values, of any number of seeds.

    Example:
        >>> jackknife(np.array([1.0, 2.0, 6.0]), lambda v: float(v.mean())).tolist()
        [1.0, 2.0, 6.0]
    """
    n, whole = len(values), statistic(values)
    without = [statistic(np.delete(values, seed, axis=0)) for seed in range(n)]
    return n * whole - (n - 1) * np.array(without)


def mean_line(x: Sequence[float], values: FloatArray) -> list[tuple[float, ...]]:
    """A line of a figure: mean over the seeds, and one standard error to each side.

    Args:
        x: shape (n,).
        values: shape (seeds, n).
    """
    mean, error = values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values))
    parts = zip(x, mean, mean - error, mean + error, strict=True)
    return [tuple(map(float, point)) for point in parts]


def findings(
    values: Mapping[str, Any], curves: Sequence[Curve] = (), notes: Sequence[str] = ()
) -> Findings:
    """`Findings` of arrays."""
    plain = {name: np.asarray(v, dtype=np.float64).tolist() for name, v in values.items()}
    return Findings(plain, tuple(curves), tuple(notes))


def _high(value: float) -> float:
    return value if math.isfinite(value) else 100.0
