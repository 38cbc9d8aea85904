r"""The ridge of a landscape: where the best weight decay lies at each learning rate.

At each learning rate the error has a valley over the weight decay. The ridge joins the bottoms of
these valleys, and its slope

    s = d log(best weight_decay) / d log(lr)

says whether the two can be tuned one at a time: near 0 the best coefficient is the same at every
learning rate, near -1 their product is what matters.

Estimator: each row is smoothed and its bottom found (`halflife.lab.statistics.valley`), and a line
is fitted by least squares through the rows that come close to the best: whose lowest error is above
the lowest of all by at most 0.3 of the depth of a typical valley, or by two standard errors of a
difference where noise makes that wider. The depth is the rise at a factor of 20 in weight decay.
Nothing depends on the errors' unit, zero or sign: ``a * errors + b`` with a > 0 has the same ridge.

Interval: the landscape is redrawn many times, each row's cell means moved by

    sum_s z_s r_s / sqrt(n (n - 1)),    z_s ~ N(0, 1) drawn per row,

with ``r_s`` the deviations of seed ``s`` from the mean of the row's n seeds, less what a seed
shifts alike everywhere. The redrawn rows have the measured covariance of a mean of n seeds, so
neighbouring cells that err together, as runs of one seed do, still do; rows and seeds are resampled
at once, and the rows that count are selected anew each time. Where the bottoms lie off the line by
more than the redraws explain (a ridge that bends, columns too coarse for a steep valley), each
redrawn bottom is moved by that much besides, as in a meta-regression with random effects:

    tau^2 = max(0, sum_r (bottom_r - line_r)^2 / (R - 2) - mean_r Var(redrawn bottom_r)).

With one seed the noise is unknown: rows are close by depth alone, and there is no interval. How
often the interval holds the true slope, and how often a verdict is wrong, is measured by
``python scripts/lab_simulation_ridge.py``; the table is in docs/lab_ridge.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .valley import BoolArray, FloatArray, Valleys, valleys

__all__ = ["CONFIDENCE", "SEPARABLE", "BoolArray", "FloatArray", "Ridge", "fit_ridge"]

SEPARABLE = 0.35  # |slope| below which the two are called separable
CLOSE = 0.3  # rows count whose bottom is at most this share of a valley's depth above the lowest,
CLOSE_NOISE = 2.0  # or this many standard errors of the difference
LEAST_ROWS = 3
CONFIDENCE = 0.95
_REDRAWS = 2000
_LEAST_REDRAWN = 0.6  # share of the redrawn landscapes that must still have a ridge
_ABSURD = 1e9  # multiples of the typical rise, above which a height says nothing more
_ROUNDING = 1e-12  # noise below this share of the depth


@dataclass(frozen=True)
class Ridge:
    """Slope of the best weight decay against the learning rate, and what it lets one say.

    Attributes:
        verdict: "separable" if the whole interval lies within +-0.35, "coupled" if none of it does,
            else "undecided".
        reason: why it is undecided; empty otherwise.
        slope: d log(best weight_decay) / d log(lr), in the rule's own coefficient; None with fewer
            than three usable rows.
        low: lower end of the 95 % interval; None where there is none.
        high: upper end.
        lrs: learning rates of the rows used.
        coefficients: best weight decay of each of these rows, between the grid's columns.
        intercept: log weight_decay of the fitted line at log lr = 0.
        unbounded_rows: rows close to the best whose own best weight decay lies on the border.
    """

    verdict: str
    reason: str = ""
    slope: float | None = None
    low: float | None = None
    high: float | None = None
    lrs: tuple[float, ...] = ()
    coefficients: tuple[float, ...] = ()
    intercept: float | None = None
    unbounded_rows: int = 0

    def coefficient_at(self, lr: float) -> float | None:
        """Weight decay on the fitted line at a learning rate."""
        if self.slope is None or self.intercept is None:
            return None
        return float(np.exp(self.intercept + self.slope * np.log(lr)))


def fit_ridge(lrs: FloatArray, coefficients: FloatArray, errors: FloatArray) -> Ridge:
    """Slope, interval and verdict of one rule's landscape.

    Args:
        lrs: learning rates of the rows, rising; shape (R,).
        coefficients: weight decays of the columns, rising, positive; shape (C,).
        errors: error of each run, less is better, of any sign and size; NaN where there is none
            to use; shape (R, C, seeds).

    Example:
        >>> lr, wd = np.geomspace(1e-4, 1e-2, 5), np.geomspace(1e-3, 100, 11)
        >>> valley = 5 + np.log(wd * lr[:, None] / 1e-3 ** 0.5 / 1e-2) ** 2
        >>> round(fit_ridge(lr, wd, valley[..., None]).slope, 3)  # product decides: slope -1
        -1.0
    """
    valid = np.isfinite(errors).sum(-1) == _most_seeds(errors)
    if not valid.any():
        return Ridge("undecided", "there is no finished cell")
    x, y = np.log(coefficients), np.log(lrs)
    errors = _scaled(np.where(valid[..., None] & np.isfinite(errors), errors, np.nan))
    mean, seeds = _mean_over_seeds(errors, valid), _most_seeds(errors)
    residuals = _residuals(mean, errors, valid)
    noise = _noise(residuals[_low(mean, valid)], seeds)
    found = valleys(mean, x, valid, noise)
    if found is None:
        return Ridge("undecided", "the error has no valley over the weight decay")
    bottoms, floors, bounded = found.bottoms(mean)
    close = _close(floors, found, noise)
    used = close & bounded
    unbounded = int((close & ~bounded).sum())
    if used.sum() < LEAST_ROWS:
        return Ridge("undecided", _too_few(int(used.sum()), unbounded), unbounded_rows=unbounded)
    slope, intercept = _line(y, bottoms, used)
    low = high = None
    if seeds < 2:
        reason = "one seed says nothing about noise; run at least two, better three"
    elif noise <= _ROUNDING * found.depth:
        reason = "the seeds agree to the last digit, which says nothing about noise"
    else:
        aside = bottoms - (intercept + slope * y)
        low, high, reason = _interval(mean, residuals, seeds, found, y, noise, used, aside)
    verdict = "undecided"
    if low is not None and high is not None:
        verdict, reason = _verdict(low, high)
    return Ridge(
        verdict=verdict,
        reason=reason,
        slope=float(slope),
        low=low,
        high=high,
        lrs=tuple(float(v) for v in lrs[used]),
        coefficients=tuple(float(v) for v in np.exp(bottoms[used])),
        intercept=float(intercept),
        unbounded_rows=unbounded,
    )


def _scaled(errors: FloatArray) -> FloatArray:
    """Errors above the lowest in units of the median rise: their squares are of usual size."""
    size = np.nanmax(np.abs(errors))
    if size == 0.0:
        return errors
    risen = errors / size - np.nanmin(errors / size)
    if not (risen > 0.0).any():
        return risen
    typical = np.median(risen[risen > 0.0])
    return np.minimum(risen, _ABSURD * typical) / typical


def _close(floors: FloatArray, found: Valleys, noise: float) -> BoolArray:
    """Rows whose bottom is as low as the lowest, but for a share of the depth, or for noise."""
    floors = np.where(found.valid.any(-1), floors, np.inf)
    allowed = max(CLOSE * found.depth, CLOSE_NOISE * np.sqrt(2.0) * noise)
    return floors <= floors.min(-1, keepdims=True) + allowed


def _residuals(mean: FloatArray, errors: FloatArray, valid: BoolArray) -> FloatArray:
    """Deviations from the cells' means, 0 where there is none, without what a seed shifts alike."""
    residuals = errors - mean[..., None]
    near = residuals[_low(mean, valid)]
    shift = [np.median(r[np.isfinite(r)]) if np.isfinite(r).any() else 0.0 for r in near.T]
    return np.where(np.isfinite(residuals), residuals - np.array(shift), 0.0)


