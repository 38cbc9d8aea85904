"""Adam as it is analysed, with the decay rule as an argument."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import facts
from ..decay import Decoupled
from ..decayed import Decayed
from ..reduction import real
from ..rule import DecayRule
from ..strength import Strength
from .native.adam_delta import AdamDelta as NativeAdamDelta
from .rates import MeanRate

__all__ = ["AdamDelta"]


class AdamDelta(Decayed, NativeAdamDelta):
    r"""Adam with delta under the root, no bias correction, and an explicit decay rule.

    ``w <- w - lr m / sqrt(n + delta)``, as the convergence proofs of Zhou et al. 2024 have it; see
    `halflife.optim.native.adam_delta.AdamDelta`. Their delta of 1e-4 is not torch's eps, which
    would be a delta of 1e-16: where gradients are small it makes Adam close to SGD.

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
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        decay: the decay rule, or its name. Default ``Decoupled()``, as in the paper.
        peak_lr: the schedule's highest lr, for the rules that divide by it. Default: the group's
            lr at construction.
        **unknown: refused, naming the nearest keyword.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = AdamDelta(model.parameters(), weight_decay=0.5, moments="zero")
    """

    default_rule = Decoupled()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        delta: float = 1e-4,
        moments: str = "gradient",
        weight_decay: float | Strength = 0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        decay: DecayRule | str | None = None,
        peak_lr: float | None = None,
        **unknown: Any,
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
            **unknown,
        )


def _moment(new: Tensor, state: dict[str, Any], key: str, beta: float, moments: str) -> Tensor:
    """The moment of the coming step."""
    if key in state:
        return torch.lerp(real(state[key]).to(new.dtype), new, 1.0 - beta)
    return new if moments == "gradient" else new * (1.0 - beta)


def _inverse_square(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """``n + delta``: here delta is part of the method, and no guard against zero."""
    second = _moment(grad.square(), state, "exp_avg_sq", group["betas"][1], group["moments"])
    return second + group["delta"]


def _direction(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
    beta1, moments = group["betas"][0], group["moments"]
    grads = facts.gradients(optimizer, group, params)
    return [
        torch.lerp(state["exp_avg"], g, 1.0 - beta1)
        if (state := optimizer.state.get(p) or {}).get("exp_avg") is not None
        else (g if moments == "gradient" else (1.0 - beta1) * g)
        for p, g in zip(params, grads, strict=True)
    ]


def _preconditioner(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]
) -> list[Tensor]:
    return [(optimizer.state[p]["exp_avg_sq"] + group["delta"]).sqrt_() for p in params]


facts.declare(
    NativeAdamDelta, effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square)
)
facts.declare(NativeAdamDelta, direction=_direction, preconditioner=_preconditioner)
