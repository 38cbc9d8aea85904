"""The step as a decay rule sees it: one parameter group's scalars, read-only."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import TypeAlias

from torch import Tensor

__all__ = ["Scalar", "Step", "is_number"]

Scalar: TypeAlias = "float | Tensor"

# Schedulers reach the peak by floating-point recurrences: torch's cosine comes back to
# peak * (1 + 1e-14), a product of warm-up factors to somewhat more.
_PEAK_ROUNDING = 1e-9


def is_number(value: object) -> bool:
    """Whether a value is a real number; ``True`` is none.

    Example:
        >>> is_number(1), is_number(True), is_number("1")
        (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


class Step:
    """What a rule may know about one parameter group at one step (read-only).

    Args:
        lr: learning rate of this step.
        peak_lr: the schedule's highest learning rate; ``lr / peak_lr`` is the schedule multiplier.
        weight_decay: the rule's coefficient, in the rule's own unit.
        effective_rate: called when a rule asks for it; see :mod:`halflife.effective_rate`.
        label: names the group in error messages; a number is its index.

    Example:
        >>> step = Step(lr=1e-3, peak_lr=2e-3, weight_decay=0.1)
        >>> step.lr / step.peak_lr
        0.5
    """

    __slots__ = ("_effective_rate", "_label", "_peak_lr", "lr", "weight_decay")

    def __init__(
        self,
        lr: Scalar,
        peak_lr: Scalar | None = None,
        weight_decay: Scalar = 0.0,
        effective_rate: Callable[[], Scalar] | None = None,
        label: str | int = "the parameter group",
    ) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self._peak_lr = peak_lr
        self._effective_rate = effective_rate
        self._label = label

    @property
    def label(self) -> str:
        """Names the group in error messages."""
        return f"parameter group {self._label}" if isinstance(self._label, int) else self._label

    @property
    def peak_lr(self) -> Scalar:
        """The schedule's highest learning rate.

        Raises:
            ValueError: if it is unknown or not positive, or if ``lr`` is above it.
        """
        peak, lr = self._peak_lr, self.lr
        if isinstance(peak, Tensor) or (peak is not None and isinstance(lr, Tensor)):
            return peak  # comparing device scalars would synchronise with the host
        if peak is None or not 0.0 < peak < math.inf:
            raise ValueError(
                f"peak_lr={peak} of {self.label}: this rule divides by the schedule's highest lr, "
                "which must be positive and finite; pass peak_lr= to the optimizer (or in the "
                "group), as an optimizer built at lr=0 for a warm-up needs."
            )
        if lr > peak * (1.0 + _PEAK_ROUNDING):
            raise ValueError(
                f"lr={lr} of {self.label} is above its peak_lr={peak}: this rule needs the "
                f"schedule's highest lr; pass peak_lr= to the optimizer (OneCycleLR's max_lr, the "
                "end of a warm-up), or set it in the group when you raise the schedule."
            )
        return peak

    @property
    def effective_rate(self) -> Scalar:
        """The base optimizer's own step scale (Adam: 1/sqrt(mean v)), computed when asked.

        Raises:
            ValueError: if the base optimizer declares none.
        """
        if self._effective_rate is None:
            raise ValueError(
                f"effective_rate of {self.label}: this rule needs an optimizer that declares its "
                "effective rate; choose another rule or optimizer."
            )
        return self._effective_rate()
