r"""Steps with decay as minimizers: proximal operators, and the objectives that papers print.

The proximal operator of phi, in the metric of positive step sizes s, is

    prox(x) = argmin_y  phi(y) + 1/2 sum_j (y_j - x_j)^2 / s_j

and a step from w, along g with step sizes s, that treats phi exactly and the loss by its slope

    argmin_y  <y - w, g> + phi(y) + 1/2 sum_j (y_j - w_j)^2 / s_j  =  prox(w - s g)

Every printed one is this with its own g, s and phi. D is Adam's metric ``sqrt(v_hat) + eps``, alpha
the peak lr, eta the schedule's multiplier, M a diagonal of step sizes, p an update direction:

    (P1) ProxAdam     g = m_hat    s = eta alpha / D    phi = lambda / (2 alpha) |y|^2_D
    (P2) AdamP        g = m_hat    s = eta alpha / D    phi = lambda / 2 |y|^2
    Zhuang, (2)       g = p        s = M                phi = 0, lambda w being in p
    Zhuang, (3)       g = p        s = M                phi = lambda / 2 |y|^2

Those of Zhuang et al. also have constants, ``lambda / 2 |w|^2 + f(w)`` and ``f(w)``: they are then
models of the regularised loss around w.

Source: Schaipp, "Decay no more", ICLR blog posts 2023, Eq. (1), (P1) and (P2), whose second is
printed without its name; Zhuang et al., "Understanding AdamW through proximal methods and
scale-freeness", 2022, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checks import Scalar, require, require_nonnegative, require_positive

__all__ = [
    "Penalty",
    "StepObjective",
    "absolute_values",
    "adamp_objective",
    "euclidean_norm",
    "linearized_objective",
    "no_penalty",
    "proxadam_objective",
    "proximal_objective",
    "squared_norm",
]

_BISECTIONS = 200  # more than float64 has bits, whatever the bracket


@dataclass(frozen=True)
class Penalty:
    """A convex function, given by its value and by its proximal operator.

    Args:
        value: ``phi(y)``, a 0-dim tensor.
        prox: ``prox(x, steps)`` for step sizes of x's shape, ``argmin_y phi(y) + 1/2 sum (y - x)^2
            / steps``. Unit of the steps: that of x squared, over that of phi.

    Example:
        A box, of which it is the projection, at any step size.

        >>> box = Penalty(
        ...     lambda y: torch.where((y.abs() <= 1.0).all(), 0.0, torch.inf),
        ...     lambda x, steps: x.clamp(-1.0, 1.0),
        ... )
        >>> box(torch.tensor([0.5, -3.0]), steps=2.0).tolist()
        [0.5, -1.0]
    """

    value: Callable[[Tensor], Tensor]
    prox: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, steps: Scalar = 1.0) -> Tensor:
        """The proximal operator at x.

        Args:
            x: where; not changed.
            steps: step sizes > 0, one number or a tensor that broadcasts to x's shape.

        Raises:
            ValueError: if a step size is not positive.
        """
        return self.prox(x, _steps("Penalty: steps", steps, x))


def no_penalty() -> Penalty:
    """``phi = 0``: its proximal operator changes nothing.

    Example:
        >>> no_penalty()(torch.ones(1)).tolist()
        [1.0]
    """
    return Penalty(lambda y: y.new_zeros(()), lambda x, steps: x.clone())


def squared_norm(coefficient: Scalar) -> Penalty:
    """``phi = 1/2 sum c_j y_j^2``; prox ``x / (1 + c s)``, which is multiplicative decay.

    Args:
        coefficient: c >= 0, a number or a tensor that broadcasts: a metric.

    Raises:
        ValueError: if it is negative.

    Example:
        >>> squared_norm(0.25)(torch.tensor([5.0])).tolist()  # 5 / 1.25
        [4.0]
    """
    _require_coefficient("squared_norm: coefficient", coefficient)
    return Penalty(
        lambda y: 0.5 * (coefficient * y.square()).sum(),
        lambda x, steps: x / (1.0 + coefficient * steps),
    )


def absolute_values(coefficient: Scalar) -> Penalty:
    """``phi = sum c_j |y_j|``; prox ``sign(x) max(|x| - c s, 0)``, which makes zeros.

    Args:
        coefficient: c >= 0, a number or a tensor that broadcasts.

    Raises:
        ValueError: if it is negative.

    Example:
        >>> absolute_values(1.0)(torch.tensor([3.0, -0.5])).tolist()
        [2.0, 0.0]
    """
    _require_coefficient("absolute_values: coefficient", coefficient)
    return Penalty(
        lambda y: (coefficient * y.abs()).sum(),
        lambda x, steps: x - x.clamp(-coefficient * steps, coefficient * steps),
    )


def euclidean_norm(coefficient: float) -> Penalty:
    """``phi = c |y|``, no square; prox ``max(1 - c s / |x|, 0) x`` if all step sizes are one s.

    For step sizes that differ it is ``x r / (r + c s)`` with ``r = |y|`` found by bisection.

    Args:
        coefficient: c >= 0.

    Raises:
        ValueError: if it is negative.

    Example:
        >>> euclidean_norm(1.0)(torch.tensor([3.0, 4.0])).tolist()  # 5 long, then 4
        [2.4000000953674316, 3.200000047683716]
    """
    require_nonnegative("euclidean_norm: coefficient", coefficient, "pass 0 for none")
    return Penalty(
        lambda y: coefficient * y.norm(), lambda x, steps: _shortened(x, coefficient * steps)
    )


def _shortened(x: Tensor, lengths: Tensor) -> Tensor:
    """``argmin |y| + 1/2 sum (y - x)^2 / lengths``."""
    if not bool(lengths.any()):
        return x.clone()
    if bool((lengths == lengths.reshape(-1)[0]).all()):
        size = x.norm()
        return x * torch.where(size > lengths, 1.0 - lengths / size, 0.0)
    if bool((x / lengths).norm() <= 1.0):  # 0 is in the subdifferential at 0
        return torch.zeros_like(x)
    low, high = (
        torch.zeros_like(x.norm()),
        x.norm(),
    )  # of r: the sum below falls through 1
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = bool((x / (middle + lengths)).square().sum() > 1.0)
        low, high = (middle, high) if above else (low, middle)
    return x * (high / (high + lengths))


@dataclass(frozen=True)
class StepObjective:
    """What a step minimises: ``<y - w, g> + phi(y) + 1/2 sum (y - w)^2 / s``, and a constant.

    With ``s = lr`` it is Eq. (1) of Schaipp, the proximal gradient method.

    Args:
        weights: w, before the step.
        gradient: g, of the same shape.
        steps: s > 0, a number or a tensor of that shape.
        penalty: phi.
        constant: what is printed beside, and depends on w alone.

    Raises:
        ValueError: if a step size is not positive, or shapes differ.

    Example:
        >>> w, g = torch.tensor([2.0]), torch.tensor([1.0])
        >>> step = StepObjective(w, g, 0.5, squared_norm(2.0))
        >>> step.minimizer.tolist()  # (2 - 0.5) / (1 + 0.5 * 2)
        [0.75]
        >>> step(step.minimizer).item()  # -1.25 + 0.5625 + 1.5625
        0.875
    """

    weights: Tensor
    gradient: Tensor
    steps: Scalar
    penalty: Penalty = field(default_factory=no_penalty)
    constant: Scalar = 0.0

    def __post_init__(self) -> None:
        shape, wanted = tuple(self.gradient.shape), tuple(self.weights.shape)
        name, remedy = "StepObjective: gradient", "pass one entry for each weight"
        require(shape == wanted, name, f"of the weights' shape {wanted}", shape, remedy)
        steps = _steps("StepObjective: steps", self.steps, self.weights)
        object.__setattr__(self, "steps", steps)

    def __call__(self, y: Tensor) -> Tensor:
        """The objective at y: a 0-dim tensor, differentiable in y where phi is."""
        moved = y - self.weights
        near = 0.5 * (moved.square() / self.steps).sum()
        return (moved * self.gradient).sum() + self.penalty.value(y) + near + self.constant

    @property
    def minimizer(self) -> Tensor:
        """``prox(w - s g)``: the weights after the step."""
        return self.penalty(self.weights - self.steps * self.gradient, self.steps)


def proxadam_objective(
    weights: Tensor,
    momentum: Tensor,
    metric: Tensor,
    *,
    peak_lr: float,
    multiplier: float,
    weight_decay: float,
) -> StepObjective:
    """(P1) of Schaipp: that of a step of ProxAdam, which is `AdamW` with ``Proximal(Independent)``.

    Args:
        weights: ``w_{t-1}``.
        momentum: ``m_hat``, corrected for bias, of this step.
        metric: the diagonal of D, ``sqrt(v_hat) + eps``, of this step.
        peak_lr: alpha.
        multiplier: eta_t, the lr over its peak.
        weight_decay: lambda, the coefficient of `Independent`.

    Raises:
        ValueError: if metric, peak_lr or multiplier is not positive, or weight_decay negative.

    Example:
        >>> w, m, d = torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0.5])
        >>> settings = {"peak_lr": 0.5, "multiplier": 0.5, "weight_decay": 2.0}
        >>> proxadam_objective(w, m, d, **settings).minimizer.tolist()  # (2 - 0.25 / 0.5) / 2
        [0.75]
    """
    steps = _adam_steps("proxadam_objective", metric, peak_lr, multiplier, weight_decay)
    return StepObjective(weights, momentum, steps, squared_norm(weight_decay / peak_lr * metric))


def adamp_objective(
    weights: Tensor,
    momentum: Tensor,
    metric: Tensor,
    *,
    peak_lr: float,
    multiplier: float,
    weight_decay: float,
) -> StepObjective:
    """(P2) of Schaipp: that of a step of AdamP, whose penalty is in the plain norm.

    Args:
        weights: as for `proxadam_objective`.
        momentum: as for `proxadam_objective`.
        metric: as for `proxadam_objective`.
        peak_lr: alpha.
        multiplier: eta_t.
        weight_decay: lambda. Unit: loss / weight^2.

    Raises:
        ValueError: as `proxadam_objective` does.

    Example:
        >>> w, m, d = torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0.5])
        >>> settings = {"peak_lr": 0.5, "multiplier": 0.5, "weight_decay": 2.0}
        >>> adamp_objective(w, m, d, **settings).minimizer.tolist()  # 1.5 / (1 + 2 * 0.5)
        [0.75]
    """
    steps = _adam_steps("adamp_objective", metric, peak_lr, multiplier, weight_decay)
    return StepObjective(weights, momentum, steps, squared_norm(weight_decay))


def linearized_objective(
    weights: Tensor,
    direction: Tensor,
    steps: Scalar,
    *,
    weight_decay: float,
    loss: Scalar = 0.0,
) -> StepObjective:
    """Mirror descent on ``f + lambda/2 |x|^2`` with all of it linearized: Zhuang et al., (2).

    ``lambda/2 |w|^2 + f(w) + p'(x - w) + 1/2 (x - w)' M^-1 (x - w)``, whose minimizer is
    ``w - M p``: that of L2 regularization, as ``lambda w`` has to be in p.

    Args:
        weights: ``x_{t-1}``.
        direction: p, made of the gradient of the whole objective.
        steps: the diagonal of M, positive.
        weight_decay: lambda.
        loss: f at the weights, for the objective's value to be that of the model.

    Raises:
        ValueError: if a step size is not positive, weight_decay negative, or shapes differ.

    Example:
        >>> w = torch.tensor([2.0])
        >>> gradient = 1.0 + 0.5 * w  # of f, and of the penalty
        >>> linearized_objective(w, gradient, 0.25, weight_decay=0.5).minimizer.tolist()
        [1.5]
    """
    require_nonnegative("linearized_objective: weight_decay", weight_decay, "pass 0 for none")
    constant = 0.5 * weight_decay * weights.square().sum() + loss
    return StepObjective(weights, direction, steps, no_penalty(), constant)


def proximal_objective(
    weights: Tensor,
    direction: Tensor,
    steps: Scalar,
    *,
    weight_decay: float,
    loss: Scalar = 0.0,
) -> StepObjective:
    """Mirror descent that linearizes f alone: Zhuang et al., (3), AdamProx with ``M = eta I``.

    ``lambda/2 |x|^2 + f(w) + p'(x - w) + 1/2 (x - w)' M^-1 (x - w)``, whose minimizer is
    ``(I + lambda M)^-1 (w - M p)``.

    Args:
        weights: ``x_{t-1}``.
        direction: p, made of the gradient of f; for AdamProx ``alpha m_hat / (sqrt(v_hat) + eps)``.
        steps: the diagonal of M, positive.
        weight_decay: lambda.
        loss: f at the weights.

    Raises:
        ValueError: as `linearized_objective` does.

    Example:
        >>> w, p = torch.tensor([2.0]), torch.tensor([2.0])
        >>> proximal_objective(w, p, 0.5, weight_decay=2.0).minimizer.tolist()  # (2 - 1) / 2
        [0.5]
    """
    require_nonnegative("proximal_objective: weight_decay", weight_decay, "pass 0 for none")
    return StepObjective(weights, direction, steps, squared_norm(weight_decay), loss)


def _adam_steps(
    owner: str, metric: Tensor, peak_lr: float, multiplier: float, weight_decay: float
) -> Tensor:
    require_positive(f"{owner}: peak_lr", peak_lr, "pass the schedule's highest lr")
    require_positive(f"{owner}: multiplier", multiplier, "pass the lr over its peak")
    require_nonnegative(f"{owner}: weight_decay", weight_decay, "pass 0 for none")
    return multiplier * peak_lr / _steps(f"{owner}: metric", metric, metric)


def _steps(name: str, steps: Scalar, x: Tensor) -> Tensor:
    """Step sizes as a tensor of x's shape."""
    if isinstance(steps, Tensor):
        ok = bool(((steps > 0) & steps.isfinite()).all())
        require(ok, name, "finite and > 0", "an entry that is not", "pass positive numbers")
        return steps.expand_as(x)
    require_positive(name, steps, "pass a step size")
    return torch.full_like(x, steps)


def _require_coefficient(name: str, coefficient: Scalar) -> None:
    if isinstance(coefficient, Tensor):
        ok = bool(((coefficient >= 0) & coefficient.isfinite()).all())
        require(ok, name, "finite and >= 0", "an entry that is not", "pass 0 for none")
    else:
        require_nonnegative(name, coefficient, "pass 0 for none")
