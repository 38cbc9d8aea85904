"""Yogi: Adam whose second moment moves by steps of its own size, up or down."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .optimizer import Group, Lists, NativeOptimizer, State, check_betas, check_eps, scalar

__all__ = ["Yogi"]


class Yogi(NativeOptimizer):
    r"""Adam with ``v <- v - (1 - beta2) sign(v - g^2) g^2``.

    Adam's second moment forgets a large gradient at the rate ``1 - beta2`` of itself; Yogi's falls
    by small gradients' own squares only, so the effective lr cannot shoot up when gradients become
    rare. The update is Adam's, ``w <- w - lr m_hat / (sqrt(v_hat) + eps)``.

    Source: Zaheer et al. 2018, in the form that its public implementations share: both moments
    start at ``initial_accumulator``, and both are bias-corrected all the same.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-2 (the paper's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-3 (the paper's).
        initial_accumulator: what both moments start from. Default 1e-6.
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.
        capturable: allow capture in a CUDA graph.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> w.grad = torch.tensor([1.0])
        >>> Yogi([w], lr=0.5, eps=0.0, initial_accumulator=0.0).step()
        >>> round(w.item(), 6)
        0.5
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
    ) -> None:
        check_betas(betas)
        check_eps(eps)
        if not initial_accumulator >= 0.0:
            raise ValueError(f"Invalid initial_accumulator value: {initial_accumulator}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "initial_accumulator": initial_accumulator,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _initial(self, group: Group) -> dict[str, float]:
        start = group["initial_accumulator"]
        return {"exp_avg": start, "exp_avg_sq": start}

    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        (beta1, beta2), t = group["betas"], state["step"]
        exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
        exp_avg.lerp_(grad, 1 - beta1)
        square = grad * grad
        exp_avg_sq.sub_((exp_avg_sq - square).sign_().mul_(square).mul_(1 - beta2))
        denominator = exp_avg_sq.sqrt().div_((1 - beta2**t) ** 0.5).add_(group["eps"])
        p.sub_((exp_avg / denominator).mul_(scalar(group["lr"]) / (1 - beta1**t)))

    def _multi(self, group: Group, lists: Lists) -> None:
        params, grads, state = lists
        (beta1, beta2), steps = group["betas"], state["step"]
        exp_avgs, exp_avg_sqs = state["exp_avg"], state["exp_avg_sq"]
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
        squares = torch._foreach_mul(grads, grads)
        changes = torch._foreach_sub(exp_avg_sqs, squares)
        torch._foreach_sign_(changes)
        torch._foreach_mul_(changes, squares)
        torch._foreach_mul_(changes, 1 - beta2)
        torch._foreach_sub_(exp_avg_sqs, changes)
        denominators = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_div_(denominators, [(1 - beta2**t) ** 0.5 for t in steps])
        torch._foreach_add_(denominators, group["eps"])
        directions = torch._foreach_div(exp_avgs, denominators)
        lr = scalar(group["lr"])
        torch._foreach_mul_(directions, [lr / (1 - beta1**t) for t in steps])
        torch._foreach_sub_(params, directions)
