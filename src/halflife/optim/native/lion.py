"""Lion: the sign of a momentum that looks one gradient ahead."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...rounding import pieces
from .optimizer import Group, Lists, NativeOptimizer, State, check_betas, scalar

__all__ = ["Lion"]


class Lion(NativeOptimizer):
    r"""``w <- w - lr sign(beta1 m + (1 - beta1) g)``, then ``m <- beta2 m + (1 - beta2) g``.

    Every weight moves by exactly lr, so the lr is to be 3 to 10 times smaller than Adam's. The only
    state is ``exp_avg``. Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms".

    It needs no ``capturable``: no number that changes with the step comes from the host. In a
    captured graph, pass the lr as a tensor if it is to change.

    Args:
        params: parameters, named parameters, or groups.
        lr: size of every update, in units of a weight. Default 1e-4 (the paper's code).
        betas: weight of the momentum in the update, and averaging factor of the momentum. Default
            (0.9, 0.99) (the paper's).
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0, -1.0], requires_grad=True)
        >>> w.grad = torch.tensor([1e-3, -1e3])
        >>> Lion([w], lr=0.25).step()
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
