r"""Is one rule's best cell better than another's, or is it noise?

The lowest of many noisy cells is lower than it would be again. Every comparison is therefore made
twice: between the best cells (paired over seeds, Student's t), and *held out*, where for each seed
the cell is chosen by the other seeds. A difference is called clear only if both intervals say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from .ridge import CONFIDENCE, BoolArray, FloatArray
from .surface import Surface, lowest_index, mean_over_seeds, standard_error

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """How much higher one rule's error is than another's, paired over the seeds.

    Attributes:
        better: the rule whose error is subtracted.
        worse: the other one.
        difference: mean difference of the best cells in points; positive if `better` is better.
        standard_error: of that mean; None with one seed.
        low: lower end of the 95 % interval by Student's t; None with one seed.
        high: upper end.
        held_out: mean difference when each seed's cells are chosen by the other seeds.
        held_out_low: lower end of its interval.
        held_out_high: upper end.
        seeds: number of pairs.
    """

    better: str
    worse: str
    difference: float
    standard_error: float | None
    low: float | None
    high: float | None
    held_out: float | None
    held_out_low: float | None
    held_out_high: float | None
    seeds: int

    @property
    def clear(self) -> bool:
        """Both intervals lie above zero."""
        return (self.low or 0.0) > 0.0 and (self.held_out_low or 0.0) > 0.0


def compare(better: Surface, worse: Surface) -> Comparison | None:
    """The best cells of two surfaces, paired over the seeds both have; None without a pair."""
    a, b = better.best_index(), worse.best_index()
    if a is None or b is None:
        return None
    shared = [s for s in better.seeds if s in worse.seeds]
    first = better.errors[..., [better.seeds.index(s) for s in shared]]
    second = worse.errors[..., [worse.seeds.index(s) for s in shared]]
    paired = second[b] - first[a]
    paired = paired[np.isfinite(paired)]
    if not len(paired):
        return None
    held_out = _held_out(second, worse.complete) - _held_out(first, better.complete)
    held_out = held_out[np.isfinite(held_out)]
    low, high = _t_interval(paired)
    held_low, held_high = _t_interval(held_out)
    return Comparison(
        better=better.rule,
        worse=worse.rule,
        difference=float(paired.mean()),
        standard_error=standard_error(paired),
        low=low,
        high=high,
        held_out=float(held_out.mean()) if len(held_out) else None,
        held_out_low=held_low,
        held_out_high=held_high,
        seeds=len(paired),
    )


def _held_out(errors: FloatArray, complete: BoolArray) -> FloatArray:
    """Error of each seed in the cell that the other seeds would choose; shape (seeds,)."""
    chosen = np.full(errors.shape[-1], np.nan)
    for seed in range(errors.shape[-1]):
        others = np.delete(errors, seed, axis=-1)
        there = complete & np.isfinite(others).any(-1) & np.isfinite(errors[..., seed])
        at = lowest_index(mean_over_seeds(others, there))
        if at is not None:
            chosen[seed] = errors[(*at, seed)]
    return chosen


def _t_interval(values: FloatArray) -> tuple[float | None, float | None]:
    """Student's interval of a mean; (None, None) with fewer than two values."""
    error = standard_error(values)
    if error is None:
        return None, None
    half = float(stats.t.ppf(0.5 + 0.5 * CONFIDENCE, len(values) - 1)) * error
    return float(values.mean()) - half, float(values.mean()) + half
