"""Metrics: what a training is judged by, whatever its name, unit and direction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ..checks import is_number, require

__all__ = ["HIGHEST", "LONGEST", "Metric", "is_name", "metric_values"]

LONGEST = 200  # characters of a name
HIGHEST = 2**1000  # of an integer: above it, no float is near
_GOALS = ("min", "max")
_PERCENT = ("%", "percent", "per cent", "pct")
_ROUNDING = 1e-5  # a share of 1 in single precision, summed over batches


@dataclass(frozen=True)
class Metric:
    """One number of a training.

    Args:
        name: key of what the training returns.
        unit: written after the number, such as ``"%"`` or ``"nats"``; ``""`` for none.
        goal: ``"min"`` if lower is better, ``"max"`` if higher is.
        examples: for a share of wrong or right answers, how many were asked: what is left of the
            noise when all seeds agree is then that of a binomial count. The share is read in
            percent where the unit is ``"%"`` or ``"percent"``, and from 0 to 1 elsewhere; a value
            outside is refused when a training returns it. None for other metrics.

    Raises:
        ValueError: for an empty name, another goal, or examples that are no positive integer.

    Example:
        >>> Metric("accuracy", "%", goal="max").loss(93.0)
        -93.0
    """

    name: str
    unit: str = ""
    goal: str = "min"
    examples: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a metric."""
        require(
            isinstance(self.name, str) and bool(self.name),
            "name",
            "the key of a number that the training returns",
            self.name,
            'such as lab.Metric("val_error", "%")',
        )
        require(isinstance(self.unit, str), "unit", "a string", self.unit, '"" for none')
        require(
            self.goal in _GOALS,
            "goal",
            '"min" or "max"',
            self.goal,
            '"min" if a lower value is better, as of an error; "max" for an accuracy',
        )
        ok = self.examples is None or (
            isinstance(self.examples, int)
            and not isinstance(self.examples, bool)
            and self.examples > 0
        )
        require(
            ok, "examples", "a positive integer", self.examples, "None if it is no share of answers"
        )

    @property
    def sign(self) -> float:
        """1 if lower is better, else -1."""
        return 1.0 if self.goal == "min" else -1.0

    @property
    def in_percent(self) -> bool:
        """Whether its unit is percent, in whatever spelling."""
        return self.unit.strip().lower() in _PERCENT

    @property
    def top(self) -> float:
        """The whole, of which a share is a part: 100 in percent, else 1."""
        return 100.0 if self.in_percent else 1.0

    @property
    def unit_of_differences(self) -> str:
        """The unit of a difference of two values: between percents it is one of points."""
        return "points" if self.in_percent else self.unit

    def is_share(self, values: Iterable[float]) -> bool:
        """Whether it is a share of answers, and some finite values of it can be.

        Example:
            >>> Metric("error", "%", examples=500).is_share([0.2, 99.0])
            True
            >>> Metric("error", examples=500).is_share([0.2, 99.0])
            False
        """
        high = self.top * (1.0 + _ROUNDING)
        return self.examples is not None and all(-_ROUNDING <= v <= high for v in values)

    def require_share(self, metrics: Mapping[str, Any]) -> None:
        """Refuse a training's value of a share of answers that no share can have.

        Raises:
            ValueError: if it is finite and out of range.
        """
        value = self.of(metrics)
        if self.examples is None or not math.isfinite(value) or self.is_share([value]):
            return
        remedy = 'unit="%" if it is in percent, ' if not self.in_percent else ""
        raise ValueError(
            f"metric {self.name!r}={value:.6g}: must be from 0 to {self.top:g}, since "
            f"examples={self.examples} and unit={self.unit!r} say that it is a share of answers; "
            f"give lab.Metric {remedy}or no examples if it is none."
        )

    def loss(self, value: float) -> float:
        """The value as one of which less is better."""
        return self.sign * value

    def of(self, metrics: Mapping[str, Any]) -> float:
        """Its value among those of a training; NaN where it is missing."""
        value = metrics.get(self.name)
        return float(value) if value is not None and is_number(value) else math.nan

    @property
    def title(self) -> str:
        """Name and unit.

        Example:
            >>> Metric("test_error", "%").title
            'test error (%)'
        """
        words = self.name.replace("_", " ")
        return f"{words} ({self.unit})" if self.unit else words

    def as_dict(self) -> dict[str, Any]:
        """As plain data, to be stored."""
        return asdict(self)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Metric:
        """The metric that was stored; keys that are not known here are passed over.

        Raises:
            ValueError: if it is none.
        """
        return cls(**{k: v for k, v in stored.items() if k in cls.__dataclass_fields__})


def is_name(value: object) -> bool:
    """Whether it may name a metric, parameter or rule: a short text on one line.

    Example:
        >>> is_name("val error"), is_name("val" + chr(10) + "error"), is_name("")
        (True, False, False)
    """
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def metric_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as plain numbers.

    Raises:
        ValueError: for one that is none, or whose name cannot be recorded.
    """
    out = {}
    for name, value in metrics.items():
        if not is_name(str(name)):
            raise ValueError(
                f"metric {str(name)[: 2 * LONGEST]!r}: its name must have 1 to {LONGEST} printable "
                'characters; use a short one, such as "accuracy_3".'
            )
        try:
            number: Any = value.detach() if isinstance(value, Tensor) else value
            if isinstance(value, (str, bytes)):
                number = None  # though Python reads some
            out[str(name)] = float(number)
        except OverflowError:
            raise ValueError(
                f"metric {name!r}: must be a number that a float can be, got one above "
                "1e308; return float('inf') for what is beyond all bounds."
            ) from None
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"metric {name!r}: must be a number, got {type(value).__name__}; return means over "
                "the examples, as floats or tensors of one element."
            ) from None
    return out
