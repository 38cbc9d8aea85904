"""The axes of a landscape: learning rates, and strengths in a currency common to all rules.

Rules are compared at equal strength. Column j of every rule has one strength ``f_j``, the fraction
of each weight that one step removes at the *central* lr of the grid; the rule's own coefficient
follows, and is the same for every lr of the column. So at the central lr all rules do the same,
and what they do away from it is what tells them apart.

Two cases have no fraction to invert:

    L2 on Adam      divides the decay by sqrt(v): f_j / central_lr / 100, as its useful range
                    lies about 100 times lower than that of Decoupled
    L2 on SGD       its long-run rate, lr * weight_decay * (1 - dampening)/(1 - momentum)

and one depends on the gradients: Stable on Adam uses an effective rate measured by a probe run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...bases.noise import Base
from ...checks import is_number
from ...rules.contract import DecayRule
from ...rules.step import Step

__all__ = ["Axis", "Currency", "axis_of", "canonical", "log", "parse_axis"]

# On the digits task the best coefficient was 0.01 for L2 on Adam, 2.4 for Decoupled.
L2_ON_ADAM = 100.0

# Members of a log-spaced axis and of its extension must be equal when they mean the same number.
_DIGITS = 12


@dataclass(frozen=True)
class Axis:
    """Rising positive values, log-spaced or listed.

    Example:
        >>> axis = Axis((0.01, 0.1))
        >>> axis.beyond("low"), axis.beyond("high")
        (0.001, 1.0)
    """

    values: tuple[float, ...]

    @property
    def central(self) -> float:
        """The middle value; of an even number, the lower one."""
        return self.values[(len(self.values) - 1) // 2]

    def beyond(self, side: str) -> float | None:
        """The value one step beyond the "low" or "high" end; None if there is but one value."""
        if len(self.values) < 2:
            return None
        end, inner = self.values[:2] if side == "low" else self.values[:-3:-1]
        return canonical(end * end / inner)

    def extended(self, value: float) -> Axis:
        """With one more value."""
        return Axis(tuple(sorted({*self.values, value})))


def parse_axis(name: str, text: str) -> Axis:
    """An axis from ``lo:hi:n`` (log-spaced, both ends included) or ``a,b,c``.

    Args:
        name: the option, for messages.
        text: what was given.

    Raises:
        ValueError: if the text is neither, or a value is not positive and finite.

    Example:
        >>> parse_axis("lr", "1e-4:1e-2:3").values
        (0.0001, 0.001, 0.01)
    """
    try:
        if ":" in text:
            low, high, n = text.split(":")
            count = int(n)
            if count < 1 or not 0 < float(low) < math.inf or not 0 < float(high) < math.inf:
                raise ValueError
            values = [float(v) for v in np.geomspace(float(low), float(high), count)]
        else:
            values = [float(v) for v in text.split(",")]
        if not all(0 < v < math.inf for v in values):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{name}={text!r}: must be lo:hi:n, n log-spaced values such as 1e-4:1e-1:9, or a list "
            "such as 0.001,0.01, all positive."
        ) from None
    return Axis(tuple(sorted({canonical(v) for v in values})))


@dataclass(frozen=True)
class Currency:
    """What a strength is under one rule.

    Args:
        rule: the decay rule.
        base: what is known of the base optimizer at a learning rate.
        central_lr: where strengths are defined.
        effective_rate: measured, for a rule whose fraction follows the gradients: what the fraction
            is per unit of lr and coefficient (under `Stable`, the optimizer's effective rate).
    """

    rule: DecayRule
    base: Callable[[float], Base]
    central_lr: float
    effective_rate: float | None = None

    def coefficient(self, strength: float) -> float:
        """The rule's ``weight_decay`` of a strength.

        Raises:
            ValueError: if the strength is not a fraction in (0, 1).
        """
        if not 0.0 < strength < 1.0:
            raise ValueError(
                f"strength={strength}: must be above 0 and below 1, the fraction of each weight "
                f"removed per step at the central lr {self.central_lr:g}; zero decay is always run."
            )
        if not self.rule.removes_fraction:  # L2: it joins the gradient
            rate = self.base(self.central_lr).effective_rate
            return strength / self.central_lr / (L2_ON_ADAM if rate is None else rate)
        return float(self.rule.coefficient(strength, self._step(self.central_lr)))

    def strength(self, coefficient: float) -> float:
        """The strength of a coefficient, inverse of `coefficient`."""
        if not self.rule.removes_fraction:
            return coefficient / self.coefficient(0.5) * 0.5
        return self.fraction(coefficient, self.central_lr)

    def fraction(self, coefficient: float, lr: float) -> float:
        """Removed per step at a peak lr; 0 for L2, and for Stable what the probe run foretells."""
        return float(self.rule.fraction(self._step(lr, coefficient)))

    def buildable(self, coefficient: float, lr: float) -> bool:
        """Whether a step at this lr leaves some of each weight."""
        return self.fraction(coefficient, lr) < 1.0

    @property
    def needs_probe(self) -> bool:
        """Whether the fraction depends on gradients, so that a run must tell the rate."""
        known = self.base(self.central_lr).effective_rate is not None
        return self.rule.follows_gradients and not (
            known and self.rule.needs == ("effective_rate",)
        )

    def _step(self, lr: float, coefficient: float = 0.0) -> Step:
        rate = self.effective_rate or self.base(lr).effective_rate
        if rate is None:
            return Step(lr, lr, coefficient)
        # Any rule that follows the gradients by one of these, or by the ratio of the norms.
        measured = {"effective_rate": rate, "gradient_norm": rate, "weight_norm": 1.0}
        return Step(lr, lr, coefficient, measured)


def log(low: float, high: float, n: int) -> Axis:
    """``n`` values from low to high, evenly spaced in the logarithm, both included.

    Raises:
        ValueError: if an end is not positive and finite, or n is no positive integer.

    Example:
        >>> log(1e-4, 1e-2, 3).values
        (0.0001, 0.001, 0.01)
    """
    return parse_axis("log", f"{low!r}:{high!r}:{n!r}")


def axis_of(name: str, values: Axis | str | float | Sequence[float]) -> Axis:
    """An axis from what a user may give: one from `log`, its text, a number, or a list of them.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(values, Axis):
        return values
    if isinstance(values, str):
        return parse_axis(name, values)
    try:
        numbers: list[Any] = [values] if is_number(values) else [*values]  # type: ignore[misc]
    except TypeError:
        numbers = []
    if not numbers or not all(is_number(v) and 0.0 < v < math.inf for v in numbers):
        raise ValueError(
            f"{name}={values!r}: must be lab.log(low, high, n), or a list of positive numbers; "
            "trainings without decay are always run."
        )
    return Axis(tuple(sorted({canonical(float(v)) for v in numbers})))


def canonical(value: float) -> float:
    """A value of an axis, equal to any other that means the same number."""
    return float(f"{value:.{_DIGITS}g}")
