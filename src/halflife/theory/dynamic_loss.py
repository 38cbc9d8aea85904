r"""The loss that AdamW minimises: the network's, and a penalty in the metric of its own steps.

    F_k(x) = F(x) + (lambda_k / 2) |x|^2_{v_k}        |x|^2_v = sum_j v_j x_j^2

A step ``x - lr m / v - lr lambda x`` is ``x - (lr / v) (m + lambda v x)``: with m at the gradient
of F, one of descent on F_k in the metric v. It stands still where ``-grad F = lambda v x``, and not
where ``-grad F = lambda x``, as that of Adam with L2 does. So two cosines at the end of a training
tell which of the two it came near to, and neither needs to know lambda.

Source: Zhou et al., "Towards understanding convergence and generalization of AdamW", TPAMI 2024,
Eq. (4) and Corollary 1. **The corollary's premise fails where it would be needed**: it asks that
the penalty's gradient be bounded by less than that of F, and where AdamW has settled the two are as
long as each other. `halflife.diagnostics.dynamic` reads v and lambda from an optimizer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require, require_nonnegative

__all__ = ["Alignment", "DynamicLoss", "GradientBound"]


@dataclass(frozen=True)
class Alignment:
    """Where the descent direction points, against the two pulls toward zero.

    Args:
        scaled: ``cos(-grad F, lambda v x)``: 1 at a stationary point of F_k, that of AdamW.
        plain: ``cos(-grad F, lambda x)``: 1 at one of ``F + (lambda / 2) |x|^2``, that of L2.
    """

    scaled: float
    plain: float


@dataclass(frozen=True)
class GradientBound:
    """Corollary 1 at a point: ``|grad F| <= |grad F_k| / (1 - premise)`` where premise < 1.

    Args:
        premise: ``rho' |x|_inf`` with the smallest ``rho' = |lambda v| / |grad F|`` that the
            corollary allows; it is the paper's ``lambda rho' |x|_inf`` where lambda is a number.
        gradient: |grad F|.
        dynamic: |grad F_k|.
    """

    premise: float
    gradient: float
    dynamic: float

    @property
    def holds(self) -> bool:
        """Whether the corollary says anything here: its premise is below 1."""
        return self.premise < 1.0

    @property
    def bound(self) -> float:
        """The bound on |grad F|; infinite where the premise fails."""
        return self.dynamic / (1.0 - self.premise) if self.holds else math.inf


@dataclass(frozen=True)
class DynamicLoss:
    """F_k, as far as it is not F: the penalty of one step.

    Args:
        scale: v_k, positive, ``[n]`` or of any other shape; every x and gradient has it too.
            Unit: that of the gradient.
        weight_decay: lambda_k >= 0. Unit: 1/lr. A number, or a tensor that broadcasts where it
            differs between weights, as where biases do not decay.

    Raises:
        ValueError: if scale has an entry that is not finite or not positive, or weight_decay one
            that is negative or not finite.

    Example:
        >>> loss = DynamicLoss(torch.tensor([1.0, 4.0]), weight_decay=0.5)
        >>> x = torch.tensor([2.0, 1.0])
        >>> loss.penalty(x).item(), loss.gradient(torch.tensor([-1.0, 0.0]), x).tolist()
        (2.0, [0.0, 2.0])
    """

    scale: Tensor
    weight_decay: float | Tensor

    def __post_init__(self) -> None:
        ok = bool(((self.scale > 0) & self.scale.isfinite()).all())
        remedy = "pass v = sqrt(n + delta), or sqrt(v_hat) + eps"
        require(ok, "DynamicLoss: scale", "finite and > 0", "an entry that is not", remedy)
        if isinstance(self.weight_decay, Tensor):
            ok = bool(((self.weight_decay >= 0) & self.weight_decay.isfinite()).all())
            name, remedy = "DynamicLoss: weight_decay", "pass 0 for none"
            require(ok, name, "finite and >= 0", "an entry that is not", remedy)
        else:
            remedy = "pass the coefficient of the decay"
            require_nonnegative("DynamicLoss: weight_decay", self.weight_decay, remedy)

    def penalty(self, x: Tensor) -> Tensor:
        """``(lambda / 2) |x|^2_v``, which is 0-dim and differentiable in x.

        Raises:
            ValueError: if x has another shape than the scale.
        """
        self._require_shape("penalty: x", x)
        return 0.5 * (self.weight_decay * self.scale * x.square()).sum()

    def gradient(self, gradient: Tensor, x: Tensor) -> Tensor:
        """``grad F_k(x) = grad F(x) + lambda v x``.

        Args:
            gradient: of F at x.
            x: the weights.

        Raises:
            ValueError: if a shape is not that of the scale.
        """
        self._require_shape("gradient: gradient", gradient)
        self._require_shape("gradient: x", x)
        return gradient + self.weight_decay * self.scale * x

    def alignment(self, gradient: Tensor, x: Tensor) -> Alignment:
        """The two cosines at x; 0 where a vector is zero.

        Args:
            gradient: of F at x.
            x: the weights.

        Raises:
            ValueError: if a shape is not that of the scale.
        """
        self._require_shape("alignment: gradient", gradient)
        self._require_shape("alignment: x", x)
        pull = self.weight_decay * x
        return Alignment(_cosine(-gradient, self.scale * pull), _cosine(-gradient, pull))

    def gradient_bound(self, gradient: Tensor, x: Tensor) -> GradientBound:
        """Corollary 1 at x.

        Args:
            gradient: of F at x.
            x: the weights.

        Raises:
            ValueError: if a shape is not that of the scale.
        """
        size = float(gradient.norm())
        pull = float((self.weight_decay * self.scale).norm()) * float(x.abs().max())
        premise = (pull / size if size else math.inf) if pull else 0.0
        return GradientBound(premise, size, float(self.gradient(gradient, x).norm()))

    def _require_shape(self, name: str, tensor: Tensor) -> None:
        shape, wanted = tuple(tensor.shape), tuple(self.scale.shape)
        remedy = "pass one entry for each of the scale's"
        require(shape == wanted, name, f"of the scale's shape {wanted}", shape, remedy)


def _cosine(a: Tensor, b: Tensor) -> float:
    sizes = float(a.norm()) * float(b.norm())
    return float(torch.vdot(a.reshape(-1), b.reshape(-1))) / sizes if sizes else 0.0
