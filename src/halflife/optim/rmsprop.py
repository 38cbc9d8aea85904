"""RMSprop, with the decay rule as an argument."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.mean_rate import MeanRate, average
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..units.strength import Strength

__all__ = ["RMSprop"]


class RMSprop(Decayed, torch.optim.RMSprop):
    r"""``torch.optim.RMSprop`` with an explicit decay rule; by default torch's own, bit for bit.

    torch's RMSprop knows L2 only, so the other rules multiply the weights in a pass of their own.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-2 (torch's).
        alpha: averaging factor of the squared gradient. Default 0.99.
        eps: added to the denominator. Default 1e-8.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        momentum: factor of the momentum buffer. Default 0.
        centered: divide by the standard deviation instead of the root mean square.
        capturable: allow capture in a CUDA graph.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        differentiable: let autograd pass through the step.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in torch.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = RMSprop(model.parameters(), weight_decay=0.1, decay="independent")
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float | Tensor | Strength = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            capturable=capturable,
            foreach=foreach,
            maximize=maximize,
            differentiable=differentiable,
            decay=decay,
            peak_lr=peak_lr,
        )


def _direction(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> facts.Column:
    """The gradient, or the momentum of scaled gradients."""
    grads = facts.gradients(optimizer, group, params)
    if not group["momentum"]:
        return grads
    alpha, eps, centered = group["alpha"], group["eps"], group["centered"]
    keys = ["square_avg", "momentum_buffer", *(["grad_avg"] if centered else [])]

    def scaled(g: Tensor, second: Tensor, mean: Tensor | None) -> Tensor:
        return g / ((second if mean is None else second - mean * mean).sqrt() + eps)

    def first(g: Tensor) -> Tensor:
        new = 1.0 - alpha
        return scaled(g, new * g * g, new * g if centered else None)

    def later(g: Tensor, square: Tensor, buffer: Tensor, average: Tensor | None = None) -> Tensor:
        second = (1.0 - alpha) * g * g + alpha * square
        mean = None if average is None else (1.0 - alpha) * g + alpha * average
        return scaled(g, second, mean) + group["momentum"] * buffer

    states = [optimizer.state.get(p) or {} for p in params]
    return [
        facts.Deferred(later, (g, *[state[key] for key in keys]))
        if state
        else facts.Deferred(first, (g,))
        for g, state in zip(grads, states, strict=True)
    ]


def _inverse_square(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """``v (1 - momentum)^2``, without bias correction; ``v`` is the variance if centered."""
    alpha = group["alpha"]
    second = average(grad.square(), state, "square_avg", alpha)
    if group["centered"]:
        second = second - average(grad, state, "grad_avg", alpha).square()
    return second * (1 - group["momentum"]) ** 2  # its momentum is a sum, as SGD's is


def _noise(group: dict[str, Any]) -> dict[str, Any]:
    momentum = float(group["momentum"])
    return {"momentum": momentum, "update_rms": (1.0 - momentum**2) ** -0.5}


facts.declare(
    torch.optim.RMSprop,
    direction=_direction,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=_noise,
)
