r"""Which setting of a rule is best, by the selection seeds alone.

The lowest of many noisy means is mostly the luckiest one. Neighbouring settings are alike, so each
mean is replaced by a Gaussian average of its grid,

    s_i = sum_j k_ij m_j / sum_j k_ij,    k_ij = exp(-d_ij^2 / (2 h^2)),

with d the distance in rows and columns. How far to average the data say: of widths from 0 (nothing
is averaged) to 4 cells, the one is taken whose squared error is lowest by Mallows' estimate

    sum_i (s_i - m_i)^2 + 2 v sum_i S_ii,

v being the variance of a mean, over the settings within 6 of its standard deviations of the lowest.
Means above that count as that much, so that a cliff does not push the optimum away. One seed says
nothing about v, and a grid of which less than half is filled has no neighbours: there the lowest
mean stays what it is.

How much worse than the true best the chosen setting is, in noises between seeds (with three of
them and a gain of 1.6; docs/lab_statistics.md has the whole table): in a valley of 9 x 9 settings
0.14, and the one with the lowest mean 0.28; of 33 x 33, 0.03 and 0.23; beside a cliff 0.22 and
0.20, and 0.07 and 0.18. A grid of 5 x 5, where a valley is as narrow as a cell, gains nothing by it
(0.29 and 0.27) and loses beside a cliff (0.34 and 0.20).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..meta import Meta
from ..metric import Metric
from .intervals import ROUNDING, unit_of
from .seeds import shared
from .surface import (
    AXES,
    BASELINE,
    DEFAULT,
    BoolArray,
    FloatArray,
    Record,
    Setting,
    Surface,
    drawn,
    records_of,
    slices,
)

__all__ = [
    "Choice",
    "Finalist",
    "Noise",
    "best_of",
    "choose",
    "finalists",
    "noise_between_seeds",
    "smoothed",
    "surface",
]

WIDTHS = (0.0, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # of the Gaussian, in cells
CAP = 6.0  # means count up to this many standard errors above the lowest
NEAR = 4.0  # the noise is that of settings within this many noises of the lowest
_LEAST_FILLED = 0.5
_ONE_SEED_FOR_MOST = ("two-stage",)  # samplers that give a few settings the others, by intent


@dataclass(frozen=True)
class Noise:
    """How much runs of one setting differ, near the best setting.

    Attributes:
        total: standard deviation between seeds.
        residual: what is left of it when what a seed shifts in all settings alike is taken out:
            the noise of a difference of two settings is ``sqrt(2)`` times it.
        freedom: degrees of freedom of ``residual``.
    """

    total: float
    residual: float
    freedom: int


@dataclass(frozen=True)
class Choice:
    """The setting that a rule is represented by.

    Attributes:
        surface: the slice it lies on, of the metric that settings are chosen by; its ``compared``
            are the seeds that the rule's settings are compared on.
        setting: it, with its mean over the selection seeds.
        estimate: its smoothed mean as one of which less is better: rules are compared by this.
        noise: near the best setting; None with one seed.
        grids: the rule's surfaces, one for each combination of other parameters.
    """

    surface: Surface
    setting: Setting
    estimate: float
    noise: Noise | None
    grids: tuple[Surface, ...]


@dataclass(frozen=True)
class Finalist:
    """A setting that is trained again on fresh seeds.

    Attributes:
        role: ``"rule"``, ``"none"`` or ``"default"``.
        setting: what to train. Two finalists may be one setting, which needs training once.
    """

    role: str
    setting: Setting


def noise_between_seeds(losses: FloatArray) -> Noise | None:
    """The noise near the lowest of some settings; None if no setting has two runs.

    Args:
        losses: of complete settings, NaN where a run is not there; shape (N, seeds).
    """
    runs = np.isfinite(losses).sum(-1)
    usable = losses[runs > 1]
    if not len(usable):
        return None
    runs = runs[runs > 1]
    mean = np.nanmean(usable, axis=-1)
    lowest = np.argsort(mean, kind="stable")[: max(math.ceil(len(mean) / 4), 1)]
    # Squares of differences are finite in a unit of the size that they have near the best.
    unit = unit_of(usable[lowest] - mean[lowest, None])
    with np.errstate(over="ignore"):  # those of a cliff are not
        variance = np.nanvar(usable / unit, axis=-1) * runs / (runs - 1)
    rough = unit * math.sqrt(float(np.nanmean(variance[lowest])))
    near = mean <= mean.min() + NEAR * rough
    usable, runs, mean, variance = usable[near], runs[near], mean[near], variance[near]
    freedom = int((runs - 1).sum())
    rounding = ROUNDING * float(np.nanmax(np.abs(usable)))

    def noise(squares: float, left: int) -> float:
        found = unit * math.sqrt(squares / left)
        return found if found > rounding else 0.0

    total = noise(float((variance * (runs - 1)).sum()), freedom)
    apart = (usable - mean[:, None]) / unit
    there = np.isfinite(usable).any(0)  # a seed that no setting has yet shifts nothing
    if len(usable) < 2 or there.sum() < 2:
        return Noise(total, total, freedom)
    apart = apart[:, there] - np.nanmean(apart[:, there], axis=0)
    left = freedom - int(there.sum()) + 1
    return Noise(total, noise(float(np.nansum(apart**2)), max(left, 1)), left)


def smoothed(mean: FloatArray, valid: BoolArray, variance: float | None) -> FloatArray:
    """Means averaged with their neighbours as far as the data allow; infinite where not valid.

    Args:
        mean: of the settings; shape (R, C).
        valid: which of them have one; shape (R, C).
        variance: of a mean; None if it is not known.
    """
    raw = np.where(valid, mean, np.inf)
    if not variance or not np.isfinite(variance) or valid.mean() < _LEAST_FILLED:
        return raw
    cap = raw.min() + CAP * math.sqrt(variance)
    near, m = raw < cap, np.where(valid, np.minimum(raw, cap), 0.0)
    best, lowest_risk = raw, 2.0 * variance * near.sum()
    for width in WIDTHS[1:]:
        row, column = (_weights(n, width) for n in mean.shape)
        total = row @ valid @ column
        s = np.where(valid, row @ m @ column / np.maximum(total, 1e-300), np.inf)
        risk = ((s - m)[near] ** 2).sum() + 2.0 * variance * (1.0 / total[near]).sum()
        if risk < lowest_risk:
            best, lowest_risk = s, risk
    return best


def _weights(n: int, width: float) -> FloatArray:
    at = np.arange(n)
    return np.exp(-0.5 * ((at[:, None] - at) / width) ** 2)


def choose(own: Iterable[Record], meta: Meta, rule: str) -> Choice | None:
    """The best setting of one rule; None without a complete one.

    Args:
        own: its records of the selection seeds, as `records_of` gives them.
        meta: what was planned, and the metric to choose by.
        rule: the rule's name.
    """
    keep = {"least_kept": 0.0} if meta.sampler in _ONE_SEED_FOR_MOST else {}
    return best_of(slices(own, meta, rule, meta.chosen_by), **keep)


def best_of(grids: Sequence[Surface], **keep: float) -> Choice | None:
    """The best setting on some surfaces of one rule; None without a complete one.

    Ties go to the lower mean, then to less decay, then to the lower lr, then to the other
    parameters in the order of how they are written.

    Args:
        grids: of the metric to choose by, which may differ in other parameters.
        **keep: for `shared`, which says on what seeds they are compared.
    """
    if not grids:
        return None
    has = [g.usable.reshape(-1, len(g.seeds)) for g in grids]
    counted = shared(np.concatenate(has), **keep)
    compared = tuple(seed for seed, one in zip(grids[0].seeds, counted, strict=True) if one)
    grids = [replace(g, compared=compared) for g in grids]
    complete = [g.complete for g in grids]
    if not any(c.any() for c in complete):
        return None
    noise = noise_between_seeds(np.concatenate([g.runs for g in grids]))
    unit = unit_of(np.array([noise.residual])) if noise else 1.0  # its square is finite
    variance = (noise.residual / unit) ** 2 / len(compared) if noise else None
    ranked = []
    for grid, valid in zip(grids, complete, strict=True):
        if not valid.any():
            continue
        loss = grid.metric.sign * grid.mean
        with np.errstate(over="ignore"):  # what is so far from the best counts as the cap
            estimate = unit * smoothed(loss / unit, valid, variance)
        places = [(int(row), int(column)) for row, column in np.argwhere(valid)]
        at = min(places, key=lambda at: (estimate[at], loss[at], at[1], at[0]))
        best = grid.setting(*at)
        rank = (best.weight_decay, best.lr, repr(best.params))
        ranked.append(((float(estimate[at]), float(loss[at]), *rank), grid, best))
    (estimate_of_best, *_), grid, best = min(ranked, key=lambda one: one[0])
    return Choice(grid, best, estimate_of_best, noise, tuple(grids))


def surface(
    records: Iterable[Record],
    meta: Meta,
    rule: str,
    metric: Metric,
    params: Mapping[str, Any] | None = None,
    axes: Sequence[str] = AXES,
) -> Surface:
    """One rule's settings laid out for two of what is swept.

    Args:
        records: of the ledger, in any order.
        meta: what was planned.
        rule: name of a rule, ``"none"``, or ``"default"`` for torch's default.
        metric: what the values are of.
        params: value of everything swept that is no axis, by name; those of the rule's best setting
            if None.
        axes: names of what rows and columns are, of ``"lr"``, ``"weight_decay"`` and those in
            ``meta.params``.

    Raises:
        ValueError: for an axis that was not swept.
    """
    own = records_of(records, meta).get(rule, [])
    choice = choose(own, meta, rule) if params is None else None
    return drawn(own, meta, rule, metric, choice.setting.place if choice else params, axes)


def finalists(records: Iterable[Record], meta: Meta) -> tuple[Finalist, ...]:
    """The settings to be trained on fresh seeds: each rule's best, no decay, torch's default.

    They are chosen by ``meta.chosen_by`` over ``meta.seeds`` alone, so that the same grid always
    has the same finalists. A rule without a complete setting has none.
    """
    of_rule = records_of(records, meta)
    roles = [*((name, "rule") for name in meta.rules), (BASELINE, "none"), (DEFAULT, "default")]
    found = ((role, choose(of_rule.get(name, ()), meta, name)) for name, role in roles)
    return tuple(Finalist(role, choice.setting) for role, choice in found if choice)
