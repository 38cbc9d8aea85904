r"""What a setting does on fresh seeds, and whether one is better than another there.

Settings are chosen by the selection seeds and judged by others, so that no figure here has been
chosen for being low. All comparisons are paired over seeds, by Student's t. The rule that leads is
chosen before; its comparison with no decay is the one that the verdict rests on and stands by
itself, those with torch's default and the other rules are corrected after Holm.

A standard deviation from few seeds may come out far too small, zero where the runs tie. It counts
as at least

    q s_0,    q^2 = chi^2_{0.025, n - 1} / (n - 1),

with ``s_0`` the noise pooled over the settings near the best: smaller than that it is in one of 40
cases only, so that an interval of 0.95 covers 0.975 at most where ``s_0`` is the true noise. A
share of answers (`Metric.examples`, E of them a run, N = n E in all) has at least the variance

    (q^2 p (1 - p) + 2 / N) / E,

which is a binomial count's with the two answers added that make it hold near 0 and 1. Where a seed
shifts two settings exactly alike, ``s_0`` of their difference is that of two independent runs.
Where all seeds agree, to within the rounding of single precision, there is no noise, no interval,
and nothing is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...units.writing import counted
from ..meta import Meta
from ..metric import Metric
from ..wording import listed
from .intervals import (
    CONFIDENCE,
    ROUNDING,
    Interval,
    equivalence,
    holm,
    levels,
    mean_and_error,
    student,
    two_sided,
)
from .quantiles import chi_square_quantile
from .selection import Noise
from .surface import FloatArray, Record, Setting, key_of

__all__ = [
    "Comparison",
    "Fresh",
    "compare",
    "floor",
    "fresh",
    "judged",
]

_TAIL = 0.025


@dataclass(frozen=True, eq=False)
class Fresh:
    """One setting's runs on the confirmation seeds.

    Attributes:
        setting: as it was chosen.
        values: the reported metric, NaN where there is none; one for each confirmation seed.
        missing: runs that are not finished.
        failed: runs that raised or died.
        diverged: runs that diverged, or without a finite value.
        value: mean; None without a run, or where one failed or diverged: the mean of those that did
            not would be that of the lucky ones.
        interval: 95 % interval of it; None where there is none.
    """

    setting: Setting
    values: FloatArray
    missing: int
    failed: int
    diverged: int
    value: float | None
    interval: Interval | None

    @property
    def seeds(self) -> int:
        """Number of usable runs."""
        return int(np.isfinite(self.values).sum())

    @property
    def lost(self) -> str:
        """Which of its runs ended without a value, in words; empty where none did."""
        kinds = {"diverged": self.diverged, "failed": self.failed}
        parts = [f"{kind} on {n}" for kind, n in kinds.items() if n]
        return f"{listed(parts)} of {counted(len(self.values), 'seed')}" if parts else ""


@dataclass(frozen=True)
class Comparison:
    """By how much the leading setting is better than another on fresh seeds.

    Attributes:
        better: the rule that leads.
        other: what it is compared with: a rule, ``"none"`` or ``"default"``.
        gain: mean difference over seeds in units of the metric; positive if the leader is better.
        interval: of the gain; it excludes 0 exactly where the test tells them apart, and is
            therefore wider than 95 % where several are corrected for. None where there is none.
        p: two-sided p-value, not corrected.
        corrected: p-value after Holm; ``p`` for the comparison that stands by itself.
        margin: within which the two are called equal.
        equal: whether they are, by two one-sided tests at 5 %, corrected as ``corrected`` is; None
            without an interval.
        seeds: number of pairs.
    """

    better: str
    other: str
    gain: float
    interval: Interval | None
    p: float | None
    corrected: float | None
    margin: float | None
    equal: bool | None
    seeds: int

    @property
    def clear(self) -> bool:
        """Whether the leader is better, beyond the noise."""
        return self.interval is not None and self.interval[0] > 0.0

    @property
    def worse(self) -> bool:
        """Whether the leader is worse, beyond the noise."""
        return self.interval is not None and self.interval[1] < 0.0


def fresh(
    chosen: Iterable[Setting], records: Iterable[Record], meta: Meta, noise: Noise | None
) -> list[Fresh]:
    """The runs of some settings on the confirmation seeds.

    Args:
        chosen: the settings.
        records: of the ledger, in any order.
        meta: of the ledger.
        noise: of the reported metric near the best setting, by the selection seeds.
    """
    seeds = {seed: i for i, seed in enumerate(meta.confirm_seeds)}
    metric = meta.reported
    found: dict[object, dict[int, Record]] = {}
    for r in records:
        if r["seed"] in seeds:
            found.setdefault(key_of(r), {})[seeds[r["seed"]]] = r
    out = []
    for setting in chosen:
        values = np.full(len(seeds), np.nan)
        failed = diverged = done = 0
        for at, r in found.get(setting.key, {}).items():
            failed += r["status"] in ("failed", "pruned")
            if r["status"] == "done":
                measured, done = metric.of(r["metrics"]), done + 1
                fine = math.isfinite(measured) and not r.get("diverged")
                diverged += not fine
                values[at] = measured if fine else math.nan
        missing = len(seeds) - failed - done
        out.append(judged(setting, values, metric, noise, missing, failed, diverged))
    return out


def judged(
    setting: Setting,
    values: FloatArray,
    metric: Metric,
    noise: Noise | None,
    missing: int = 0,
    failed: int = 0,
    diverged: int = 0,
) -> Fresh:
    """A setting's mean on fresh seeds and its interval.

    Args:
        setting: as it was chosen.
        values: the metric, NaN where there is none; one for each confirmation seed.
        metric: what is reported.
        noise: of the metric near the best setting, by the selection seeds.
        missing: runs that are not finished.
        failed: runs that raised or died.
        diverged: runs that diverged.
    """
    usable = values[np.isfinite(values)]
    value = interval = None
    if len(usable) and not failed and not diverged:
        value = float((usable / len(usable)).sum())
        least = floor(metric, [usable], noise.total if noise else 0.0)
        interval = _inside(metric, usable, student(usable, least))
    return Fresh(setting, values, missing, failed, diverged, value, interval)


def floor(metric: Metric, runs: Sequence[FloatArray], noise: float) -> float:
    """The least that a standard deviation between seeds counts as.

    Args:
        metric: what the runs are measured by.
        runs: finite values of one setting, or those of each of two whose differences are meant,
            as many of each.
        noise: pooled standard deviation of a run, or of a difference; 0 if it is not known.
    """
    n = len(runs[0])
    if n < 2:
        return 0.0
    share = float(chi_square_quantile(_TAIL, n - 1)) / (n - 1)
    least = math.sqrt(share) * noise
    if metric.examples is None or not all(metric.is_share(values) for values in runs):
        return least
    scale, variance = metric.top, 0.0
    for values in runs:
        p = min(max(float(values.mean()) / scale, 0.0), 1.0)
        variance += (share * p * (1.0 - p) + 2.0 / (n * metric.examples)) / metric.examples
    return max(least, scale * math.sqrt(variance))


def compare(
    leader: Fresh, others: Sequence[tuple[str, Fresh]], meta: Meta, noise: Noise | None
) -> list[Comparison]:
    """The leader against others, paired over the fresh seeds and corrected for their number.

    Args:
        leader: its runs.
        others: name and runs of each; those without a common seed, or of which a run failed or
            diverged, are passed over.
        meta: for the reported metric and the margin of equality.
        noise: of the reported metric near the best setting.
    """
    metric = meta.reported
    margin = meta.margin or (noise.total if noise else None)
    pairs: list[tuple[str, FloatArray, float]] = []
    for name, other in others:
        both = np.isfinite(leader.values) & np.isfinite(other.values)
        if both.any() and not leader.lost and not other.lost:
            a, b = leader.values[both], other.values[both]
            gains = _gains(metric, a, b)
            pairs.append((name, gains, floor(metric, [a, b], _noise_of(gains, a, b, noise))))
    p = [two_sided(gains, least) for _, gains, least in pairs]
    known = [v for v in p if v is not None]
    corrected = iter(holm(known))
    confidence = iter(levels(known))
    same = [equivalence(gains, margin, least) if margin else None for _, gains, least in pairs]
    alike = iter(holm([v for v in same if v is not None]))
    out = []
    for (name, gains, least), own, tested in zip(pairs, p, same, strict=True):
        out.append(
            Comparison(
                better=leader.setting.rule,
                other=name,
                gain=float(gains.mean()),
                interval=None if own is None else student(gains, least, next(confidence)),
                p=own,
                corrected=None if own is None else next(corrected),
                margin=margin,
                equal=None if tested is None else next(alike) <= 1.0 - CONFIDENCE,
                seeds=len(gains),
            )
        )
    return out


def _noise_of(gains: FloatArray, a: FloatArray, b: FloatArray, noise: Noise | None) -> float:
    """Standard deviation that the difference of two settings' runs may be expected to have."""
    residual, total = (noise.residual, noise.total) if noise else (0.0, 0.0)
    if len(gains) > 1 and not np.ptp(gains):
        between = [mean_and_error(values, 0.0)[1] or 0.0 for values in (a, b)]
        residual = max(residual, total, math.sqrt(len(gains)) * max(between))
    return math.sqrt(2.0) * residual


def _gains(metric: Metric, leader: FloatArray, other: FloatArray) -> FloatArray:
    """By how much the leader is better at each seed; equal where only rounding differs."""
    gains = metric.sign * (other - leader)
    size = float(np.abs([leader, other]).max())
    return np.full_like(gains, gains[0]) if np.ptp(gains) <= ROUNDING * size else gains


def _inside(metric: Metric, values: FloatArray, interval: Interval | None) -> Interval | None:
    """A share's interval, cut to where shares are; of values that are none it stays as it is."""
    if interval is None or not metric.is_share(values):
        return interval
    return max(interval[0], 0.0), min(interval[1], metric.top)
