"""Lion: the sign of a momentum that looks one gradient ahead."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import Decoupled
from ..tensors.pieces import pieces
from ..theory import equilibrium
from ..units.strength import Strength
from .base import BaseOptimizer, Group, Lists, State, check_betas, scalar

__all__ = ["Lion", "LionBase"]


class LionBase(BaseOptimizer):
    r"""``w <- w - lr sign(beta1 m + (1 - beta1) g)``, then ``m <- beta2 m + (1 - beta2) g``.

    Every weight moves by exactly lr. The only state is ``exp_avg``. Source: Chen et al. 2023,
    "Symbolic Discovery of Optimization Algorithms".

    It needs no ``capturable``: no number that changes with the step comes from the host. In a
    captured graph, pass the lr as a tensor if it is to change.

    The arguments are those of `Lion`, without the decay's.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0, -1.0], requires_grad=True)
        >>> w.grad = torch.tensor([1e-3, -1e3])
        >>> LionBase([w], lr=0.25).step()
        >>> w.tolist()
        [0.75, -0.75]
    """

    _counts_steps = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check_betas(betas)
        defaults = {"lr": lr, "betas": betas, "foreach": foreach, "maximize": maximize}
        super().__init__(params, defaults)

    def _initial(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0}

    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        (beta1, beta2), lr = group["betas"], scalar(group["lr"])
        for w, exp_avg, g in pieces(p, state["exp_avg"], grad):  # what is temporary stays cached
            direction = exp_avg.lerp(g, 1 - beta1).sign_()
            if isinstance(lr, Tensor):
                w.sub_(direction.mul_(lr))
            else:
                w.sub_(direction, alpha=lr)
            exp_avg.lerp_(g, 1 - beta2)

    def _multi(self, group: Group, lists: Lists) -> None:
        params, grads, state = lists
        (beta1, beta2), lr = group["betas"], scalar(group["lr"])
        exp_avgs = state["exp_avg"]
        directions = torch._foreach_lerp(exp_avgs, grads, 1 - beta1)
        torch._foreach_sign_(directions)
        if isinstance(lr, Tensor):
            torch._foreach_mul_(directions, lr)
            torch._foreach_sub_(params, directions)
        else:
            torch._foreach_sub_(params, directions, alpha=lr)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta2)


class Lion(Decayed, LionBase):
    r"""Lion with an explicit decay rule; `LionBase` has the equation.

    Use an lr 3 to 10 times smaller than Adam's, and with it a ``weight_decay`` as much larger, if
    the rule's unit is 1/lr; a strength such as ``HalfLife`` stays as it is. `Stable` is refused:
    the steps have one size whatever the gradients are, so there is no effective rate to follow.

    Args:
        params: parameters, named parameters, or groups.
        lr: size of every update, in units of a weight. Default 1e-4 (the paper's code).
        betas: weight of the momentum in the update, and averaging factor of the momentum. Default
            (0.9, 0.99) (the paper's).
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0 (the paper's code).
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.
        decay: the decay rule, or its name. Default ``Decoupled()``, as in the paper.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Lion(model.parameters(), lr=1e-4, weight_decay=1.0)
    """

    default_rule = Decoupled()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float | Tensor | Strength = 0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            decay=decay,
            peak_lr=peak_lr,
        )


def _noise(group: Group) -> dict[str, Any]:
    """Of Gaussian gradients."""
    memory = equilibrium.sign_memory(*map(float, group["betas"]))
    return {"momentum": equilibrium.effective_momentum(memory), "update_rms": 1.0}


facts.declare(LionBase, direction=facts.first_moment, noise=_noise)
