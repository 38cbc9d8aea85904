r"""Decay rules: how much of each weight is removed at one step.

Every rule here is the same update with two scalars of its own,

    w <- a w - s u        a = 1 - d,    d = weight_decay * rate,    s = lr * direction_scale

where ``u`` is the base optimizer's update direction and ``d`` the *fraction* of the weight removed
at this step. The fraction is the common currency: dimensionless, and comparable between
conventions whose coefficients are not. The base optimizer never changes:

    AdamW as in torch            Adam's direction + Decoupled      rate = lr
    AdamW as in its paper        Adam's direction + Independent    rate = lr / peak_lr
    SGD with "weight_decay"      SGD's direction  + L2Regularization (no fraction: wd*w joins g)

A rule is arithmetic on scalars. The scalars are Python floats, or tensors that broadcast, so that
one rule object drives one model, a sharded model, or a stacked ensemble of models.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from .step import Scalar, Step

__all__ = [
    "Constant",
    "Corrected",
    "DecayRule",
    "Decoupled",
    "Independent",
    "L2Regularization",
    "Proximal",
    "Scalar",
    "Stable",
    "Step",
    "as_rule",
    "rule_names",
]


class DecayRule(ABC):
    """One way to decide which fraction of each weight a step removes.

    A subclass is a frozen dataclass with a ``name`` (its key in checkpoints) and, usually, one
    expression: :meth:`rate`. Defining it registers it, so that ``decay="name"`` and
    ``load_state_dict`` find it.

    Example:
        >>> @dataclass(frozen=True)
        ... class HalfDecoupled(DecayRule):
        ...     name = "half_decoupled"
        ...     def rate(self, step):
        ...         return 0.5 * step.lr
        >>> as_rule("half_decoupled").fraction(Step(lr=0.5, weight_decay=0.5))
        0.125
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    _registry: ClassVar[dict[str, type[DecayRule]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the rule under its name."""
        super().__init_subclass__(**kwargs)
        if name := cls.__dict__.get("name"):
            cls._registry[name] = cls

    @property
    def needs(self) -> tuple[str, ...]:
        """What the base optimizer must declare; see `halflife.facts`."""
        return self.requires

    @abstractmethod
    def rate(self, step: Step) -> Scalar:
        """Fraction removed per unit of ``weight_decay``: ``d = weight_decay * rate``."""

    def fraction(self, step: Step) -> Scalar:
        """Fraction ``d`` of each weight removed at this step (dimensionless)."""
        return step.weight_decay * self.rate(step)

    def coefficient(self, fraction: Scalar, step: Step) -> Scalar:
        """The ``weight_decay`` that removes ``fraction`` at this step: inverse of `fraction`.

        Raises:
            ValueError: if no coefficient does (the rate is zero at this step).
        """
        rate = self.rate(step)
        if not isinstance(rate, Tensor) and rate == 0.0:
            raise ValueError(
                f"fraction={fraction}: {self!r} removes nothing at lr={step.lr}, so no "
                "weight_decay gives that fraction; ask at the peak lr, or pass a number as "
                "weight_decay."
            )
        return fraction / rate

    def direction_scale(self, step: Step) -> Scalar:
        """``s / lr``: what the rule does to the size of the base optimizer's own step."""
        return 1.0

    def gradient_coefficient(self, step: Step) -> Scalar:
        """Multiple of the weights added to the gradient before the base optimizer sees it."""
        return 0.0

    def as_dict(self) -> dict[str, Any]:
        """The rule as plain data, as ``state_dict`` stores it.

        Example:
            >>> Proximal(Independent()).as_dict()
            {'name': 'proximal', 'rule': {'name': 'independent'}}
        """
        values = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return {"name": self.name} | {
            key: value.as_dict() if isinstance(value, DecayRule) else value for key, value in values
        }


@dataclass(frozen=True)
class Decoupled(DecayRule):
    r"""``d = lr * weight_decay``: AdamW as torch, optax, Keras and most libraries have it.

    Coefficient in units of 1/lr. Source: Loshchilov & Hutter 2019 with the lr folded in, as in
    ``torch.optim.AdamW``; also called "coupled" by those who compare it with `Independent`.

    Example:
        >>> Decoupled().fraction(Step(lr=1e-3, weight_decay=0.1))
        0.0001
    """

    name = "decoupled"

    def rate(self, step: Step) -> Scalar:
        """``lr``."""
        return step.lr


@dataclass(frozen=True)
class Independent(DecayRule):
    r"""``d = (lr / peak_lr) * weight_decay``: AdamW and SGDW as their paper defines them.

    The schedule multiplier scales the decay, the learning rate itself does not. Coefficient:
    fraction removed per step at the peak (dimensionless). Source: Loshchilov & Hutter 2019,
    Algorithms 1 and 2; also called "fully decoupled" (optimi), ``DecoupledAdamW`` (Composer).

    Example:
        >>> Independent().fraction(Step(lr=5e-4, peak_lr=1e-3, weight_decay=1e-4))
        5e-05
    """

    name = "independent"

    def rate(self, step: Step) -> Scalar:
        """``lr / peak_lr``."""
        return step.lr / step.peak_lr


@dataclass(frozen=True)
class Constant(DecayRule):
    r"""``d = weight_decay`` while ``lr > 0``: the original weight decay, blind to the schedule.

    Coefficient: fraction removed per step (dimensionless). Source: Hanson & Pratt 1988, Eq. (1) of
    Loshchilov & Hutter 2019 and of Xie et al. 2023, who show that it pulls the weights to zero
    once the schedule has shrunk the steps that hold them up. At ``lr = 0`` nothing is removed.

    Example:
        >>> Constant().fraction(Step(lr=1e-6, weight_decay=1e-4))
        0.0001
    """

    name = "constant"

    def rate(self, step: Step) -> Scalar:
        """1 while ``lr > 0``."""
        lr = step.lr
        return (lr > 0).to(lr.dtype) if isinstance(lr, Tensor) else (lr > 0) * 1.0


@dataclass(frozen=True)
class Corrected(DecayRule):
    r"""``d = (lr^2 / peak_lr) * weight_decay``: keeps the equilibrium weight norm over a schedule.

    Coefficient in units of 1/lr, equal to `Decoupled` at the peak. Since the equilibrium RMS of
    AdamW is sqrt(lr / (2 weight_decay)), a coefficient proportional to lr holds it still: this is
    ``TargetRMS`` under a schedule. Source: Defazio 2025 (AdamC), there for layers before a
    normalisation; timm's ``corrected_weight_decay``.

    Example:
        >>> Corrected().fraction(Step(lr=5e-4, peak_lr=1e-3, weight_decay=0.1))
        2.5e-05
    """

    name = "corrected"

    def rate(self, step: Step) -> Scalar:
        """``lr * (lr / peak_lr)``."""
        return step.lr * (step.lr / step.peak_lr)


@dataclass(frozen=True)
class Stable(DecayRule):
    r"""``d = lr * weight_decay * e``, with ``e`` the base optimizer's effective rate.

    For Adam ``e = 1/sqrt(mean of v_hat)``, one mean over the whole model (all groups), this step's
    gradient included; for SGD ``e = (1 - dampening)/(1 - momentum)``. Coefficient: in units of
    gradient RMS / lr on Adam, so it does not transfer between losses or model sizes. Without
    gradients, or with all-zero ones, ``e`` is 0 and nothing decays; a fraction above 1 is clamped
    there with one warning. Source: Xie et al. 2023 (SWD): AdamS, SGDS.

    Example:
        >>> Stable().fraction(Step(lr=1e-3, weight_decay=5e-4, effective_rate=lambda: 100.0))
        5e-05
    """

    name = "stable"
    requires = ("effective_rate",)

    def rate(self, step: Step) -> Scalar:
        """``lr * effective_rate``."""
        return step.lr * step.effective_rate


@dataclass(frozen=True)
class L2Regularization(DecayRule):
    r"""Adds ``weight_decay * w`` to the gradient; removes no fraction by itself.

    The gradient of ``(weight_decay / 2) ||w||^2``. On plain SGD it equals `Decoupled`; with
    momentum it accumulates to ``lr * weight_decay / (1 - momentum)``; on Adam it is divided by
    sqrt(v) like any gradient and is no weight decay at all (Loshchilov & Hutter 2019, Prop. 2).
    Coefficient in units of loss / weight^2. This is what ``weight_decay`` means in
    ``torch.optim.SGD`` and ``torch.optim.Adam``.

    Example:
        >>> rule, step = L2Regularization(), Step(lr=0.1, weight_decay=5e-4)
        >>> rule.fraction(step), rule.gradient_coefficient(step)
        (0.0, 0.0005)
    """

    name = "l2"

    def rate(self, step: Step) -> Scalar:
        """0: the fraction depends on what the base optimizer makes of the gradient."""
        return 0.0

    def coefficient(self, fraction: Scalar, step: Step) -> Scalar:
        """Undefined.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"fraction={fraction}: L2Regularization adds weight_decay*w to the gradient and has no "
            "fraction of its own, so a strength cannot be turned into its coefficient; pass a "
            "number as weight_decay, or choose a rule such as decay='decoupled'."
        )

    def gradient_coefficient(self, step: Step) -> Scalar:
        """``weight_decay``."""
        return step.weight_decay


@dataclass(frozen=True)
class Proximal(DecayRule):
    r"""``w <- (w - lr u) / (1 + d)``: shrink the result of the step, by the inner rule's ``d``.

    The proximal step of the squared norm. Removes ``d/(1+d)``, never 1 or more, and scales the
    direction by ``1/(1+d)``, so that ``Proximal(Decoupled())`` at (lr, wd) is `Decoupled` at
    ``(lr / (1 + lr wd), wd)`` exactly. Coefficient: the inner rule's. Source: AdamProx (Zhuang et
    al. 2022) with ``rule=Independent()``, ProxAdam ("Decay no more", 2023).

    Args:
        rule: the rule whose fraction is bent. Default: ``Decoupled()``.

    Example:
        >>> Proximal().fraction(Step(lr=1.0, weight_decay=1.0))
        0.5
    """

    name = "proximal"
    rule: DecayRule = Decoupled()

    def __post_init__(self) -> None:
        """Accept the inner rule by name; refuse one that has no fraction."""
        object.__setattr__(self, "rule", as_rule(self.rule))
        if isinstance(self.rule, L2Regularization):
            raise ValueError(
                "rule=L2Regularization(): Proximal shrinks by the inner rule's fraction and L2 has "
                "none; use Proximal(Decoupled()), or Proximal(Independent()) for AdamProx."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The inner rule's."""
        return self.rule.needs

    def rate(self, step: Step) -> Scalar:
        """The inner rule's rate over ``1 + d``."""
        return self.rule.rate(step) * self._shrinkage(step)

    def coefficient(self, fraction: Scalar, step: Step) -> Scalar:
        """The inner rule's coefficient for ``fraction / (1 - fraction)``."""
        return self.rule.coefficient(fraction / (1.0 - fraction), step)

    def direction_scale(self, step: Step) -> Scalar:
        """``1 / (1 + d)`` times the inner rule's own scale."""
        return self.rule.direction_scale(step) * self._shrinkage(step)

    def _shrinkage(self, step: Step) -> Scalar:
        return 1.0 / (1.0 + self.rule.fraction(step))


def rule_names() -> list[str]:
    """Names that ``decay=`` accepts, sorted.

    Example:
        >>> "independent" in rule_names()
        True
    """
    return sorted(DecayRule._registry)


def as_rule(rule: DecayRule | str | dict[str, Any]) -> DecayRule:
    """The rule meant by an object, a name, or the plain data of `DecayRule.as_dict`.

    Raises:
        ValueError: for an unknown name, naming the nearest known one.
        TypeError: for anything that is no rule.

    Example:
        >>> as_rule("corrected")
        Corrected()
    """
    if isinstance(rule, DecayRule):
        return rule
    if isinstance(rule, str):
        rule = {"name": rule}
    if not isinstance(rule, dict) or "name" not in rule:
        hint = f"; write {rule.__name__}()" if isinstance(rule, type) else ""
        raise TypeError(
            f"decay={rule!r}: must be a DecayRule, one of the names {rule_names()}, or None{hint}."
        )
    name, values = rule["name"], {k: v for k, v in rule.items() if k != "name"}
    if name not in DecayRule._registry:
        near = difflib.get_close_matches(str(name), rule_names(), n=1)
        raise ValueError(
            f"decay={name!r}: unknown rule{f', did you mean {near[0]!r}' if near else ''}; the "
            f"known ones are {', '.join(rule_names())} (a rule of your own must be imported first)."
        )
    nested = {
        k: as_rule(v) if isinstance(v, dict) and "name" in v else v for k, v in values.items()
    }
    return DecayRule._registry[name](**nested)
