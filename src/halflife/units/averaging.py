"""Which updates a rule's final weights are made of, from the rule and a schedule alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..bases.noise import Base
from ..checks import is_number
from ..rules.contract import DecayRule, RuleName, as_rule
from ..rules.step import Step
from ..theory.averaging import Averaging, averaging
from .strength import Strength

__all__ = ["averaging_of"]


def averaging_of(
    rule: DecayRule | RuleName,
    lrs: Iterable[float],
    weight_decay: float | Strength,
    *,
    peak_lr: float | None = None,
    effective_rate: float | Iterable[float] | None = None,
) -> Averaging:
    """What the weights average over, under a rule and a schedule: no training is needed.

    ``w_T = (prod a_t) w_0 - sum_i c_i u_i`` with ``c_i = s_i prod_{j>i} a_j``, for the ``a_t`` and
    ``s_t`` of the rule; see `halflife.theory.averaging`.

    Args:
        rule: a rule that removes a fraction, or its name. Maps such as Cautious are refused.
        lrs: learning rate of every step.
        weight_decay: the rule's coefficient, in its unit, or a strength.
        peak_lr: the schedule's highest lr. Default: the largest of `lrs`.
        effective_rate: for `Stable`, that of the base optimizer: one number, or one per step.

    Raises:
        ValueError: if the rule has no fraction, or an lr, another argument or a fraction that
            follows from them is out of range.
        TypeError: if rule is none, or the strength cannot be resolved without the optimizer.

    Example:
        >>> from halflife.schedules import cosine
        >>> lrs = [1e-3 * cosine(1000)(t) for t in range(1000)]
        >>> constant, scheduled = (averaging_of("decoupled", x, 10.0) for x in ([1e-3] * 1000, lrs))
        >>> round(constant.effective_share, 2), round(scheduled.effective_share, 2)
        (0.2, 0.64)
    """
    rule = as_rule(rule)
    rates = _numbers("lrs", lrs)
    if not rule.uniform:
        raise ValueError(
            f"rule={rule!r}: must remove a fraction known without gradients and weights; pass one "
            "of the scalar rules, such as the map's inner rule."
        )
    if not rates:
        raise ValueError("lrs=[]: must hold the lr of at least one step; pass a schedule.")
    if peak_lr is not None and not (is_number(peak_lr) and 0.0 < peak_lr < math.inf):
        raise ValueError(
            f"peak_lr={peak_lr!r}: must be a finite number > 0; pass the schedule's highest lr, or "
            "None for the highest of lrs."
        )
    peak = max(rates) if peak_lr is None else peak_lr
    factors: list[float | None]
    if effective_rate is None or is_number(effective_rate):
        factors = [effective_rate] * len(rates)  # type: ignore[list-item]
    else:
        factors = [*_numbers("effective_rate", effective_rate)]
        if len(factors) != len(rates):
            raise ValueError(
                f"effective_rate: {len(factors)} numbers for {len(rates)} steps; pass one number, "
                "or one for each step."
            )
    if isinstance(weight_decay, Strength):
        known = effective_rate if is_number(effective_rate) else None
        base = Base("averaging_of", peak, effective_rate=known)  # type: ignore[arg-type]
        weight_decay = float(weight_decay.coefficient(rule, base))
    if not is_number(weight_decay) or not 0.0 <= weight_decay < math.inf:
        raise ValueError(
            f"weight_decay={weight_decay!r}: must be a finite number >= 0, or a strength; pass the "
            "rule's coefficient."
        )
    fractions, sizes = [], []
    for lr, factor in zip(rates, factors, strict=True):
        known_rate = None if factor is None else {"effective_rate": factor}
        step = Step(lr, peak, weight_decay, known_rate, label="the schedule")
        fractions.append(float(rule.fraction(step)))
        sizes.append(lr * float(rule.direction_scale(step)))
    return averaging(fractions, sizes)


def _numbers(name: str, values: object) -> list[float]:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise ValueError(f"{name}={values!r}: must be a list of numbers; pass one for each step.")
    numbers = list(values)
    for value in numbers:
        if not (is_number(value) and 0.0 <= value < math.inf):
            raise ValueError(f"{name}: {value!r} in it must be a finite number >= 0; pass those.")
    return [float(value) for value in numbers]
