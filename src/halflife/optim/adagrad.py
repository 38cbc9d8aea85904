"""Adagrad, with the decay rule as an argument."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ..bases.mean_rate import MeanRate, coming_step
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..tensors.reduction import real
from ..units.strength import Strength

__all__ = ["Adagrad"]


class Adagrad(Decayed, torch.optim.Adagrad):
    r"""``torch.optim.Adagrad`` with an explicit decay rule; by default torch's own, bit for bit.

    torch's Adagrad knows L2 only, so the other rules multiply the weights in a pass of their own.
    They read the group's lr; ``lr_decay`` scales the gradient's step and not the decay.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-2 (torch's).
        lr_decay: the lr is divided by ``1 + (t - 1) lr_decay``. Default 0.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        initial_accumulator_value: what the sum of squares starts from. Default 0.
        eps: added to the denominator. Default 1e-10.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        differentiable: let autograd pass through the step.
        fused: fused implementation; None leaves it open.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in torch.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Adagrad(model.parameters(), weight_decay=0.1, decay="decoupled")
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float | Tensor | Strength = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            foreach=foreach,
            maximize=maximize,
            differentiable=differentiable,
            fused=fused,
            decay=decay,
            peak_lr=peak_lr,
        )


def _inverse_square(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The sum of squares, times the square of what ``lr_decay`` divides the lr by."""
    divisor = 1 + (coming_step(state) - 1) * group["lr_decay"]
    return (real(state["sum"]) + grad.square()) * divisor**2


facts.declare(
    torch.optim.Adagrad,
    direction=facts.gradients,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=lambda group: {"reason": "its steps shrink for ever, so there is no equilibrium"},
)
