"""Adam as it is analysed: delta under the root, and no bias correction."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.mean_rate import MeanRate
from ..bases.noise import first_moment_noise
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import Decoupled
from ..tensors.reduction import real
from ..units.strength import Strength
from .base import BaseOptimizer, Group, Lists, State, check_betas, scalar

__all__ = ["AdamDelta", "AdamDeltaBase"]


class AdamDeltaBase(BaseOptimizer):
    r"""``w <- w - lr m / sqrt(n + delta)``, with m and n Adam's moments as they are.

    Source: Zhou et al. 2024, "Towards understanding convergence and generalization of AdamW",
    Algorithm 1. Their beta_1 and beta_2 are one minus those here. In the main text both moments
    start from the first gradient, in the proofs from zero.

    The arguments are those of `AdamDelta`, without the decay's.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> w.grad = torch.tensor([3.0])
        >>> AdamDeltaBase([w], lr=1.0, delta=16.0).step()  # 1 - 3 / sqrt(9 + 16)
        >>> round(w.item(), 6)
        0.4
    """

    _counts_steps = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        delta: float = 1e-4,
        moments: str = "gradient",
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check_betas(betas)
        if not 0.0 <= delta < math.inf:
            raise ValueError(f"Invalid delta value: {delta}")
        if moments not in ("gradient", "zero"):
            raise ValueError(f"Invalid moments value: {moments!r}, must be 'gradient' or 'zero'")
        defaults = {
            "lr": lr,
            "betas": betas,
            "delta": delta,
            "moments": moments,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _initial(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def _lists(self, group: Group) -> Lists:
        fresh = [
            p
            for p in group["params"]
            if p.grad is not None and "exp_avg" not in self.state.get(p, {})
        ]
        lists = super()._lists(group)
        if group["moments"] == "gradient":
            for p in fresh:
                grad, state = real(p.grad), self.state[p]
                real(state["exp_avg"]).copy_(-grad if group["maximize"] else grad)
                real(state["exp_avg_sq"]).copy_(grad).square_()
        return lists

    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        beta1, beta2 = group["betas"]
        exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
        exp_avg.lerp_(grad, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        denominator = (exp_avg_sq + group["delta"]).sqrt_()
        p.sub_((exp_avg / denominator).mul_(scalar(group["lr"])))

    def _multi(self, group: Group, lists: Lists) -> None:
        params, grads, state = lists
        beta1, beta2 = group["betas"]
        exp_avgs, exp_avg_sqs = state["exp_avg"], state["exp_avg_sq"]
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
        denominators = torch._foreach_add(exp_avg_sqs, group["delta"])
        torch._foreach_sqrt_(denominators)
        directions = torch._foreach_div(exp_avgs, denominators)
        torch._foreach_mul_(directions, scalar(group["lr"]))
        torch._foreach_sub_(params, directions)


class AdamDelta(Decayed, AdamDeltaBase):
    r"""Adam as convergence proofs have it, with an explicit decay rule.

    `AdamDeltaBase` has the equation. The paper's delta of 1e-4 is not torch's eps, which would be
    a delta of 1e-16: where gradients are small it makes Adam close to SGD.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3.
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999); the
            paper writes (0.1, 0.001).
        delta: added to the second moment, under the root. Unit: gradient squared. Default 1e-4
            (the paper's).
        moments: what the moments are before the first step: "gradient" (its own, and its square)
            or "zero".
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.
        decay: the decay rule, or its name. Default ``Decoupled()``, as in the paper.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = AdamDelta(model.parameters(), weight_decay=0.5, moments="zero")
    """

    default_rule = Decoupled()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        delta: float = 1e-4,
        moments: str = "gradient",
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
            delta=delta,
            moments=moments,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            decay=decay,
            peak_lr=peak_lr,
        )


def _direction(optimizer: Optimizer, group: Group, params: list[Tensor]) -> facts.Column:
    beta1, moments = group["betas"][0], group["moments"]

    def mean(m: Tensor, g: Tensor) -> Tensor:
        return torch.lerp(m, g, 1.0 - beta1)

    grads = facts.gradients(optimizer, group, params)
    averages = [(optimizer.state.get(p) or {}).get("exp_avg") for p in params]
    return [
        facts.Deferred(mean, (m, g))
        if m is not None
        else (g if moments == "gradient" else (1.0 - beta1) * g)
        for m, g in zip(averages, grads, strict=True)
    ]


def _preconditioner(optimizer: Optimizer, group: Group, params: list[Tensor]) -> facts.Column:
    def metric(v: Tensor) -> Tensor:
        return (v + group["delta"]).sqrt_()

    return [facts.Deferred(metric, (optimizer.state[p]["exp_avg_sq"],)) for p in params]


def _inverse_square(grad: Tensor, state: State, group: Group) -> Tensor:
    """``n + delta``: here delta is part of the method, and no guard against zero."""
    second = _moment(grad.square(), state, "exp_avg_sq", group["betas"][1], group["moments"])
    return second + group["delta"]


def _moment(new: Tensor, state: State, key: str, beta: float, moments: str) -> Tensor:
    """The moment of the coming step."""
    if key in state:
        return torch.lerp(real(state[key]).to(new.dtype), new, 1.0 - beta)
    return new if moments == "gradient" else new * (1.0 - beta)


facts.declare(
    AdamDeltaBase,
    direction=_direction,
    preconditioner=_preconditioner,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=first_moment_noise,
)
