"""Intervals and tests of a mean, from their definitions, of values of any size.

Squares are taken in units of the values' own size, so that figures of 1e200 or 1e-200 have a
deviation as others do. The unit is a power of two, which changes no digit. What metrics computed in
single precision differ by when runs are equal is rounding, and no noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .quantiles import t_quantile, t_tail

__all__ = [
    "CONFIDENCE",
    "ROUNDING",
    "Interval",
    "deviation_of",
    "equivalence",
    "holm",
    "levels",
    "mean_and_error",
    "mean_over_seeds",
    "standard_error",
    "student",
    "two_sided",
    "unit_of",
]

FloatArray = NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
ROUNDING = 8.0 * float(np.finfo(np.float32).eps)  # of the values: differences of equal runs


def unit_of(values: FloatArray) -> float:
    """A power of two as large as the largest of some values; 1 where none is but 0.

    Example:
        >>> unit_of(np.array([3.0, -5.0])), unit_of(np.zeros(2))
        (8.0, 1.0)
    """
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max(initial=0.0))
    return math.ldexp(1.0, min(math.frexp(largest)[1], 1023)) if largest else 1.0


def deviation_of(values: FloatArray) -> float:
    """Standard deviation of a sample of finite values, two at least.

    Example:
        >>> deviation_of(np.array([1e200, 3e200])) / 1e200
        1.4142135623730951
    """
    unit = unit_of(values)
    scaled = values / unit
    apart = scaled - (scaled / len(values)).sum()
    return unit * math.sqrt(float((apart**2).sum()) / (len(values) - 1))


def student(values: FloatArray, least: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Student's interval of a mean; None with fewer than two values or without any noise.

    Args:
        values: finite; shape (n,).
        least: what their standard deviation counts as if it is smaller.
        confidence: of the interval.

    Example:
        >>> low, high = student(np.array([1.0, 2.0, 3.0]), 0.0)
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    mean, error = mean_and_error(values, least)
    if error is None:
        return None
    half = t_quantile(0.5 + 0.5 * confidence, len(values) - 1) * error
    return mean - half, mean + half


def mean_over_seeds(values: FloatArray, where: NDArray[np.bool_]) -> FloatArray:
    """Mean of the finite values along the last axis; NaN outside ``where``."""
    finite = np.isfinite(values)
    count = np.maximum(finite.sum(-1), 1)
    total = (np.where(finite, values, 0.0) / count[..., None]).sum(-1)
    return np.where(where, total, np.nan)


def standard_error(values: FloatArray) -> float | None:
    """Of the mean; None with fewer than two values."""
    if len(values) < 2:
        return None
    return deviation_of(values) / math.sqrt(len(values))


def mean_and_error(values: FloatArray, least: float) -> tuple[float, float | None]:
    """A mean and its standard error; None with fewer than two values or without any noise.

    Args:
        values: finite; shape (n,).
        least: what their standard deviation counts as if it is smaller.
    """
    mean = float((values / max(len(values), 1)).sum())
    if len(values) < 2:
        return mean, None
    deviation = max(deviation_of(values), least)
    if deviation <= ROUNDING * float(np.abs(values).max()) or not math.isfinite(deviation):
        return mean, None
    return mean, deviation / math.sqrt(len(values))


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected after Holm, in the order they came.

    With the m values rising, the k-th counts m - k + 1 times, none less than the one before it.

    Example:
        >>> [round(v, 3) for v in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    out, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min((len(p) - rank) * p[index], 1.0))
        out[index] = least
    return out


def equivalence(values: FloatArray, margin: float, least: float) -> float | None:
    """P-value of the two one-sided tests that a mean lies within a margin around 0.

    Args:
        values: finite; shape (n,).
        margin: positive.
        least: what their standard deviation counts as if it is smaller.

    Returns:
        The larger p-value of the tests for "not above -margin" and "not below +margin"; None with
        fewer than two values or without any noise.
    """
    mean, error = mean_and_error(values, least)
    if error is None:
        return None
    return t_tail((margin - abs(mean)) / error, len(values) - 1)


def two_sided(values: FloatArray, least: float) -> float | None:
    """P-value of the two-sided test that a mean is 0; None as in `mean_and_error`."""
    mean, error = mean_and_error(values, least)
    if error is None:
        return None
    return 2.0 * t_tail(abs(mean) / error, len(values) - 1)


def levels(p: Sequence[float]) -> list[float]:
    """Confidence of each interval, so that it excludes 0 exactly where Holm's test rejects."""
    out, among = [0.0] * len(p), len(p)
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        out[index] = 1.0 - (1.0 - CONFIDENCE) / among
        if p[index] <= 1.0 - out[index]:
            among = len(p) - rank - 1
    return out
