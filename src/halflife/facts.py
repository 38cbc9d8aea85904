"""What a base optimizer declares about its update, for the rules that need more than scalars.

A fact is a function of the optimizer, one of its groups and that group's parameters:

    direction        before the native step: the coming update direction ``u``, up to a positive
                     factor per element, so that its sign is exact
    preconditioner   after the native step: ``D`` of the metric in which the base takes its step,
                     ``sqrt(v_hat) + eps`` for Adam

A class inherits the facts of its bases. Declare those of your own optimizer with `declare`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

__all__ = ["Fact", "declare", "direction", "fact", "gradients", "preconditioner"]

Fact: TypeAlias = Callable[[Optimizer, dict[str, Any], list[Tensor]], list[Tensor]]

_FACTS: dict[str, dict[type[Optimizer], Fact]] = {"direction": {}, "preconditioner": {}}


def declare(cls: type[Optimizer], **facts: Fact) -> None:
    """Declare facts of an optimizer class: ``direction=``, ``preconditioner=``.

    Raises:
        TypeError: for a fact that no rule knows.
    """
    for name, function in facts.items():
        if name not in _FACTS:
            raise TypeError(f"{name}: unknown fact; a class may declare {', '.join(_FACTS)}.")
        _FACTS[name][cls] = function


def fact(name: str, cls: type[Optimizer]) -> Fact | None:
    """The fact that a class or its nearest base declares, or None.

    Example:
        >>> fact("preconditioner", torch.optim.AdamW) is not None
        True
        >>> fact("preconditioner", torch.optim.SGD) is None
        True
    """
    return next((_FACTS[name][base] for base in cls.__mro__ if base in _FACTS[name]), None)


def direction(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
    """The coming update direction of each parameter, up to a positive factor per element."""
    return _ask("direction", optimizer, group, params)


def preconditioner(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]
) -> list[Tensor]:
    """``D`` of each parameter, after the native step."""
    return _ask("preconditioner", optimizer, group, params)


def _ask(
    name: str, optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]
) -> list[Tensor]:
    function = fact(name, type(optimizer))
    if function is None:
        raise ValueError(
            f"{type(optimizer).__name__} declares no {name}, which this rule needs; choose another "
            "rule, or declare it with halflife.facts.declare."
        )
    return function(optimizer, group, params)


def gradients(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
    """The gradients to descend along: unscaled, and negated where the base ascends."""
    factor: Any = -1.0 if group.get("maximize") else 1.0
    if (scale := getattr(optimizer, "grad_scale", None)) is not None:
        factor = factor / scale
    grads: list[Any] = [p.grad for p in params]
    return grads if isinstance(factor, float) and factor == 1.0 else [g * factor for g in grads]


def _adam_direction(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]
) -> list[Tensor]:
    beta1 = float(group["betas"][0])
    grads = gradients(optimizer, group, params)
    moments = [(optimizer.state.get(p) or {}).get("exp_avg") for p in params]
    return [
        (1.0 - beta1) * g if m is None else torch.lerp(m, g, 1.0 - beta1)
        for m, g in zip(moments, grads, strict=True)
    ]


def _adam_preconditioner(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]
) -> list[Tensor]:
    key = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
    beta2 = group["betas"][1]
    metric = []
    for p in params:
        state = optimizer.state[p]
        step = state["step"]
        step = step if step.device.type == "mps" else step.double()
        correction = (1.0 - beta2**step).sqrt().to(p.device)
        metric.append((state[key].sqrt() / correction).add_(group["eps"]))
    return metric


def _sgd_direction(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]
) -> list[Tensor]:
    momentum, grads = group["momentum"], gradients(optimizer, group, params)
    if not momentum:
        return grads
    directions = []
    for p, g in zip(params, grads, strict=True):
        buffer = (optimizer.state.get(p) or {}).get("momentum_buffer")
        if buffer is not None:
            buffer = torch.add(momentum * buffer, g, alpha=1.0 - group["dampening"])
        else:
            buffer = g
        directions.append(g + momentum * buffer if group["nesterov"] else buffer)
    return directions


declare(Adam, direction=_adam_direction, preconditioner=_adam_preconditioner)
declare(SGD, direction=_sgd_direction)
