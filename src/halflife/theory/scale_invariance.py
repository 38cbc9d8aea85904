r"""Weights whose scale the loss does not see: every layer before a normalisation.

If ``F(c w) = F(w)`` then the gradient is orthogonal to w and ``|grad F(w)| = g / |w|``, with g the
gradient at unit norm. Decay cannot regularise such a function. It sets the size of the steps:

- `Equilibrium`: SGD settles at ``|w|^4 ~ lr g^2 / (2 weight_decay (1 - momentum))``, turning by
  ``sqrt(2 lr weight_decay / (1 + momentum))`` a step, whatever g is.
- `GrowingRate`: SGD with decay walks through the same functions as SGD without decay whose lr
  grows exponentially. Exact, at every step.
- `norm_exponent`: how weights and gradients at the end of a schedule follow the lr, by the rule.

Sources: van Laarhoven, "L2 regularization versus batch and weight normalization", 2017; Li & Arora,
"An exponential learning rate schedule for deep learning", ICLR 2020; Wan et al., "Spherical motion
dynamics", 2021; Li, Lyu & Arora, "Reconciling modern deep learning with traditional optimization
analyses", NeurIPS 2020. The exponents are derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..checks import (
    require,
    require_finite,
    require_momentum,
    require_nonnegative,
    require_positive,
)
from . import equilibrium

__all__ = ["Equilibrium", "GrowingRate", "norm_exponent"]


@dataclass(frozen=True)
class _SGD:
    lr: float
    weight_decay: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        require_positive(f"{name}: lr", self.lr, "pass a step size")
        require_positive(f"{name}: weight_decay", self.weight_decay, "without decay w only grows")
        require_momentum(f"{name}: momentum", self.momentum)
        ok, remedy = self.intrinsic_lr < 1, "lower one of them"
        require(ok, f"{name}: lr * weight_decay", "< 1", self.intrinsic_lr, remedy)

    @property
    def intrinsic_lr(self) -> float:
        """``lr weight_decay``: all that the equilibrium of the function depends on."""
        return self.lr * self.weight_decay


@dataclass(frozen=True)
class Equilibrium(_SGD):
    r"""Where SGD settles on scale-invariant weights, with gradients that are pure noise.

    With L2 the weights are an autoregression, ``w'' = (1 + b - lr wd) w' - b w - lr g``, whose
    variance and correlation from step to step are known:

        |w|^4 = lr g^2 / (wd (1 - b) (2 - lr wd / (1 + b)))     cos(angle) = 1 - lr wd / (1 + b)

    Decoupled decay is that of `halflife.theory.equilibrium`, with updates of size ``g / |w|``.

    Args:
        lr: learning rate.
        weight_decay: as in ``torch.optim.SGD``. Unit: 1/lr.
        momentum: ``b``. Default 0 (torch's).
        l2: decay is in the gradient, as in torch and by default; else it is decoupled. Without
            momentum it is the same.

    Raises:
        ValueError: if lr, weight_decay or their product, or momentum is out of range.

    Example:
        >>> settled = Equilibrium(lr=0.1, weight_decay=5e-4, momentum=0.9)
        >>> round(settled.norm(gradient_norm=1.0), 3), round(settled.rotation, 5)
        (5.623, 0.00725)
    """

    l2: bool = True

    def norm(self, gradient_norm: float) -> float:
        """|w| at the equilibrium.

        Args:
            gradient_norm: g, root mean square of the minibatch gradient's norm at ``|w| = 1``, that
                is of ``|w| |gradient|`` anywhere.

        Raises:
            ValueError: if gradient_norm is negative.
        """
        remedy = "pass |w| times the norm of the gradient"
        require_nonnegative("Equilibrium.norm: gradient_norm", gradient_norm, remedy)
        if self.l2:
            share = 2.0 - self.intrinsic_lr / (1.0 + self.momentum)
            fourth = self.lr / (self.weight_decay * (1.0 - self.momentum) * share)
            return math.sqrt(math.sqrt(fourth) * gradient_norm)
        buffer = gradient_norm / math.sqrt(1.0 - self.momentum**2)  # that of the sum of b^k g
        # With updates of size buffer / |w| the weights settle at rms / |w|, so at its root.
        return math.sqrt(equilibrium.rms(self.intrinsic_lr, self.lr, self.momentum, buffer))

    @property
    def rotation(self) -> float:
        """Angle between the weights of successive steps, in radians."""
        if not self.l2:
            return equilibrium.rotation(self.intrinsic_lr, self.momentum)
        # arccos(1 - x), without cancellation
        return 2.0 * math.asin(math.sqrt(0.5 * self.intrinsic_lr / (1.0 + self.momentum)))

    @property
    def cosine(self) -> float:
        """Cosine between the weights and torch's momentum buffer, with L2 its penalty included."""
        if not self.l2:
            return equilibrium.update_cosine(self.intrinsic_lr, self.momentum)
        return math.sqrt(0.5 * self.intrinsic_lr / (1.0 + self.momentum))

    @property
    def relaxation_time(self) -> float:
        """Steps in which |w| comes closer to its equilibrium by a factor e, near it.

        About ``(1 - b) / (4 lr weight_decay)`` with L2: half that of weights whose updates do not
        grow as the weights shrink.
        """
        removed = self.intrinsic_lr / (1.0 - self.momentum) if self.l2 else self.intrinsic_lr
        return 0.25 / removed


@dataclass(frozen=True)
class GrowingRate(_SGD):
    r"""SGD with decay as SGD without decay, with an lr that grows (Li & Arora).

    On scale-invariant weights, ``torch.optim.SGD(lr, momentum, weight_decay)`` is at every step a
    multiple, ``r^t``, of the weights of ``torch.optim.SGD(lr_t, momentum)`` with

        lr_t = lr r^(-2t-1)        r the larger root of  x^2 - (1 + b - lr wd) x + b = 0

    Without momentum ``r = 1 - lr wd``. With momentum, torch's buffer must start as
    `initial_buffer` in place of zero. Decay of L2 form, as in torch.

    Args:
        lr: learning rate.
        weight_decay: as in ``torch.optim.SGD``. Unit: 1/lr.
        momentum: ``b``. Default 0 (torch's).

    Raises:
        ValueError: as for `Equilibrium`, or if ``lr weight_decay`` is above ``(1 - sqrt(b))^2``,
            where the roots are complex: weights swing through zero, and no lr does that.

    Example:
        >>> rate = GrowingRate(lr=0.5, weight_decay=0.5)
        >>> rate.root, rate.lr_at(0), round(rate.lr_at(1), 4)
        (0.75, 0.6666666666666666, 1.1852)
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        most = (1.0 - math.sqrt(self.momentum)) ** 2
        ok, name = self.intrinsic_lr <= most, "GrowingRate: lr * weight_decay"
        require(ok, name, f"<= (1 - sqrt(momentum))^2 = {most:g}", self.intrinsic_lr, "lower it")

    @property
    def root(self) -> float:
        """``r``, the multiple by which the two runs' weights come apart per step, in (0, 1)."""
        total = 1.0 + self.momentum - self.intrinsic_lr
        return 0.5 * (total + math.sqrt(max(0.0, total**2 - 4.0 * self.momentum)))

    def lr_at(self, step: int) -> float:
        """``lr r^(-2t-1)``, the lr of the run without decay at step t, from 0."""
        return self.lr * self.root ** (-2 * step - 1)

    def scale(self, step: int) -> float:
        """``r^t``: the weights with decay over those without, after t steps."""
        return self.root**step

    def initial_buffer(self, weights: Tensor) -> Tensor:
        """Momentum buffer with which the run without decay starts; zero without momentum.

        It takes the place of the buffer *before* the first step, so torch, which sets the first
        buffer to the first gradient, must be given it as state.

        Args:
            weights: the initial weights.
        """
        if self.momentum == 0.0:
            return weights.new_zeros(weights.shape)
        return weights * (-(1.0 - self.root) / (self.lr * self.root))


def norm_exponent(
    *, lr_power: float = 0.0, gradient_power: float = 0.0, normalized: bool = True
) -> float:
    r"""``p`` in ``|w| ~ lr^p`` and ``|gradient| ~ lr^-p`` at equilibrium, by the rule.

    A rule that removes ``lr weight_decay lr^c / |gradient|^s`` per step settles where
    ``|w|^2 ~ lr^(1-c) |gradient|^s`` if updates have a fixed size, as Adam's, or
    ``|w|^2 ~ lr^(1-c) |gradient|^(s+2)`` if it is the gradients'. With ``|gradient| ~ 1/|w|``:

        p = (1 - c) / (2 + s)   Adam          p = (1 - c) / (4 + s)   SGD

    So on Adam it is 1/2 for `Decoupled`, 1/3 for `Stable` (the SWD of Xie et al., s = 1), 0 for
    `Corrected` (AdamC, c = 1) and 1 for `Constant` (c = -1). At the end of a schedule gradients
    grow by the lr's fall to the power p, if the weights have time to follow.

    Args:
        lr_power: c.
        gradient_power: s.
        normalized: updates have a fixed size; else that of the gradients.

    Raises:
        ValueError: if the denominator is not positive: then there is no equilibrium.

    Example:
        >>> norm_exponent(), norm_exponent(lr_power=1), norm_exponent(normalized=False)
        (0.5, 0.0, 0.25)
    """
    require_finite("norm_exponent: lr_power", lr_power, "pass the c of lr^c")
    require_finite("norm_exponent: gradient_power", gradient_power, "pass the s of |gradient|^-s")
    denominator = (2.0 if normalized else 4.0) + gradient_power
    name, remedy = "norm_exponent: gradient_power", "decay that grows so fast has no equilibrium"
    require(denominator > 0, name, "above -2 (SGD: -4)", gradient_power, remedy)
    return (1.0 - lr_power) / denominator