def _low(mean: FloatArray, valid: BoolArray) -> BoolArray:
    """The lower half of the cells, where the noise is that of trainings that went well."""
    return valid & (mean <= np.median(mean[valid]))


def _noise(residuals: FloatArray, seeds: int) -> float:
    """Standard error of a cell's mean, pooled over cells; 0 where one seed leaves it unknown."""
    return float(np.sqrt((residuals**2).sum(-1).mean() / (seeds * max(seeds - 1, 1))))


def _line(y: FloatArray, x: FloatArray, used: BoolArray) -> tuple[Any, Any]:
    """Least squares of x on y over the used rows: slope (NaN with too few rows) and intercept."""
    n = used.sum(-1)
    count = np.maximum(n, 1)
    center_y, center_x = (used * y).sum(-1) / count, (used * x).sum(-1) / count
    dy = np.where(used, y - center_y[..., None], 0.0)
    spread = (dy**2).sum(-1)
    slope = (dy * x).sum(-1) / np.where(spread > 0.0, spread, 1.0)
    slope = np.where((n >= LEAST_ROWS) & (spread > 0.0), slope, np.nan)
    return slope, center_x - slope * center_y


def _interval(
    mean: FloatArray,
    residuals: FloatArray,
    seeds: int,
    found: Valleys,
    y: FloatArray,
    noise: float,
    used: BoolArray,
    aside: FloatArray,
) -> tuple[float | None, float | None, str]:
    """95 % percentile interval of the slope, or the reason why there is none."""
    rng = np.random.default_rng(0)  # the same ledger gives the same report
    normal = rng.standard_normal((_REDRAWS, len(y), residuals.shape[-1]))
    normal /= np.sqrt(seeds * (seeds - 1))
    redrawn = mean + np.einsum("brs,rcs->brc", normal, residuals)
    bottoms, floors, bounded = found.bottoms(redrawn)
    counted = _close(floors, found, np.sqrt(2.0) * noise) & bounded  # these have the noise twice
    within = bottoms[:, used].var(0).mean()
    between = max((aside[used] ** 2).sum() / (used.sum() - 2) - within, 0.0)
    bottoms += np.sqrt(between) * rng.standard_normal(bottoms.shape)
    slopes = _line(y, bottoms, counted)[0]
    slopes = slopes[np.isfinite(slopes)]
    if len(slopes) < _LEAST_REDRAWN * _REDRAWS:
        lost = 1.0 - len(slopes) / _REDRAWS
        reason = f"in {lost:.0%} of the redrawn landscapes fewer than three rows were usable"
        return None, None, f"{reason}; run more seeds"
    tail = 0.5 * (1.0 - CONFIDENCE)
    low, high = np.quantile(slopes, [tail, 1.0 - tail])
    return float(low), float(high), ""


def _verdict(low: float, high: float) -> tuple[str, str]:
    if max(abs(low), abs(high)) <= SEPARABLE:
        return "separable", ""
    if high < -SEPARABLE or low > SEPARABLE:
        return "coupled", ""
    return "undecided", f"the interval reaches across ±{SEPARABLE}; more seeds would narrow it"


def _too_few(used: int, unbounded: int) -> str:
    rates = ("no learning rate comes", "one learning rate comes", "two learning rates come")[used]
    reason = f"{rates} close to the best error with the best weight decay inside the grid"
    reason += f" ({unbounded} with it on the border)" if unbounded else ""
    return f"{reason}, and a slope needs three"


def _most_seeds(errors: FloatArray) -> int:
    return max(int(np.isfinite(errors).sum(-1).max(initial=0)), 1)


def _mean_over_seeds(errors: FloatArray, valid: BoolArray) -> FloatArray:
    """Mean over the seeds that are there; 0 where the cell is not valid."""
    finite = np.isfinite(errors)
    total = np.where(finite, errors, 0.0).sum(-1)
    return np.where(valid, total / np.maximum(finite.sum(-1), 1), 0.0)
