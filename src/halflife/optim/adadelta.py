"""Adadelta, with the decay rule as an argument."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ..bases.mean_rate import MeanRate, average
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..tensors.reduction import real
from ..units.strength import Strength

__all__ = ["Adadelta"]


class Adadelta(Decayed, torch.optim.Adadelta):
    r"""``torch.optim.Adadelta`` with an explicit decay rule; by default torch's own, bit for bit.

    torch's Adadelta knows L2 only, so the other rules multiply the weights in a pass of their own.
    Its lr is a factor of steps that find their own size, 1 by default: a coefficient in units of
    1/lr is the fraction removed per step itself.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1.0 (torch's).
        rho: averaging factor of the squares of gradients and updates. Default 0.9.
        eps: added to the denominator. Default 1e-6.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None leaves it open.
        capturable: allow capture in a CUDA graph.
        maximize: ascend instead of descend.
        differentiable: let autograd pass through the step.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in torch.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Adadelta(model.parameters(), weight_decay=1e-4, decay="decoupled")
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float | Tensor | Strength = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            rho=rho,
            eps=eps,
            weight_decay=weight_decay,
            foreach=foreach,
            capturable=capturable,
            maximize=maximize,
            differentiable=differentiable,
            decay=decay,
            peak_lr=peak_lr,
        )


def _inverse_square(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """Mean square of the gradients over that of the updates, each with eps: it starts them."""
    rho, eps = group["rho"], group["eps"]
    updates = real(state["acc_delta"]) if "acc_delta" in state else 0.0
    return (average(grad.square(), state, "square_avg", rho) + eps) / (updates + eps)


facts.declare(
    torch.optim.Adadelta,
    direction=facts.gradients,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=lambda group: {"reason": "its steps have a size of their own making"},
)
