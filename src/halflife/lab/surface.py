"""One rule's grid of errors, gathered from the records of a ledger.

Rows are peak learning rates, columns the rule's own coefficients. A cell has a mean only when all
its runs are there and none diverged; the others are counted, and never enter a figure silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..theory.equilibrium import half_life, timescale
from .meta import Meta
from .ridge import BoolArray, FloatArray

__all__ = ["BASELINE", "Cell", "Record", "Surface", "surface"]

Record: TypeAlias = Mapping[str, Any]

BASELINE = "none"  # the rule of the runs without decay


@dataclass(frozen=True)
class Cell:
    """One (lr, weight decay) of one rule.

    Attributes:
        rule: the rule's name.
        lr: peak learning rate.
        weight_decay: the rule's own coefficient.
        fraction: share of each weight removed per step at this peak lr; None where undefined (L2).
        error: test error in percent, mean over seeds.
        standard_error: of that mean; None with one seed.
        seeds: number of runs.
    """

    rule: str
    lr: float
    weight_decay: float
    fraction: float | None
    error: float
    standard_error: float | None
    seeds: int

    @property
    def half_life(self) -> float | None:
        """Steps until half of a weight is left at the peak lr; None without a fraction."""
        return half_life(self.fraction) if self.fraction else None

    @property
    def timescale(self) -> float | None:
        """Steps the weights average over at the peak lr; None without a fraction."""
        return timescale(self.fraction) if self.fraction else None


@dataclass(frozen=True, eq=False)
class Surface:
    """One rule's grid.

    Attributes:
        rule: the rule's name.
        lrs: peak learning rates, rising; shape (R,).
        coefficients: the rule's own weight decays, rising; shape (C,).
        strengths: fraction at the central lr of each column, NaN where unknown; shape (C,).
        seeds: seeds of the grid, in the order of the last axis.
        errors: test error in percent, NaN where missing or diverged; shape (R, C, seeds).
        diverged: cells with a diverged run; shape (R, C).
        omitted: cells never planned, since a step would remove whole weights; shape (R, C).
        fractions: share removed per step, mean over seeds, NaN where undefined; shape (R, C).
    """

    rule: str
    lrs: FloatArray
    coefficients: FloatArray
    strengths: FloatArray
    seeds: tuple[int, ...]
    errors: FloatArray
    diverged: BoolArray
    omitted: BoolArray
    fractions: FloatArray

    @property
    def complete(self) -> BoolArray:
        """Cells with as many usable runs as the best-supplied cell, and none diverged; (R, C)."""
        runs = np.isfinite(self.errors).sum(-1)
        return (runs > 0) & (runs == runs.max(initial=0)) & ~self.diverged

    @property
    def mean(self) -> FloatArray:
        """Mean error over seeds, NaN where not complete; shape (R, C)."""
        return mean_over_seeds(self.errors, self.complete)

    @property
    def missing(self) -> int:
        """Runs the grid has room for and the ledger does not hold, diverged cells aside."""
        room = ~(self.diverged | self.omitted)
        return int((~np.isfinite(self.errors) & room[..., None]).sum())

    def cell(self, row: int, column: int) -> Cell:
        """The complete cell at an index."""
        runs = self.errors[row, column]
        runs = runs[np.isfinite(runs)]
        fraction = self.fractions[row, column]
        return Cell(
            rule=self.rule,
            lr=float(self.lrs[row]),
            weight_decay=float(self.coefficients[column]),
            fraction=float(fraction) if np.isfinite(fraction) else None,
            error=float(runs.mean()),
            standard_error=standard_error(runs),
            seeds=len(runs),
        )

    def best_index(self) -> tuple[int, int] | None:
        """Row and column of the lowest mean error; None without a complete cell."""
        return lowest_index(self.mean)


def surface(records: Iterable[Record], meta: Meta, rule: str) -> Surface:
    """One rule's grid: the cells planned in ``meta`` and those in ``records``."""
    own = [r for r in records if r["rule"] == rule]
    planned = meta.coefficients.get(rule, [0.0] if rule == BASELINE else [])
    strength_of = dict(zip(planned, meta.strengths.get(rule, []), strict=False))
    strength_of |= {r["weight_decay"]: r["strength"] for r in own}
    lrs = sorted({*meta.lrs, *(r["lr"] for r in own)})
    coefficients = sorted({*planned, *(r["weight_decay"] for r in own)})
    seeds = tuple(sorted({*meta.seeds, *(r["seed"] for r in own)}))

    errors = np.full((len(lrs), len(coefficients), len(seeds)), np.nan)
    fractions = np.full_like(errors, np.nan)
    diverged = np.zeros(errors.shape[:2], dtype=bool)
    for r in own:
        at = lrs.index(r["lr"]), coefficients.index(r["weight_decay"])
        error = _number(r["test_error"])
        diverged[at] |= bool(r.get("diverged")) or not math.isfinite(error)
        if not r.get("diverged"):
            errors[(*at, seeds.index(r["seed"]))] = error
        fractions[(*at, seeds.index(r["seed"]))] = _number(r.get("fraction"))
    return Surface(
        rule=rule,
        lrs=np.array(lrs, dtype=float),
        coefficients=np.array(coefficients, dtype=float),
        strengths=np.array([_number(strength_of.get(c)) for c in coefficients], dtype=float),
        seeds=seeds,
        errors=errors,
        diverged=diverged,
        omitted=_omitted(errors, diverged, np.outer(lrs, coefficients), meta.omitted.get(rule, 0)),
        fractions=mean_over_seeds(fractions, np.isfinite(fractions).sum(-1) > 0),
    )


def _omitted(errors: FloatArray, diverged: BoolArray, size: FloatArray, count: int) -> BoolArray:
    """The empty cells of largest lr times weight decay, as many as the plan left out."""
    empty = ~np.isfinite(errors).any(-1) & ~diverged
    order = np.argsort(np.where(empty, -size, np.inf), axis=None)
    omitted = np.zeros(empty.size, dtype=bool)
    omitted[order[:count]] = True
    return omitted.reshape(empty.shape) & empty


def mean_over_seeds(values: FloatArray, where: BoolArray) -> FloatArray:
    """Mean of the finite values along the last axis; NaN outside ``where``."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(-1)
    return np.where(where, total / np.maximum(finite.sum(-1), 1), np.nan)


def lowest_index(values: FloatArray) -> tuple[int, int] | None:
    if not np.isfinite(values).any():
        return None
    row, column = np.unravel_index(np.nanargmin(values), values.shape)
    return int(row), int(column)


def standard_error(values: FloatArray) -> float | None:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
