"""Yogi: Adam whose second moment moves by steps of its own size, up or down."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.mean_rate import MeanRate, coming_step
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..tensors.reduction import real
from ..theory import equilibrium
from ..units.strength import Strength
from .base import BaseOptimizer, Group, Lists, State, check_betas, check_eps, of_each, scalar

__all__ = ["Yogi", "YogiBase"]


class YogiBase(BaseOptimizer):
    r"""Adam with ``v <- v - (1 - beta2) sign(v - g^2) g^2``.

    Adam's second moment forgets a large gradient at the rate ``1 - beta2`` of itself; Yogi's falls
    by small gradients' own squares only, so the effective lr cannot shoot up when gradients become
    rare. The update is Adam's, ``w <- w - lr m_hat / (sqrt(v_hat) + eps)``.

    Source: Zaheer et al. 2018, in the form that its public implementations share: both moments
    start at ``initial_accumulator``, and both are bias-corrected all the same.

    The arguments are those of `Yogi`, without the decay's.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> w.grad = torch.tensor([1.0])
        >>> YogiBase([w], lr=0.5, eps=0.0, initial_accumulator=0.0).step()
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
        torch._foreach_div_(denominators, of_each(lambda t: (1 - beta2**t) ** 0.5, steps))
        torch._foreach_add_(denominators, group["eps"])
        directions = torch._foreach_div(exp_avgs, denominators)
        lr = scalar(group["lr"])
        torch._foreach_mul_(directions, of_each(lambda t: lr / (1 - beta1**t), steps))
        torch._foreach_sub_(params, directions)


class Yogi(Decayed, YogiBase):
    r"""Yogi with an explicit decay rule; `YogiBase` has the equation.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-2 (the paper's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-3 (the paper's).
        initial_accumulator: what both moments start from. Default 1e-6.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.
        capturable: allow capture in a CUDA graph.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in the paper's code.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Yogi(model.parameters(), weight_decay=0.01, decay="decoupled")
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        weight_decay: float | Tensor | Strength = 0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            initial_accumulator=initial_accumulator,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
        )


# Where Yogi's second moment rests, squares below it weigh as much as squares above: the median of
# chi-squared with 3 degrees of freedom, in units of the gradient's variance.
_SECOND_AT_REST = 2.3659738843753377


def _direction(optimizer: Optimizer, group: Group, params: list[Tensor]) -> facts.Column:
    return facts.first_moment(optimizer, group, params, start=group["initial_accumulator"])


def _inverse_square(grad: Tensor, state: State, group: Group) -> Tensor:
    """``v_hat``, by Yogi's recurrence."""
    beta2, square = group["betas"][1], grad.square()
    before = real(state["exp_avg_sq"]) if "exp_avg_sq" in state else group["initial_accumulator"]
    second = before - (1 - beta2) * (before - square).sign() * square
    return second / (1 - beta2 ** coming_step(state))


def _noise(group: Group) -> dict[str, Any]:
    """Of Gaussian gradients."""
    beta1 = float(group["betas"][0])
    size = equilibrium.adam_update_rms(beta1) / _SECOND_AT_REST**0.5
    return {"momentum": beta1, "update_rms": size}


facts.declare(
    YogiBase,
    direction=_direction,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=_noise,
)
