"""How numbers are written in a report: the same everywhere, few digits, no exponent zeros."""

from __future__ import annotations

import math

__all__ = ["interval", "percent", "scientific", "short", "signed", "steps"]


def scientific(value: float, digits: int = 2) -> str:
    """A learning rate: mantissa and exponent without padding.

    Example:
        >>> scientific(0.0042), scientific(1e-3), scientific(0.0)
        ('4.2e-3', '1e-3', '0')
    """
    if value == 0.0 or not math.isfinite(value):
        return "0" if value == 0.0 else "∞"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def short(value: float) -> str:
    """A coefficient: two significant digits, plain where that is short.

    Example:
        >>> short(0.56), short(12.3), short(4.2e-3), short(56234.0)
        ('0.56', '12', '4.2e-3', '5.6e4')
    """
    if value != 0.0 and not 0.095 <= abs(value) < 9950.0:
        return scientific(value)
    return f"{float(f'{value:.2g}'):g}"


def steps(value: float) -> str:
    """A duration in steps or epochs: two significant digits.

    Example:
        >>> steps(412.0), steps(8.26), steps(12345.0), steps(3.2e6)
        ('410', '8.3', '12,000', '3.2e6')
    """
    if not math.isfinite(value) or value >= 99_500.0 or 0.0 < value < 0.095:
        return scientific(value)
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10.0 else f"{rounded:g}"


def percent(value: float, error: float | None = None) -> str:
    """A test error in percent, with its standard error.

    Example:
        >>> percent(7.12), percent(7.12, 0.31)
        ('7.1 %', '7.1 % ± 0.3')
    """
    return f"{value:.1f} %" + (f" ± {error:.1f}" if error is not None else "")


def signed(value: float, digits: int = 2) -> str:
    """A slope or a difference, with a real minus sign and no negative zero.

    Example:
        >>> signed(-0.104), signed(-0.001)
        ('−0.10', '0.00')
    """
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0.0 else text.replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in brackets; empty where there is none.

    Example:
        >>> interval(-0.2, 0.4)
        '[−0.20, 0.40]'
    """
    if low is None or high is None:
        return ""
    return f"[{signed(low, digits)}, {signed(high, digits)}]"
