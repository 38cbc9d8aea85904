"""NAdam, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.effective_rate import AdamRate
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import Decoupled, L2Regularization
from ..theory import equilibrium
from ..units.strength import Strength

__all__ = ["NAdam"]


class NAdam(Decayed, torch.optim.NAdam):
    r"""``torch.optim.NAdam`` with an explicit decay rule; by default torch's own, bit for bit.

    Every rule runs inside torch's own kernel, which has a switch from L2 to decoupled decay.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 2e-3 (torch's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-8.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        momentum_decay: how fast the momentum approaches ``betas[0]``. Default 4e-3.
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
        >>> optimizer = NAdam(model.parameters(), weight_decay=0.1, decay="corrected")
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
        momentum_decay: float = 4e-3,
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
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            decay=decay,
            peak_lr=peak_lr,
        )


def _direction(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> facts.Column:
    """``(1 - mu_t)/(1 - prod mu) g + mu_next/(1 - prod mu mu_next) m_t``."""
    beta1, decay = float(group["betas"][0]), group["momentum_decay"]

    def ahead(g: Tensor, m: Tensor, of_g: Tensor, of_m: Tensor) -> Tensor:
        return g * of_g + torch.lerp(m, g, 1.0 - beta1) * of_m

    grads = facts.gradients(optimizer, group, params)
    states = [optimizer.state.get(p) or {} for p in params]
    there = params[0].device if group["capturable"] else "cpu"  # where torch keeps the numbers
    zero, one = torch.zeros((), device=there), torch.ones((), device=there)
    t = torch.stack([s.get("step", zero) for s in states]) + 1.0
    mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * decay))
    following = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1.0) * decay))
    product = torch.stack([s.get("mu_product", one) for s in states]) * mu
    of_g, of_m = (1.0 - mu) / (1.0 - product), following / (1.0 - product * following)
    moments = [s.get("exp_avg") for s in states]
    # Numbers of the host are taken as they are; they need not be on the gradient's device.
    return [
        facts.Deferred(ahead, (g, torch.zeros_like(g) if m is None else m, *numbers))
        for g, m, *numbers in zip(grads, moments, of_g.unbind(), of_m.unbind(), strict=True)
    ]


def _noise(group: dict[str, Any]) -> dict[str, Any]:
    size = equilibrium.nesterov_update_rms(float(group["betas"][0]))
    return {"momentum": equilibrium.effective_momentum(size**-2.0), "update_rms": size}


facts.declare(
    torch.optim.NAdam,
    direction=_direction,
    effective_rate=AdamRate,  # the same second moment; its look-ahead is in the momentum
    noise=_noise,
)
