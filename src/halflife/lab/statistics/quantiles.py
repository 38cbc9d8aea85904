"""Quantiles and tails of the distributions that noise is told by.

scipy takes most of a second to import. Whoever concludes can wait for it, a worker that only trains
need not: it is imported here, when it is first asked.
"""

from __future__ import annotations

from typing import Any

__all__ = ["chi_square_quantile", "t_power", "t_quantile", "t_tail"]


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


def t_power(noncentrality: float, freedom: float, level: float) -> float:
    """Probability that a one-sided test of Student's t at a level tells an effect.

    Args:
        noncentrality: the effect over its standard error.
        freedom: degrees of freedom.
        level: of the test.

    Example:
        >>> round(t_power(2.8, 1e6, 0.025), 2)
        0.8
    """
    from scipy import stats

    return float(stats.nct.sf(stats.t.ppf(1.0 - level, freedom), freedom, noncentrality))


def chi_square_quantile(level: Any, freedom: float) -> Any:
    """Where chi square has this probability below it; levels may be an array.

    Example:
        >>> round(float(chi_square_quantile(0.95, 10)), 3)
        18.307
    """
    from scipy import stats

    return stats.chi2.ppf(level, freedom)
