"""The steps of a schedule as a rule sees them, before any training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ..bases.noise import Base
from ..checks import Scalar, is_number
from ..rules.contract import DecayRule
from ..rules.step import Step
from .strength import Strength

__all__ = ["steps_along"]


def steps_along(
    owner: str,
    rule: DecayRule,
    lrs: Iterable[float],
    weight_decay: float | Strength | Iterable[float],
    *,
    peak_lr: float | None = None,
    measured: Mapping[str, float | Iterable[float]] | None = None,
) -> list[Step]:
    """One `Step` for each lr.

    Args:
        owner: who asks, for the errors of a strength.
        rule: whose coefficient a strength becomes.
        lrs: learning rate of every step.
        weight_decay: the rule's coefficient, a strength, or one coefficient for each step.
        peak_lr: the schedule's highest lr. Default: the largest of `lrs`.
        measured: numbers that a training step would measure, by their names in
            `halflife.rules.step.MEASURED`: one number, or one for each step.

    Raises:
        ValueError: if there is no step, or a number is out of range.
        TypeError: if the strength cannot be resolved without the optimizer.

    Example:
        >>> from halflife import Corrected
        >>> steps = steps_along("here", Corrected(), [0.5, 0.25], 0.5)
        >>> [step.lr / step.peak_lr for step in steps]
        [1.0, 0.5]
    """
    rates = _numbers("lrs", lrs)
    if not rates:
        raise ValueError("lrs=[]: must hold the lr of at least one step; pass a schedule.")
    if peak_lr is not None and not (is_number(peak_lr) and 0.0 < peak_lr < math.inf):
        raise ValueError(
            f"peak_lr={peak_lr!r}: must be a finite number > 0; pass the schedule's highest lr, or "
            "None for the highest of lrs."
        )
    peak = max(rates) if peak_lr is None else peak_lr
    given = measured or {}
    known = {name: _each(name, values, len(rates)) for name, values in given.items()}
    if isinstance(weight_decay, Strength):
        rate = given.get("effective_rate")
        base = Base(owner, peak, effective_rate=rate if is_number(rate) else None)  # type: ignore[arg-type]
        weight_decay = float(weight_decay.coefficient(rule, base))
    if isinstance(weight_decay, Iterable) and not isinstance(weight_decay, str):
        coefficients = _each("weight_decay", weight_decay, len(rates))
    elif is_number(weight_decay) and 0.0 <= weight_decay < math.inf:
        coefficients = [weight_decay] * len(rates)
    else:
        raise ValueError(
            f"weight_decay={weight_decay!r}: must be a finite number >= 0, or a strength; pass the "
            "rule's coefficient."
        )
    steps = []
    for t, (lr, coefficient) in enumerate(zip(rates, coefficients, strict=True)):
        here: dict[str, Scalar] = {name: values[t] for name, values in known.items()}
        steps.append(Step(lr, peak, coefficient, here or None, label="the schedule"))
    return steps


def _each(name: str, values: float | Iterable[float], steps: int) -> list[float]:
    """One number for each step."""
    if is_number(values):
        return [values] * steps  # type: ignore[list-item]
    numbers = _numbers(name, values)
    if len(numbers) != steps:
        raise ValueError(
            f"{name}: {len(numbers)} numbers for {steps} steps; pass one number, or one for each "
            "step."
        )
    return numbers


def _numbers(name: str, values: object) -> list[float]:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise ValueError(f"{name}={values!r}: must be a list of numbers; pass one for each step.")
    numbers = list(values)
    for value in numbers:
        if not (is_number(value) and 0.0 <= value < math.inf):
            raise ValueError(f"{name}: {value!r} in it must be a finite number >= 0; pass those.")
    return [float(value) for value in numbers]
