"""The step as a decay rule sees it: one parameter group's scalars, read-only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..checks import Scalar

__all__ = ["MEASURED", "Step", "inverse_root", "inverse_square", "over"]


# What `Step.measured` may be asked for: numbers that follow the gradients and weights of a step.
MEASURED = ("effective_rate", "mean_square", "gradient_norm", "weight_norm")

# Schedulers reach the peak by floating-point recurrences: torch's cosine comes back to
# peak * (1 + 1e-14), a product of warm-up factors to somewhat more.
_PEAK_ROUNDING = 1e-9


class Step:
    """What a rule may know about one parameter group at one step (read-only).

    Args:
        lr: learning rate of this step.
        peak_lr: the schedule's highest learning rate; ``lr / peak_lr`` is the schedule multiplier.
        weight_decay: the rule's coefficient, in the rule's own unit.
        measured: the numbers of `MEASURED` that are known, or a function that measures one when a
            rule asks for it; see `halflife.bases.measures`.
        label: names the group in error messages; a number is its index.

    Example:
        >>> step = Step(lr=1e-3, peak_lr=2e-3, weight_decay=0.1)
        >>> step.lr / step.peak_lr
        0.5
    """

    __slots__ = ("_label", "_measured", "_peak_lr", "lr", "weight_decay")

    def __init__(
        self,
        lr: Scalar,
        peak_lr: Scalar | None = None,
        weight_decay: Scalar = 0.0,
        measured: Mapping[str, Scalar] | Callable[[str], Scalar] | None = None,
        label: str | int = "the parameter group",
    ) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self._peak_lr = peak_lr
        self._measured = measured
        self._label = label

    @property
    def label(self) -> str:
        """The group's name in error messages."""
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

    def measured(self, name: str) -> Scalar:
        """A number that the step measures over the whole model, computed when asked.

        Args:
            name: "effective_rate", the base optimizer's own step scale (Adam: 1/sqrt(mean v));
                "mean_square", the mean whose inverse root that is (Adam: mean v);
                "gradient_norm" or "weight_norm", the Euclidean norms of all gradients and of the
                weights that have one, each as one vector.

        Raises:
            ValueError: if the base optimizer declares no such number, or it is not known here.

        Example:
            >>> Step(lr=0.1, measured={"gradient_norm": 2.0}).measured("gradient_norm")
            2.0
        """
        known = self._measured
        if known is not None and not isinstance(known, Mapping):
            return known(name)
        if known is not None and name == "mean_square" and name not in known:
            return inverse_square(self.effective_rate)
        if known is None or name not in known:
            what = name.replace("_", " ")
            raise ValueError(
                f"{name} of {self.label}: this rule needs the {what}, which is known in a training "
                "step only, of an optimizer that declares it; choose another rule or optimizer."
            )
        return known[name]

    @property
    def effective_rate(self) -> Scalar:
        """``measured("effective_rate")``."""
        return self.measured("effective_rate")


def inverse_root(mean: Scalar) -> Scalar:
    """``mean^(-1/2)``, and 0 where the mean is 0 or no number.

    Example:
        >>> inverse_root(0.25), inverse_root(0.0)
        (2.0, 0.0)
    """
    # Where the mean is 0 there is nothing to be stable against; a NaN fails the comparison too,
    # and a gradient that overflowed its norm must not spread to parameters it does not belong to.
    if isinstance(mean, Tensor):
        return torch.where(mean > 0.0, mean.rsqrt(), 0.0)
    return float(mean) ** -0.5 if mean > 0.0 else 0.0


def inverse_square(rate: Scalar) -> Scalar:
    """``rate^(-2)``, the mean whose `inverse_root` the rate is; infinite where the rate is 0.

    Example:
        >>> inverse_square(2.0), inverse_square(0.0)
        (0.25, inf)
    """
    if isinstance(rate, Tensor):
        return rate**-2.0
    return float(rate) ** -2.0 if rate else math.inf


def over(a: Scalar, b: Scalar) -> Scalar:
    """``a / b``, and 0 where ``b`` is 0.

    Example:
        >>> over(1.0, 4.0), over(1.0, 0.0)
        (0.25, 0.0)
    """
    if isinstance(b, Tensor):
        return torch.where(b == 0.0, 0.0, a / b)
    return a / b if b else 0.0
