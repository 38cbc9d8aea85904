r"""Which objective's stationary points a rule keeps, and whether a schedule moves them.

A step ``w <- w - d w - s (u(g + k w))`` stands still where the gradient g of the loss L does away
with the decay: where, for SGD, ``grad f_t(w) = 0`` of

    f_t(w) = L(w) + (c_t / 2) |w|^2        c_t = d_t / s_t + k_t

with the rule's fraction d, step size s and multiple k of the weights in the gradient. A point is
*strongly stationary* for a training if every step of it leaves the point where it is, *weakly* if
some steps do (Definition 1). So stationary points other than 0 are strong if c_t is the same at
every step, and weak otherwise.

For a preconditioned step the penalty is ``(d_t / 2 s_t) |w|^2_D`` in the metric D of the step
(`halflife.theory.dynamic_loss`): a c_t that stands still is then necessary, and sufficient if D
does too. The paper says so of AdamW: its minima are unstable. The part k_t stays in the plain norm.

Source: Xie et al., "On the overlooked pitfalls of weight decay", NeurIPS 2023, Definition 1, the
objectives below it and Theorem 1, which write penalties without the 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..checks import require, require_count, require_nonnegative
from ..rules.contract import DecayRule, RuleName, as_rule
from ..rules.wish import wish_of
from .along import steps_along
from .strength import Strength

__all__ = ["Stationarity", "stationarity_of"]

_ROUNDING = 1e-9  # relative: a fraction over a step size is two roundings or so


@dataclass(frozen=True)
class Stationarity:
    """The objectives f_t of a training, by the coefficient of their penalty.

    Args:
        coefficients: c_t of every step; unit: loss / weight^2. None where a step changes nothing,
            as at lr 0: there every point stays. Infinite where a step decays and does not descend:
            there 0 alone stays.
    """

    coefficients: tuple[float | None, ...]

    @property
    def strong(self) -> bool:
        """Whether one f is that of every step, so that its stationary points are strong."""
        known = [c for c in self.coefficients if c is not None]
        return all(_same(c, known[0]) for c in known)

    @property
    def kind(self) -> Literal["strong", "weak"]:
        """What the stationary points of an f_t, other than 0, are for this training."""
        return "strong" if self.strong else "weak"

    def kept_at(self, step: int) -> tuple[int, ...]:
        """The steps that leave a stationary point of f_step, other than 0, where it is.

        Args:
            step: t, from 0.

        Raises:
            ValueError: if there is no such step, or every point stays there.
        """
        c = self._coefficient("kept_at", step)
        return tuple(
            t for t, other in enumerate(self.coefficients) if other is None or _same(other, c)
        )

    def gradient_norm(self, step: int, later: int, weight_norm: float) -> float:
        """|grad f_later(w)| where grad f_step(w) = 0: ``|c_later - c_step| |w|`` (Theorem 1).

        Args:
            step: t, at whose objective w is stationary.
            later: another step.
            weight_norm: |w|.

        Raises:
            ValueError: if there is no such step, every point stays there, or weight_norm is
                negative.
        """
        require_nonnegative("gradient_norm: weight_norm", weight_norm, "pass |w|")
        first = self._coefficient("gradient_norm", step)
        second = self._coefficient("gradient_norm", later)
        return 0.0 if _same(first, second) else abs(second - first) * weight_norm

    def _coefficient(self, owner: str, step: int) -> float:
        require_count(f"{owner}: step", step, "pass a step of the schedule", minimum=0)
        most = len(self.coefficients) - 1
        require(step <= most, f"{owner}: step", f"at most {most}", step, "pass one of the schedule")
        c = self.coefficients[step]
        remedy = "every point stays there; choose a step with an lr"
        require(c is not None, f"{owner}: step", "one that changes something", step, remedy)
        return c  # type: ignore[return-value]


def stationarity_of(
    rule: DecayRule | RuleName,
    lrs: Iterable[float],
    weight_decay: float | Strength | Iterable[float],
    *,
    peak_lr: float | None = None,
    measured: Mapping[str, float | Iterable[float]] | None = None,
) -> Stationarity:
    """Whether a rule's stationary points survive a schedule (Definition 1), asked of the rule.

    Args:
        rule: a rule that removes a fraction or joins the gradient, or its name. Maps such as
            Cautious are refused: their points are those of no such objective.
        lrs: learning rate of every step.
        weight_decay: the rule's coefficient in its unit, a strength, or one coefficient a step.
        peak_lr: the schedule's highest lr. Default: the largest of `lrs`.
        measured: for a rule that follows the gradients, what training would measure, as
            ``{"effective_rate": e}`` for `Stable`: one number, or one for each step.

    Raises:
        ValueError: for a map, for what a rule follows and `measured` lacks, or if a number is out
            of range.
        TypeError: if rule is none, or the strength cannot be resolved without the optimizer.

    Example:
        >>> lrs = [0.5, 0.25, 0.125]
        >>> stationarity_of("decoupled", lrs, 0.5).coefficients
        (0.5, 0.5, 0.5)
        >>> hanson_pratt = stationarity_of("constant", lrs, 0.25)
        >>> hanson_pratt.coefficients, hanson_pratt.kind
        ((0.5, 1.0, 2.0), 'weak')
        >>> hanson_pratt.gradient_norm(0, 1, weight_norm=2.0)
        1.0
    """
    rule = as_rule(rule)
    if not (rule.uniform or rule.joins_gradient):
        raise ValueError(
            f"rule={rule!r}: must remove a fraction or join the gradient, to have an objective "
            "L + c/2 |w|^2; pass one of the scalar rules, such as the map's inner rule."
        )
    missing = [name for name in rule.needs if name not in (measured or {})]
    if missing:
        raise ValueError(
            f"rule={rule!r}: follows {missing[0]}, known in a training step only; pass "
            f"measured={{{missing[0]!r}: ...}}, one number or one for each step."
        )
    steps = steps_along(
        "stationarity_of", rule, lrs, weight_decay, peak_lr=peak_lr, measured=measured
    )
    coefficients: list[float | None] = []
    for step in steps:
        wish = wish_of(rule, step)
        amount, size, joined = float(wish.amount), float(wish.size), float(wish.gradient)
        if size > 0.0:
            coefficients.append(amount / size + joined)
        else:
            coefficients.append(math.inf if amount > 0.0 else None)
    return Stationarity(tuple(coefficients))


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_ROUNDING)
