"""What a rule wants of one group at one step: the one place where a rule is asked.

Whoever carries a rule out (the mixin around a native step, a compiled kernel, an ensemble of
models, the conformance suite) asks here and adds no condition of its own:

    w <- (1 - amount) w - size u        u made of the gradient g + gradient * w

For a map, ``amount`` is what the map is handed: a fraction, or a threshold.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..checks import Scalar
from .contract import DecayRule
from .step import Step

__all__ = ["Wish", "check_fraction", "never", "wish_of"]


class Wish(NamedTuple):
    """A rule's part of one group's step; numbers, or tensors that broadcast.

    Attributes:
        amount: share of each weight to remove, bounded by 1; or a threshold, in units of the
            weights, where the rule removes no fraction.
        size: of the step, ``s``.
        gradient: multiple of the weights that joins the gradient.
        rate: the amount per unit of ``weight_decay``, before any bound.
    """

    amount: Scalar
    size: Scalar
    gradient: Scalar
    rate: Scalar


def wish_of(rule: DecayRule, step: Step) -> Wish:
    """What a rule wants of a step.

    Raises:
        ValueError: if it would remove a whole weight or more, and that is the user's doing; where
            the fraction follows the gradients, 1 bounds it.

    Example:
        >>> from halflife import Decoupled
        >>> wish_of(Decoupled(), Step(lr=0.5, weight_decay=0.25))
        Wish(amount=0.125, size=0.5, gradient=0.0, rate=0.5)
    """
    lr, rate, scale = step.lr, rule.rate(step), rule.direction_scale(step)
    # A number that is 0 or 1 spares an operation on the device where the other factor lives.
    amount = rate if never(rate) else step.weight_decay * rate
    if rule.removes_fraction:
        if isinstance(amount, Tensor):
            amount = amount.clamp(max=1.0) if rule.follows_gradients else amount
        elif amount >= 1.0:
            if not rule.follows_gradients:
                check_fraction(rule, amount, step)
            amount = 1.0
    size = lr if not isinstance(scale, Tensor) and scale == 1.0 else lr * scale
    return Wish(amount, size, rule.gradient_coefficient(step), rate)


def check_fraction(rule: DecayRule, fraction: Scalar, step: Step) -> None:
    """Refuse a step that would remove a whole weight or more.

    Raises:
        ValueError: if the fraction is 1 or more, which would flip the sign of every weight.
    """
    if not isinstance(fraction, Tensor) and fraction >= 1.0:
        most = rule.coefficient(1.0, step)
        raise ValueError(
            f"weight_decay={step.weight_decay} of {step.label} at lr={step.lr}: {rule!r} would "
            f"remove the fraction {fraction:.6g} of each weight in a step, and 1 or more flips its "
            f"sign; keep weight_decay below {most:.6g} at this lr."
        )


def never(value: Scalar) -> bool:
    """Whether a number is 0 whatever the step: a tensor may be another one next time.

    Example:
        >>> import torch
        >>> never(0.0), never(torch.tensor(0.0))
        (True, False)
    """
    return not isinstance(value, Tensor) and value == 0.0
