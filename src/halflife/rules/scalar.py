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

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ..checks import Scalar, require_nonnegative
from .contract import DecayRule, RuleName, as_rule
from .step import Step, inverse_root, over

__all__ = [
    "Adaptive",
    "Constant",
    "Corrected",
    "Decoupled",
    "Independent",
    "L2Regularization",
    "Proximal",
    "Stable",
]


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
    Loshchilov & Hutter 2019 and of Xie et al. 2023, who show that under a schedule no weights but 0
    stay stationary (Theorem 1). At the same fraction at the peak it removes more in all than their
    Eq. (2), `Decoupled`; their Figure 1 compares so. At ``lr = 0`` nothing is removed; libraries
    that have this decay (optax.adafactor, tensorflow_addons) remove it there too.

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

    Args:
        eps: added to the mean, ``e = 1/sqrt(mean of v_hat + eps)``, so that decay stays bounded as
            the gradients of full batches vanish: all-zero ones then decay by
            ``lr * weight_decay / sqrt(eps)``. Unit: that of the mean, gradient squared on Adam;
            where ``e`` is no mean of gradients (SGD, Adai) it is added to ``1/e^2`` all the same.
            Default 0, as in the authors' code; their section 4 adds "a small value" for full
            batches, such as Adam's own 1e-8.

    Raises:
        ValueError: if eps is not a finite number >= 0.

    Example:
        >>> Stable().fraction(Step(lr=1e-3, weight_decay=5e-4, measured={"effective_rate": 100.0}))
        5e-05
        >>> Stable(eps=3e-4).fraction(Step(1e-3, None, 5e-4, measured={"effective_rate": 100.0}))
        2.5e-05
    """

    name = "stable"
    requires = ("effective_rate",)
    eps: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what can be no addend of a mean of squares; keep it as plain data."""
        require_nonnegative("Stable: eps", self.eps, "pass 0, or a small value such as 1e-8")
        object.__setattr__(self, "eps", float(self.eps))

    def __repr__(self) -> str:
        return f"Stable(eps={self.eps})" if self.eps else "Stable()"

    def rate(self, step: Step) -> Scalar:
        """``lr * effective_rate``, with `eps` under the root of the latter."""
        if not self.eps:
            return step.lr * step.effective_rate
        return step.lr * inverse_root(step.measured("mean_square") + self.eps)


@dataclass(frozen=True)
class Adaptive(DecayRule):
    r"""``d = lr * weight_decay * ||g|| / ||w||``: decay that keeps pace with the gradient.

    Both norms are over the whole model: the gradients of this step, as one vector, and the weights
    that have one. Removes a vector of length ``lr * weight_decay * ||g||`` per step, whatever the
    weights' size: on SGD the coefficient is that length over the step's own. The half-life is known
    in training only; a fraction above 1 is clamped there, with one warning. Source: adaptive weight
    decay (AWD; Ghiasi, Shafahi & Ardekani, NeurIPS 2023), decoupled and without its smoothing.

    Example:
        >>> norms = {"gradient_norm": 0.5, "weight_norm": 50.0}
        >>> Adaptive().fraction(Step(lr=0.1, weight_decay=0.02, measured=norms))
        2e-05
    """

    name = "adaptive"
    requires = ("gradient_norm", "weight_norm")

    def rate(self, step: Step) -> Scalar:
        """``lr * ||g|| / ||w||``."""
        return step.lr * over(step.measured("gradient_norm"), step.measured("weight_norm"))


@dataclass(frozen=True)
class L2Regularization(DecayRule):
    r"""``g + weight_decay * w`` in place of the gradient; removes no fraction by itself.

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
    removes_fraction: ClassVar[bool] = False

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
    al. 2022) and ProxAdam ("Decay no more", 2023), both with ``rule=Independent()``.

    Args:
        rule: the rule whose fraction is bent. Default: ``Decoupled()``.

    Example:
        >>> Proximal().fraction(Step(lr=1.0, weight_decay=1.0))
        0.5
    """

    name = "proximal"
    rule: DecayRule = Decoupled()

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(self, rule: DecayRule | RuleName = "decoupled") -> None: ...

    def __post_init__(self) -> None:
        """Accept the inner rule by name; refuse one that has no fraction."""
        object.__setattr__(self, "rule", as_rule(self.rule))
        if not self.rule.uniform:
            raise ValueError(
                f"rule={self.rule!r}: Proximal shrinks by the inner rule's fraction, and this rule "
                "is not one of a fraction alone; use Proximal(Decoupled()), or "
                "Proximal(Independent()) for AdamProx."
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
