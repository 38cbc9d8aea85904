"""Update directions of the bases other than Adam and SGD, for the rules that look at signs.

Each function returns the direction of the step about to be taken, up to a positive factor per
element; see `halflife.facts`. None is declared for Muon, whose update mixes the elements of a
matrix, nor for Adai and Rprop.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import ASGD, Adadelta, Adagrad, Adamax, NAdam, Optimizer, RAdam, RMSprop

from .. import facts
from . import native

__all__ = ["first_moment", "gradient", "nadam", "rmsprop", "yogi"]

Group: TypeAlias = "dict[str, Any]"


def gradient(optimizer: Optimizer, group: Group, params: list[Tensor]) -> list[Tensor]:
    """The gradient: bases that only scale it (Adagrad, Adadelta, ASGD)."""
    return facts.gradients(optimizer, group, params)


def first_moment(optimizer: Optimizer, group: Group, params: list[Tensor]) -> facts.Column:
    """``beta1 m + (1 - beta1) g``: Adam's relatives, and Lion, which takes the sign of it."""
    return _moment(optimizer, group, params, start=0.0)


def yogi(optimizer: Optimizer, group: Group, params: list[Tensor]) -> facts.Column:
    """As `first_moment`, from Yogi's initial value."""
    return _moment(optimizer, group, params, start=group["initial_accumulator"])


def nadam(optimizer: Optimizer, group: Group, params: list[Tensor]) -> list[Tensor]:
    """``(1 - mu_t)/(1 - prod mu) g + mu_next/(1 - prod mu mu_next) m_t``."""
    beta1, decay = float(group["betas"][0]), group["momentum_decay"]
    moments = first_moment(optimizer, group, params)
    grads = facts.gradients(optimizer, group, params)
    directions = []
    for p, moment, g in zip(params, moments, grads, strict=True):
        m = moment.value() if isinstance(moment, facts.Deferred) else moment
        state = optimizer.state.get(p) or {}
        t = state.get("step", torch.zeros(())) + 1.0
        mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * decay))
        following = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1.0) * decay))
        product = state.get("mu_product", torch.ones(())) * mu
        ahead = g * ((1.0 - mu) / (1.0 - product)).to(g.device)
        directions.append(ahead + m * (following / (1.0 - product * following)).to(g.device))
    return directions


def rmsprop(optimizer: Optimizer, group: Group, params: list[Tensor]) -> list[Tensor]:
    """The gradient; with momentum, the buffer of gradients over their root mean square."""
    grads = facts.gradients(optimizer, group, params)
    if not group["momentum"]:
        return grads
    alpha, directions = group["alpha"], []
    for p, g in zip(params, grads, strict=True):
        state = optimizer.state.get(p) or {}
        second = (1.0 - alpha) * g * g
        if state:
            second = second + alpha * state["square_avg"]
        if group["centered"]:
            mean = (1.0 - alpha) * g
            if state:
                mean = mean + alpha * state["grad_avg"]
            second = second - mean * mean
        scaled = g / (second.sqrt() + group["eps"])
        if state:
            scaled = scaled + group["momentum"] * state["momentum_buffer"]
        directions.append(scaled)
    return directions


def _moment(optimizer: Optimizer, group: Group, params: list[Tensor], start: float) -> facts.Column:
    beta1 = float(group["betas"][0])

    def mean(m: Tensor, g: Tensor) -> Tensor:
        return torch.lerp(m, g, 1.0 - beta1)

    grads = facts.gradients(optimizer, group, params)
    moments = [(optimizer.state.get(p) or {}).get("exp_avg") for p in params]
    return [
        facts.Deferred(mean, (torch.full_like(g, start) if m is None else m, g))
        for m, g in zip(moments, grads, strict=True)
    ]


_DECLARED: dict[facts.Fact, tuple[type[Optimizer], ...]] = {
    gradient: (Adagrad, Adadelta, ASGD),
    first_moment: (RAdam, Adamax, native.Padam, native.AdaBound, native.Lion),
    yogi: (native.Yogi,),
    nadam: (NAdam,),
    rmsprop: (RMSprop,),
}
for _direction, _bases in _DECLARED.items():
    for _base in _bases:
        facts.declare(_base, direction=_direction)
