"""Adai: momentum whose inertia, not step size, adapts to each weight's gradients."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..bases.mean_rate import UnitRate
from ..checks import Scalar
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..tensors.reduction import WholeModel
from ..units.strength import Strength
from .base import BaseOptimizer, Group, Lists, State, check_betas, of_each, scalar

__all__ = ["Adai", "AdaiBase"]


class AdaiBase(BaseOptimizer):
    r"""``w <- w - lr m_hat`` with a momentum factor per weight, ``1 - k``.

    ``k = clip(beta0 v_hat / mean(v_hat), eps, 1)``, ``m <- m + k (g - m)``, ``m_hat = m / c`` with
    ``c = 1 - prod(1 - k)``. The mean is over all parameters with a gradient, of all groups. Where
    gradients are noisy there is little inertia; the step size is the same for all weights, so this
    is SGD's lr, not Adam's. While all gradients are zero, nothing moves.

    Source: Xie et al. 2022, "Adaptive Inertia", and the code of Xie et al. 2023. The state holds
    ``c`` itself where that code holds the product of ``1 - k``: near the start the difference of
    that product to 1 loses digits, in bfloat16 all of them.

    The arguments are those of `Adai`, without the decay's.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> w.grad = torch.tensor([0.5])
        >>> AdaiBase([w], lr=0.5).step()
        >>> w.item()
        0.75
    """

    # What "the whole model" is; see halflife.tensors.reduction.
    reduction: ClassVar[WholeModel] = WholeModel()

    spans_model: ClassVar[bool] = True  # the mean is over all parameters

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.1, 0.99),
        eps: float = 1e-3,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
    ) -> None:
        if not betas[0] >= 0.0:  # not an averaging factor: any multiple of the mean will do
            raise ValueError(f"Invalid beta parameter at index 0: {betas[0]}")
        check_betas((0.0, betas[1]))
        if not 0.0 < eps < 1.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _initial(self, group: Group) -> dict[str, float]:
        return dict.fromkeys(("exp_avg", "exp_avg_sq", "bias_correction"), 0.0)

    def _prepare(self, work: list[tuple[Group, Lists]]) -> None:
        """Advance all second moments, and take the mean of the corrected ones."""
        squares, corrections = [], []
        for group, lists in work:
            beta2, state = group["betas"][1], lists.state
            for part in lists.by_device_and_dtype():
                torch._foreach_mul_(part.state["exp_avg_sq"], beta2)
                torch._foreach_addcmul_(
                    part.state["exp_avg_sq"], part.grads, part.grads, value=1 - beta2
                )
            squares += state["exp_avg_sq"]
            corrections += of_each(functools.partial(_correction, beta2), state["step"])
        if squares:
            terms = self.reduction.sums_of_nonnegative(squares)
            total = self.reduction.total(terms / _column(corrections, terms))
            mean = total / max(self.reduction.numel(squares), 1)  # all may be empty
            inverse = torch.where(mean > 0.0, 1.0 / mean, 0.0)
            for _, lists in work:
                lists.state["inverse_mean"] = [inverse.to(p.device) for p in lists.params]

    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        (beta0, beta2), t = group["betas"], state["step"]
        exp_avg, correction = state["exp_avg"], state["bias_correction"]
        k = state["exp_avg_sq"] * (beta0 / (1 - beta2**t))
        k.mul_(state["inverse_mean"]).clamp_(group["eps"], 1.0)
        exp_avg.addcmul_(k, grad - exp_avg)
        correction.addcmul_(k, 1 - correction)
        p.sub_((exp_avg / correction).mul_(scalar(group["lr"])))

    def _multi(self, group: Group, lists: Lists) -> None:
        params, grads, state = lists
        beta0, beta2 = group["betas"]
        exp_avgs, corrections = state["exp_avg"], state["bias_correction"]
        scales = of_each(lambda t: beta0 / (1 - beta2**t), state["step"])
        ks = torch._foreach_mul(state["exp_avg_sq"], scales)
        torch._foreach_mul_(ks, state["inverse_mean"][0])  # one number, of this device
        torch._foreach_clamp_min_(ks, group["eps"])
        torch._foreach_clamp_max_(ks, 1.0)
        # Not lerp: torch.compile takes only its scalar form.
        torch._foreach_addcmul_(exp_avgs, ks, torch._foreach_sub(grads, exp_avgs))
        rest = torch._foreach_neg(corrections)
        torch._foreach_add_(rest, 1)
        torch._foreach_addcmul_(corrections, ks, rest)
        directions = torch._foreach_div(exp_avgs, corrections)
        torch._foreach_mul_(directions, scalar(group["lr"]))
        torch._foreach_sub_(params, directions)


class Adai(Decayed, AdaiBase):
    r"""Adai with an explicit decay rule; `AdaiBase` has the equation.

    With ``decay="decoupled"`` it is AdaiS, or AdaiW: its effective rate is 1, so that stable and
    decoupled decay are the same.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1.0: the authors recommend SGD's without momentum, which is 10
            times the lr of SGD with momentum 0.9.
        betas: ``beta0``, the mean of the gradient's weight ``k`` in the momentum, and averaging
            factor of its square. Default (0.1, 0.99) (the paper's).
        eps: the smallest ``k``: no inertia above ``1 - eps``. Default 1e-3 (the paper's).
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.
        capturable: allow capture in a CUDA graph.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in the authors' code.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> adais = Adai(model.parameters(), lr=1.0, weight_decay=5e-4, decay="decoupled")
    """

    default_rule = L2Regularization()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.1, 0.99),
        eps: float = 1e-3,
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
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
        )


def _correction(beta2: float, t: Any) -> Any:
    return 1 - beta2**t


def _column(values: list[Scalar], terms: Tensor) -> Tensor:
    devices = {value.device if isinstance(value, Tensor) else None for value in values}
    if devices == {None}:
        return terms.new_tensor(values)
    if len(devices) == 1:
        return torch.stack(values).to(terms)  # type: ignore[arg-type]
    return torch.stack([torch.as_tensor(value).to(terms) for value in values])


def _noise(group: Group) -> dict[str, Any]:
    return {"effective_rate": 1.0, "reason": "its momentum is each weight's own"}


facts.declare(AdaiBase, effective_rate=UnitRate, noise=_noise)
