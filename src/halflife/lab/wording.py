"""How the lab writes numbers: the same everywhere, few digits, no exponent zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

__all__ = [
    "at_most",
    "in_digits",
    "interval",
    "listed",
    "scientific",
    "short",
    "signed",
    "spread",
    "steps",
    "with_unit",
]

_MINUS = "\N{MINUS SIGN}"


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


def in_digits(value: float, uncertainty: float | None = None) -> str:
    """A measurement: no more digits than its uncertainty leaves, of which it shows one or two.

    Args:
        value: in any unit, of any size and sign.
        uncertainty: such as a standard error; three digits are shown where it is not known.

    Example:
        >>> in_digits(7.1234, 0.31), in_digits(7.1234, 0.14), in_digits(-0.04, 0.3)
        ('7.1', '7.12', '0.0')
        >>> in_digits(1.234e30, 2e28), in_digits(12345.6, 80.0), in_digits(2.5e-7), in_digits(0.0)
        ('1.234e30', '12,350', '2.50e-7', '0')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{_MINUS if value < 0.0 else ''}∞"
    unsure = 0.0 if uncertainty is None or not math.isfinite(uncertainty) else uncertainty
    known = unsure > 1e-9 * abs(value)  # less is rounding
    size = max(abs(value), unsure) if known else abs(value)
    if size == 0.0:
        return "0"
    exponent = math.floor(math.log10(size))
    last = exponent - 2
    if known and uncertainty is not None:
        first = math.floor(math.log10(uncertainty))
        last = first - (uncertainty < 2.95 * 10.0**first)
    if -4 < exponent < 6:
        digits = max(-last, 0)
        text = f"{round(value, -last):,.{digits}f}"
    else:
        mantissa, power = f"{value:.{max(exponent - last, 0)}e}".split("e")
        text = f"{mantissa}e{int(power)}"
    nothing = not any(c in "123456789" for c in text.split("e")[0])
    return text.lstrip("-") if nothing else text.replace("-", _MINUS, 1 if value < 0.0 else 0)


def with_unit(value: float, unit: str = "", uncertainty: float | None = None) -> str:
    """A measurement with its unit.

    Example:
        >>> with_unit(7.1234, "%", 0.31), with_unit(0.25, "nats"), with_unit(3.0)
        ('7.1 %', '0.250 nats', '3.00')
    """
    return f"{in_digits(value, uncertainty)} {unit}".rstrip()


def at_most(value: float, unit: str = "") -> str:
    """A limit, in at most three digits and never below itself, with its unit.

    Example:
        >>> at_most(0.349), at_most(0.13821, "points"), at_most(99950.0), at_most(2.5e-7)
        ('0.349', '0.139 points', '100,000', '2.5e-7')
    """
    exact = Decimal(repr(float(value)))
    risen = exact.quantize(Decimal(1).scaleb(exact.adjusted() - 2), rounding=ROUND_CEILING)
    risen, exponent = risen.normalize(), risen.adjusted()
    text = f"{risen:,f}" if -4 < exponent < 6 else f"{risen.scaleb(-exponent):f}e{exponent}"
    return f"{text} {unit}".rstrip()


def spread(low: float, high: float) -> str:
    """An interval in brackets, in the digits that its width leaves.

    Example:
        >>> spread(0.912, 2.31), spread(-0.02, 0.4)
        ('[0.9, 2.3]', '[−0.02, 0.40]')
    """
    return f"[{in_digits(low, 0.25 * (high - low))}, {in_digits(high, 0.25 * (high - low))}]"


def signed(value: float, digits: int = 2) -> str:
    """A slope or a difference, with a real minus sign and no negative zero.

    Example:
        >>> signed(-0.104), signed(-0.001)
        ('−0.10', '0.00')
    """
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0.0 else text.replace("-", _MINUS)


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in brackets; empty where there is none.

    Example:
        >>> interval(-0.2, 0.4)
        '[−0.20, 0.40]'
    """
    if low is None or high is None:
        return ""
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def listed(parts: Sequence[str]) -> str:
    """A list in words.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a"])
        ('a, b and c', 'a')
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
