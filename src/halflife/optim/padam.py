"""Padam: Adam with a partial power of the second moment, between SGD and Adam."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ..bases.mean_rate import MeanRate, average, coming_step, maximum
from ..bases.noise import first_moment_noise
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..units.strength import Strength
from .base import (
    BaseOptimizer,
    Group,
    Lists,
    State,
    check_betas,
    check_eps,
    moments,
    moments_of_many,
    of_each,
    scalar,
)

__all__ = ["Padam", "PadamBase"]


class PadamBase(BaseOptimizer):
    r"""``w <- w - lr (sqrt(1 - beta2^t) / (1 - beta1^t)) m / (sqrt(v) + eps)^(2 partial)``.

    ``partial`` 1/2 is Adam (AMSGrad with ``amsgrad``), 0 is SGD with momentum. Source: Chen et al.
    2018, "Closing the Generalization Gap of Adaptive Gradient Methods", as in its code: AMSGrad is
    on, and the bias correction is that of ``partial = 1/2`` at any power (the paper has none).

    The arguments are those of `Padam`, without the decay's.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> w.grad = torch.tensor([16.0])
        >>> PadamBase([w], lr=0.25, betas=(0.0, 0.0), eps=0.0, partial=0.25).step()
        >>> w.item()  # lr * 16 / sqrt(16) below 1
        0.0
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        partial: float = 1 / 4,
        amsgrad: bool = True,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
    ) -> None:
        check_betas(betas)
        check_eps(eps)
        if not 0.0 <= partial <= 0.5:
            raise ValueError(f"Invalid partial value: {partial}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "partial": partial,
            "amsgrad": amsgrad,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _initial(self, group: Group) -> dict[str, float]:
        maximum = ("max_exp_avg_sq",) if group["amsgrad"] else ()
        return dict.fromkeys(("exp_avg", "exp_avg_sq", *maximum), 0.0)

    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        (beta1, beta2), t = group["betas"], state["step"]
        exp_avg, second = moments(group, grad, state)
        denominator = second.sqrt().add_(group["eps"]).pow_(2 * group["partial"])
        correction = (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        p.sub_((exp_avg / denominator).mul_(scalar(group["lr"]) * correction))

    def _multi(self, group: Group, lists: Lists) -> None:
        params, grads, state = lists
        (beta1, beta2), steps = group["betas"], state["step"]
        exp_avgs, seconds = moments_of_many(group, grads, state)
        denominators = torch._foreach_sqrt(seconds)
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_pow_(denominators, 2 * group["partial"])
        directions = torch._foreach_div(exp_avgs, denominators)
        lr = scalar(group["lr"])
        rates = of_each(lambda t: lr * ((1 - beta2**t) ** 0.5 / (1 - beta1**t)), steps)
        torch._foreach_mul_(directions, rates)
        torch._foreach_sub_(params, directions)


class Padam(Decayed, PadamBase):
    r"""Padam with an explicit decay rule; `PadamBase` has the equation.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 0.1 (the code's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to sqrt(v), before the bias correction. Default 1e-8.
        partial: the power of the second moment, in [0, 1/2]. Default 1/4 (the code's; the paper's
            runs have 1/8).
        amsgrad: divide by the maximum of all second moments so far. Default True (the code's).
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
        >>> optimizer = Padam(model.parameters(), weight_decay=5e-4)
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        partial: float = 1 / 4,
        amsgrad: bool = True,
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
            partial=partial,
            amsgrad=amsgrad,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
        )


def _inverse_square(grad: Tensor, state: State, group: Group) -> Tensor:
    """``v^(2 partial) / (1 - beta2^t)``: the code corrects the bias of ``sqrt(v)`` at any power."""
    beta2 = group["betas"][1]
    second = average(grad.square(), state, "exp_avg_sq", beta2)
    if group["amsgrad"]:
        second = maximum(second, state)
    return second.pow(2 * group["partial"]) / (1 - beta2 ** coming_step(state))


facts.declare(
    PadamBase,
    direction=facts.first_moment,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=first_moment_noise,
)
