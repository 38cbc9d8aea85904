"""Which updates a rule's final weights are made of, from the rule and a schedule alone."""

from __future__ import annotations

from collections.abc import Iterable

from ..rules.contract import DecayRule, RuleName, as_rule
from ..theory.averaging import Averaging, averaging
from .along import steps_along
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
    if not rule.uniform:
        raise ValueError(
            f"rule={rule!r}: must remove a fraction known without gradients and weights; pass one "
            "of the scalar rules, such as the map's inner rule."
        )
    measured = None if effective_rate is None else {"effective_rate": effective_rate}
    steps = steps_along("averaging_of", rule, lrs, weight_decay, peak_lr=peak_lr, measured=measured)
    fractions = [float(rule.fraction(step)) for step in steps]
    sizes = [float(step.lr * rule.direction_scale(step)) for step in steps]
    return averaging(fractions, sizes)
