"""Quantiles and tails of the distributions that noise is told by.

scipy takes most of a second to import. Whoever concludes can wait for it, a worker that only trains
need not: it is imported here, when it is first asked.
"""

from __future__ import annotations

from typing import Any

__all__ = ["chi_square_quantile", "t_quantile", "t_tail"]


def t_quantile(level: float, freedom: float) -> float:
    """Where Student's t has this probability below it.

    Example:
        >>> round(t_quantile(0.975, 10), 3)
        2.228
    """
    from scipy import stats

    return float(stats.t.ppf(level, freedom))


def t_tail(value: float, freedom: float) -> float:
    """The probability of Student's t above a value.

    Example:
        >>> round(t_tail(2.228, 10), 3)
        0.025
    """
    from scipy import stats

    return float(stats.t.sf(value, freedom))


def chi_square_quantile(level: Any, freedom: float) -> Any:
    """Where chi square has this probability below it; levels may be an array.

    Example:
        >>> round(float(chi_square_quantile(0.95, 10)), 3)
        18.307
    """
    from scipy import stats

    return stats.chi2.ppf(level, freedom)
