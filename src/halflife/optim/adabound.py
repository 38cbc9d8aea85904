"""AdaBound: Adam whose elementwise lr is clipped to a band that closes on a constant, SGD's."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ..bases.mean_rate import MeanRate, average, coming_step, maximum
from ..bases.noise import first_moment_noise
from ..checks import Scalar, is_number
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

__all__ = ["AdaBound", "AdaBoundBase", "bounds"]


class AdaBoundBase(BaseOptimizer):
    r"""``w <- w - clip(lr (sqrt(1 - beta2^t) / (1 - beta1^t)) / (sqrt(v) + eps), low, high) m``.

    The band is ``low = f (1 - 1 / (gamma t + 1))``, ``high = f (1 + 1 / (gamma t))`` with ``f =
    final_lr lr / base_lr``: Adam in the beginning, SGD with momentum and the lr ``f`` in the end.
    Source: Luo et al. 2019, as in its code, which has not the paper's ``1/sqrt(t)``.

    The arguments are those of `AdaBound`, without the decay's.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> w.grad = torch.tensor([1.0])
        >>> optimizer = AdaBoundBase([w], lr=0.5, betas=(0.0, 0.0), final_lr=0.25, gamma=1e12)
        >>> optimizer.step()  # the band has closed: SGD with lr 0.25
        >>> round(w.item(), 6)
        0.75
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        amsbound: bool = False,
        *,
        base_lr: float | None = None,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
    ) -> None:
        check_betas(betas)
        check_eps(eps)
        if not final_lr >= 0.0:
            raise ValueError(f"Invalid final learning rate: {final_lr}")
        if not gamma > 0.0:
            raise ValueError(f"Invalid gamma value: {gamma}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "final_lr": final_lr,
            "gamma": gamma,
            "amsbound": amsbound,
            "base_lr": base_lr,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group, and keep its lr as the one at which ``final_lr`` holds.

        Raises:
            ValueError: if that lr is not positive.
        """
        given = {**self.defaults, **param_group}
        base_lr = given["lr"] if given["base_lr"] is None else given["base_lr"]
        known = is_number(base_lr) or isinstance(base_lr, Tensor)
        if not known or not base_lr > 0.0:
            raise ValueError(
                f"Invalid base_lr value: {base_lr!r} (final_lr is scaled by lr / base_lr; "
                "pass base_lr= where the lr starts at 0)"
            )
        param_group["base_lr"] = float(base_lr)
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore; a checkpoint of another implementation has no ``base_lr``, ours keep theirs."""
        super().__setstate__(state)
        for group in self.param_groups:
            if group["base_lr"] is None:
                group["base_lr"] = float(group.get("initial_lr", group["lr"]))

    def _initial(self, group: Group) -> dict[str, float]:
        maximum = ("max_exp_avg_sq",) if group["amsbound"] else ()
        return dict.fromkeys(("exp_avg", "exp_avg_sq", *maximum), 0.0)

    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        (beta1, beta2), t = group["betas"], state["step"]
        exp_avg, second = moments(group, grad, state)
        correction = (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        rate = second.sqrt().add_(group["eps"]).reciprocal_().mul_(scalar(group["lr"]) * correction)
        band: Any = bounds(group, t)
        p.sub_(rate.clamp_(*band).mul_(exp_avg))

    def _multi(self, group: Group, lists: Lists) -> None:
        params, grads, state = lists
        (beta1, beta2), steps = group["betas"], state["step"]
        exp_avgs, seconds = moments_of_many(group, grads, state)
        rates = torch._foreach_sqrt(seconds)
        torch._foreach_add_(rates, group["eps"])
        torch._foreach_reciprocal_(rates)
        lr = scalar(group["lr"])
        torch._foreach_mul_(
            rates, of_each(lambda t: lr * ((1 - beta2**t) ** 0.5 / (1 - beta1**t)), steps)
        )
        torch._foreach_clamp_min_(rates, of_each(lambda t: bounds(group, t)[0], steps))
        torch._foreach_clamp_max_(rates, of_each(lambda t: bounds(group, t)[1], steps))
        torch._foreach_mul_(rates, exp_avgs)
        torch._foreach_sub_(params, rates)


class AdaBound(Decayed, AdaBoundBase):
    r"""AdaBound with an explicit decay rule; `AdaBoundBase` has the equation.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate of the beginning. Default 1e-3 (the code's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to sqrt(v), before the bias correction. Default 1e-8.
        final_lr: learning rate of the end, at ``lr = base_lr``. Default 0.1 (the code's).
        gamma: how fast the band closes, per step. Default 1e-3 (the code's).
        amsbound: divide by the maximum of all second moments so far.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        base_lr: the lr at which ``final_lr`` holds, so that a schedule scales both; kept in the
            group. Default: the group's lr when it is added. (Not ``peak_lr``: that one is the
            decay's.)
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.
        capturable: allow capture in a CUDA graph.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in the paper's code.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = AdaBound(model.parameters(), final_lr=0.05, weight_decay=5e-4)
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        amsbound: bool = False,
        weight_decay: float | Tensor | Strength = 0,
        *,
        base_lr: float | None = None,
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
            final_lr=final_lr,
            gamma=gamma,
            amsbound=amsbound,
            weight_decay=weight_decay,
            base_lr=base_lr,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
        )


def bounds(group: dict[str, Any], t: Scalar) -> tuple[Scalar, Scalar]:
    """The band of the elementwise lr at a group's step ``t``, counted from 1.

    Example:
        >>> bounds({"lr": 0.5, "base_lr": 1.0, "final_lr": 0.5, "gamma": 1.0}, 1)
        (0.125, 0.5)
    """
    final = group["final_lr"] * scalar(group["lr"]) / group["base_lr"]
    gamma = group["gamma"]
    return final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))


def _inverse_square(grad: Tensor, state: State, group: Group) -> Tensor:
    """``(lr / ((1 - beta1^t) rate))^2``, ``rate`` the clipped lr: Adam's where it is not."""
    (beta1, beta2), t = group["betas"], coming_step(state)
    second = average(grad.square(), state, "exp_avg_sq", beta2)
    if group["amsbound"]:
        second = maximum(second, state)
    # The band is proportional to the lr, which thus cancels; so the rate is defined at lr = 0 too.
    low, high = bounds({**group, "lr": 1.0}, t)
    correction1, correction2 = 1 - beta1**t, 1 - beta2**t
    rate = (second.rsqrt() * (correction2**0.5 / correction1)).clamp(low, high)
    return (rate * correction1).pow(-2)


facts.declare(
    AdaBoundBase,
    direction=facts.first_moment,
    effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square),
    noise=first_moment_noise,
)
