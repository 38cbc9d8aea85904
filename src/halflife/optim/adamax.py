"""Adamax, with the decay rule as an argument."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ..bases.mean_rate import MeanRate
from ..bases.noise import first_moment_noise
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..tensors.reduction import real
from ..units.strength import Strength

__all__ = ["Adamax"]


class Adamax(Decayed, torch.optim.Adamax):
    r"""``torch.optim.Adamax`` with an explicit decay rule; by default torch's own, bit for bit.

    torch's Adamax knows L2 only, so the other rules multiply the weights in a pass of their own.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 2e-3 (torch's).
        betas: averaging factor of the gradient, and decay of its maximum. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-8.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        differentiable: let autograd pass through the step.
        capturable: allow capture in a CUDA graph.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in torch.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Adamax(model.parameters(), weight_decay=0.1, decay="decoupled")
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | Tensor | Strength = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            differentiable=differentiable,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
        )


def _inverse_square(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The square of the decaying maximum."""
    largest = grad.abs() + group["eps"]
    if "exp_inf" in state:
        largest = torch.maximum(group["betas"][1] * real(state["exp_inf"]), largest)
    return largest.square()


facts.declare(
    torch.optim.Adamax,
    direction=facts.first_moment,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=first_moment_noise,
)
