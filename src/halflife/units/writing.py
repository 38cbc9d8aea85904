"""How numbers and durations are written, wherever a person reads them.

>>> duration(23104.6, 1.0)
'23,105 steps = 1 epoch'
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["counted", "duration", "in_percent", "number", "per", "quantity"]


def quantity(value: float) -> str:
    """How many: whole from 100 on, with a comma for each thousand; below, three digits.

    Example:
        >>> quantity(23104.6), quantity(11.5523), quantity(1.0), quantity(float("inf"))
        ('23,105', '11.6', '1', 'inf')
    """
    return f"{value:,.0f}" if 99.95 <= abs(value) < 1e15 else f"{value:.3g}"


def counted(value: float, unit: str, written: Callable[[float], str] = quantity) -> str:
    """So many of a unit, in the singular for one.

    Args:
        value: how many.
        unit: in the singular.
        written: how the number is written.

    Example:
        >>> counted(1.0, "epoch"), counted(0.25, "epoch"), counted(20_000, "step")
        ('1 epoch', '0.25 epochs', '20,000 steps')
    """
    text = written(value)
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"


def duration(steps: float | None, epochs: float | None = None) -> str:
    """Steps, and the same in epochs where that is known; "-" where neither is.

    Example:
        >>> duration(6931.1, 69.3), duration(float("inf")), duration(None)
        ('6,931 steps = 69.3 epochs', 'never', '-')
    """
    if steps is None or math.isnan(steps):
        return "-"
    if math.isinf(steps):
        return "never"
    text = counted(steps, "step")
    return text if epochs is None else f"{text} = {counted(epochs, 'epoch')}"


def number(value: float | None) -> str:
    """A setting or a measurement, in three digits; "-" where it is unknown.

    Example:
        >>> number(0.0003), number(3e-5), number(12345.6), number(None)
        ('0.0003', '3e-05', '12,346', '-')
    """
    if value is None:
        return "-"
    return quantity(value) if abs(value) >= 999.5 else f"{value:.3g}"


def in_percent(share: float, digits: int = 3) -> str:
    """A share in percent, in as many digits.

    Example:
        >>> in_percent(0.00196), in_percent(0.998, 2)
        ('0.196 %', '100 %')
    """
    return f"{float(f'{100.0 * share:.{digits}g}'):g} %"


def per(steps: float | None, steps_per_epoch: float | None) -> float | None:
    """Steps in epochs; None where either is unknown."""
    return None if steps is None or steps_per_epoch is None else steps / steps_per_epoch
