"""What a landscape says: best cells, comparisons, ridges, areas, noise, per rule and over all.

Pure functions of a ledger's records and meta data; every result is plain data without a NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .comparison import Comparison, compare
from .meta import Meta
from .ridge import BoolArray, FloatArray, Ridge, fit_ridge
from .surface import BASELINE, Cell, Record, Surface, surface

__all__ = ["Analysis", "RuleAnalysis", "analyse"]

AREA = 1.0  # the area counts cells within this many points of the best


@dataclass(frozen=True)
class RuleAnalysis:
    """What one rule's surface says.

    Attributes:
        surface: the grid.
        best: its best cell; None without a complete one.
        border: sides of the grid the best cell lies on, such as "highest lr"; then it is no
            optimum, for the error may go on falling outside.
        against_none: the best cell against the best one without decay.
        ridge: best weight decay against the learning rate.
        area_cells: complete cells within one point of the best.
        area_share: their share of all cells of the grid, those never planned aside.
        seed_noise: standard deviation between seeds in points, pooled over these cells.
        missing: runs not in the ledger.
        diverged: cells with a diverged run.
    """

    surface: Surface
    best: Cell | None
    border: tuple[str, ...]
    against_none: Comparison | None
    ridge: Ridge
    area_cells: int
    area_share: float
    seed_noise: float | None
    missing: int
    diverged: int

    @property
    def rule(self) -> str:
        """The rule's name."""
        return self.surface.rule


@dataclass(frozen=True)
class Analysis:
    """What a whole landscape says.

    Attributes:
        baseline: the runs without decay; None if there are none.
        rules: one analysis per rule, in the order of the ledger.
        comparisons: the best rule against every other one.
    """

    baseline: RuleAnalysis | None
    rules: tuple[RuleAnalysis, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def best(self) -> RuleAnalysis | None:
        """The rule with the lowest error; None if no cell is complete."""
        return _best_rule(self.rules)

    def as_dict(self) -> dict[str, Any]:
        """The analysis as plain data without a NaN, as ``summary.json`` holds it."""
        best = self.best
        return {
            "best_rule": best.rule if best else None,
            "baseline": _plain(self.baseline) if self.baseline else None,
            "rules": [_plain(rule) for rule in self.rules],
            "comparisons": [asdict(c) | {"clear": c.clear} for c in self.comparisons],
        }


def analyse(records: Sequence[Record], meta: Meta) -> Analysis:
    """Analyse a ledger, finished or not.

    Args:
        records: one mapping per run, as the ledger holds them.
        meta: what was to be run: rules, learning rates, coefficients, seeds.
    """
    names = [*meta.rules, *sorted({str(r["rule"]) for r in records})]
    names = [name for name in dict.fromkeys(names) if name != BASELINE]
    none = surface(records, meta, BASELINE) if any(r["rule"] == BASELINE for r in records) else None
    rules = tuple(_analyse_rule(surface(records, meta, name), none) for name in names)
    best = _best_rule(rules)
    against = (compare(best.surface, r.surface) for r in rules if best and r is not best)
    return Analysis(
        baseline=_analyse_rule(none, None) if none else None,
        rules=rules,
        comparisons=tuple(c for c in against if c),
    )


def _analyse_rule(surface: Surface, none: Surface | None) -> RuleAnalysis:
    at = surface.best_index()
    mean = surface.mean
    near = mean <= mean[at] + AREA if at else np.zeros(mean.shape, dtype=bool)
    decays = surface.coefficients > 0.0  # a logarithm has no place for a column without decay
    return RuleAnalysis(
        surface=surface,
        best=surface.cell(*at) if at else None,
        border=_border(surface, at) if at else (),
        against_none=compare(surface, none) if none else None,
        ridge=_ridge(surface, decays),
        area_cells=int(near.sum()),
        area_share=float(near.sum() / max((~surface.omitted).sum(), 1)),
        seed_noise=_pooled_deviation(surface.errors[near]),
        missing=surface.missing,
        diverged=int(surface.diverged.sum()),
    )


def _ridge(surface: Surface, decays: BoolArray) -> Ridge:
    usable = np.where(surface.complete[..., None], surface.errors, np.nan)[:, decays]
    if surface.errors.size == 0 or not decays.any():
        return Ridge("undecided", "there is no cell with decay")
    return fit_ridge(surface.lrs, surface.coefficients[decays], usable)


def _border(surface: Surface, at: tuple[int, int]) -> tuple[str, ...]:
    """Sides of the grid a cell lies on; an axis with one value has no border."""
    sides = []
    for index, length, name in zip(at, surface.mean.shape, ("lr", "weight decay"), strict=True):
        if length > 1 and index == 0:
            sides.append(f"lowest {name}")
        if length > 1 and index == length - 1:
            sides.append(f"highest {name}")
    return tuple(sides)


def _pooled_deviation(cells: FloatArray) -> float | None:
    """Standard deviation between seeds, pooled over cells of shape (cells, seeds)."""
    runs = np.isfinite(cells).sum(-1)
    freedom = int((runs - 1)[runs > 1].sum())
    if freedom == 0:
        return None
    return math.sqrt(float((np.nanvar(cells, axis=-1) * runs).sum()) / freedom)


def _best_rule(rules: Sequence[RuleAnalysis]) -> RuleAnalysis | None:
    scored = [(r.best.error, r) for r in rules if r.best]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None


def _plain(rule: RuleAnalysis) -> dict[str, Any]:
    """One rule's analysis as JSON: null for NaN, lists for arrays."""
    grid, best = rule.surface, rule.best
    return {
        "rule": rule.rule,
        "best": asdict(best) | {"half_life": best.half_life, "timescale": best.timescale}
        if best
        else None,
        "border": list(rule.border),
        "against_none": asdict(rule.against_none) | {"clear": rule.against_none.clear}
        if rule.against_none
        else None,
        "ridge": asdict(rule.ridge),
        "area_cells": rule.area_cells,
        "area_share": rule.area_share,
        "seed_noise": rule.seed_noise,
        "missing_runs": rule.missing,
        "diverged_cells": rule.diverged,
        "lrs": grid.lrs.tolist(),
        "weight_decays": grid.coefficients.tolist(),
        "mean_errors": [[None if math.isnan(e) else e for e in row] for row in grid.mean.tolist()],
    }
