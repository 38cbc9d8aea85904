"""RAdam, with the decay rule as an argument."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ..bases.mean_rate import MeanRate, average, coming_step
from ..bases.noise import adam_noise
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import Decoupled, L2Regularization
from ..units.strength import Strength

__all__ = ["RAdam"]


class RAdam(Decayed, torch.optim.RAdam):
    r"""``torch.optim.RAdam`` with an explicit decay rule; by default torch's own, bit for bit.

    Every rule runs inside torch's own kernel, which has a switch from L2 to decoupled decay. The
    authors' code decays decoupled, and takes no step at all, decay included, before the variance is
    rectified (about 5 steps); torch takes steps of SGD with momentum there, and decays throughout.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (torch's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-8.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        decoupled_weight_decay: torch's own switch, which only decides the default of ``decay``.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        capturable: allow capture in a CUDA graph.
        differentiable: let autograd pass through the step.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in torch.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = RAdam(model.parameters(), weight_decay=0.1, decay="decoupled")
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | Tensor | Strength = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        if decay is None and decoupled_weight_decay:
            decay = Decoupled()
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            decay=decay,
            peak_lr=peak_lr,
        )


def _inverse_square(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """``v_hat / r_t^2`` with RAdam's rectification ``r_t``; 1 before torch rectifies."""
    beta2, t = group["betas"][1], coming_step(state)
    final = 2 / (1 - beta2) - 1
    kept = beta2**t
    length = final - 2 * t * kept / (1 - kept)
    rectification = (length - 4) * (length - 2) * final / ((final - 4) * (final - 2) * length)
    second = average(grad.square(), state, "exp_avg_sq", beta2) / (1 - kept)
    if isinstance(length, Tensor):
        return torch.where(length > 5, second / rectification, 1.0)
    return second / rectification if length > 5 else torch.ones_like(second)


facts.declare(
    torch.optim.RAdam,
    direction=facts.first_moment,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=adam_noise,
)
