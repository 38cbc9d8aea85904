"""ASGD, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..units.strength import Strength

__all__ = ["ASGD"]


class ASGD(Decayed, torch.optim.ASGD):
    r"""``torch.optim.ASGD`` with an explicit decay rule; by default torch's own, bit for bit.

    torch's ASGD knows L2 only, so the other rules multiply the weights in a pass of their own. Its
    ``lambd`` is one more decay, ``1 - lambd eta``, and stays as it is.

    Each step leaves behind the step size of the next, so the gradient's step follows a schedule one
    step later than the decay does; and a rule that scales the step itself, `Proximal`, is refused.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-2 (torch's).
        lambd: torch's decay term. Default 1e-4.
        alpha: power of the step size's decrease. Default 0.75.
        t0: step at which averaging starts. Default 1e6.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        differentiable: let autograd pass through the step.
        capturable: allow capture in a CUDA graph.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in torch.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Raises:
        ValueError: for `Proximal`.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = ASGD(model.parameters(), lr=0.1, weight_decay=1e-2, decay="decoupled")
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float | Tensor | Strength = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lambd=lambd,
            alpha=alpha,
            t0=t0,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            differentiable=differentiable,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
        )


facts.declare(  # no effective rate: a step has the size that the step before has left
    torch.optim.ASGD,
    direction=facts.gradients,
    noise=lambda group: {"reason": "its steps shrink for ever, so there is no equilibrium"},
)
