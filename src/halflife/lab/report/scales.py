"""Axes: where a value stands, and which round values to write, for values of any sign and size."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LinearAxis", "LogAxis", "Ruler", "axis_for", "decades", "tick"]

_FROM = 12.0  # positive values that span more than this factor are drawn on a logarithmic axis
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Ruler(ABC):
    """Positions of values, and the round ones among them.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: position in units of the view box.
        end: position.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value, held inside the axis."""
        share = min(max(self._share(value), 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    @abstractmethod
    def _share(self, value: float) -> float:
        """Of the way from `low` to `high`."""

    @abstractmethod
    def labels(self, apart: float = 0.0) -> list[float]:
        """Round values to be written on the axis."""


class LogAxis(Ruler):
    """Positions of values, logarithmic."""

    def _share(self, value: float) -> float:
        span = math.log(self.high) - math.log(self.low)
        return (math.log(max(value, 1e-300)) - math.log(self.low)) / span

    def labels(self, apart: float = 0.0) -> list[float]:
        """Round values to be written on the axis: at least three, where they may stand so near.

        Args:
            apart: how far from each other they are at least; the rounder one stays.

        Example:
            >>> LogAxis(5.0, 90.0, 0.0, 1.0).labels(), LogAxis(7.2, 9.4, 0.0, 1.0).labels()
            ([5.0, 10.0, 20.0, 50.0], [7.5, 8.0, 8.5, 9.0])
            >>> LogAxis(0.07, 0.45, 0.0, 100.0).labels(apart=20.0)
            [0.1, 0.2, 0.3]
        """
        return _apart(self, self._round(), apart)

    def _round(self) -> list[float]:
        for digits in ((1,), (1, 2, 5), range(1, 10)):
            if len(found := self.ticks(digits)) >= 3:
                return found
        return _multiples(self.low, self.high)

    def ticks(self, digits: Sequence[float] = (1,)) -> list[float]:
        """The values digit * 10^k on the axis."""
        return [v for v in decades(self.low, self.high, digits) if self.low <= v <= self.high]


class LinearAxis(Ruler):
    """Positions of values of any sign."""

    def _share(self, value: float) -> float:
        size = max(abs(self.low), abs(self.high))  # values whose difference is infinite
        low, high = self.low / size, self.high / size
        return (value / size - low) / (high - low)

    def labels(self, apart: float = 0.0) -> list[float]:
        """Round values to be written on the axis.

        Args:
            apart: how far from each other they are at least.

        Example:
            >>> LinearAxis(-3.0, 1.2, 0.0, 1.0).labels()
            [-3.0, -2.0, -1.0, 0.0, 1.0]
        """
        return _apart(self, _multiples(self.low, self.high), apart)


def axis_for(values: Sequence[float], start: float, end: float) -> Ruler:
    """The axis for finite values: logarithmic where all are positive and some much larger.

    Example:
        >>> type(axis_for([0.1, 9.0], 0, 1)).__name__, type(axis_for([-1.0, 9.0], 0, 1)).__name__
        ('LogAxis', 'LinearAxis')
    """
    low, high = min(values), max(values)
    if low > 0.0 and high / low > _FROM:
        return LogAxis(max(0.95 * low, 1e-300), min(1.05 * high, 1e300), start, end)
    size = max(abs(low), abs(high)) or 1.0
    margin = (0.04 * (high / size - low / size) or 0.05) * size
    if abs(margin) < 1e-12 * size:  # what differs by rounding is the same
        margin = 0.05 * size
    most = sys.float_info.max
    return LinearAxis(max(low - margin, -most), min(high + margin, most), start, end)


def tick(value: float, apart: float = 0.0) -> str:
    """A round value as it stands on an axis, in the digits that tell it from its neighbours.

    Args:
        value: the value.
        apart: its distance from the nearest one; 0 to show what it has.

    Example:
        >>> tick(-20000.0), tick(1e-9), tick(0.30000000000000004, 0.1), tick(0.0)
        ('\N{MINUS SIGN}20,000', '1e-9', '0.3', '0')
    """
    if value == 0.0 or abs(value) < 1e-9 * apart:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    last = math.floor(math.log10(apart) + 1e-9) if apart > 0.0 else exponent - 5
    if -4 < exponent < 6:
        text = f"{value:,.{max(-last, 0)}f}"
    else:
        mantissa, power = f"{value:.{max(exponent - last, 0)}e}".split("e")
        text = f"{mantissa}e{int(power)}"
    if apart <= 0.0:
        head, *rest = text.split("e")
        head = head.rstrip("0").rstrip(".") if "." in head else head
        text = "e".join([head, *rest])
    return text.replace("-", _MINUS, 1) if value < 0.0 else text


def decades(low: float, high: float, digits: Sequence[float] = (1,)) -> list[float]:
    """Values digit * 10^k, from the power of ten of ``low`` through that of ``high``.

    Example:
        >>> decades(2.0, 30.0, (1, 5))
        [1.0, 5.0, 10.0, 50.0]
    """
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    return [float(f"{d}e{k}") for k in range(first, last + 1) for d in digits]


def _apart(axis: Ruler, values: Sequence[float], apart: float) -> list[float]:
    """Those of the values that stand far enough from each other; the rounder one stays."""

    def roundness(value: float) -> int:
        return -1 if value == 0.0 else "125346789".index(f"{abs(value):e}"[0])

    kept: list[float] = []
    for value in sorted(values, key=roundness):
        if all(abs(axis(value) - axis(other)) >= apart for other in kept):
            kept.append(value)
    return sorted(kept)


def _multiples(low: float, high: float) -> list[float]:
    """About five multiples of a round number between two values."""
    raw = high / 5.0 - low / 5.0
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(d * unit for d in (1, 2, 5, 10) if d * unit >= raw * (1.0 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{step * k:.12g}") + 0.0 for k in range(first, last + 1)]
