"""What a base optimizer declares about its update, for the rules that need more than scalars.

A fact is a function; there are six:

    direction        (optimizer, group, params), before the native step: the coming update direction
                     ``u``, up to a positive factor per element, so that its sign is exact
    preconditioner   (optimizer, group, params), after the native step: ``D`` of the metric in which
                     the base takes its step, ``sqrt(v_hat) + eps`` for Adam
    effective_rate   (optimizer, reduction): what measures the base's own step scale in training;
                     see `halflife.bases.effective_rate`
    noise            (group): what is known of the updates before training; see
                     `halflife.bases.noise`
    gradient_norm    (optimizer): the tensors of each group whose norm it is; declared once, for
                     every optimizer
    weight_norm      (optimizer): the same of the weights

A class inherits the facts of its bases. Declare those of your own optimizer with `declare`, beside
its class. Where a direction or preconditioner is an elementwise function, it may be returned as
`Deferred`: a map then evaluates it piece by piece, in the cache, and never holds it for the whole
model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from ..tensors.reduction import is_sharded
from ..versions import ADAMS

__all__ = [
    "Column",
    "Deferred",
    "Fact",
    "ask",
    "declare",
    "direction",
    "fact",
    "first_moment",
    "gradients",
    "preconditioner_column",
]


@dataclass(frozen=True)
class Deferred:
    """An elementwise function of tensors of one shape, not evaluated yet.

    Args:
        function: makes a tensor of the same shape, and writes to none of its arguments.
        tensors: its arguments.

    Example:
        >>> product = Deferred(torch.mul, (torch.arange(4.0), torch.arange(4.0)))
        >>> product[2:].value()
        tensor([4., 9.])
    """

    function: Callable[..., Tensor]
    tensors: tuple[Tensor, ...]

    def value(self) -> Tensor:
        """The whole tensor."""
        return self.function(*self.tensors)

    def of(self, part: Callable[[Tensor], Tensor]) -> Deferred:
        """The same function of a part of each tensor."""
        return Deferred(self.function, tuple(map(part, self.tensors)))

    def __getitem__(self, index: Any) -> Deferred:
        """What an index takes of it."""
        return self.of(lambda tensor: tensor[index])


Column: TypeAlias = "Sequence[Tensor | Deferred]"  # one entry for each parameter
Fact: TypeAlias = Callable[..., Any]

_NAMES = (
    "direction", "preconditioner", "effective_rate", "noise", "gradient_norm", "weight_norm",
)  # fmt: skip
_FACTS: dict[str, dict[type[Optimizer], Fact]] = {name: {} for name in _NAMES}


def declare(cls: type[Optimizer], **facts: Fact) -> None:
    """Declare facts of an optimizer class by their names; subclasses inherit them.

    Raises:
        TypeError: for a fact that no rule knows.

    Example:
        >>> class Signed(torch.optim.Optimizer): ...
        >>> declare(Signed, noise=lambda group: {"momentum": 0.0, "update_rms": 1.0})
        >>> fact("noise", Signed)({})
        {'momentum': 0.0, 'update_rms': 1.0}
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
    return _evaluated(ask("direction", optimizer, group, params))


def preconditioner_column(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]
) -> list[Tensor]:
    """``D`` of each parameter, after the native step."""
    return _evaluated(ask("preconditioner", optimizer, group, params))


def ask(name: str, optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> Column:
    """A fact as the optimizer's class declares it, evaluated or not.

    Raises:
        ValueError: if it declares none.
    """
    cls = getattr(optimizer, "kind", type(optimizer))
    function = fact(name, cls)
    if function is None:
        raise ValueError(
            f"{cls.__name__} declares no {name}, which this rule needs; choose another "
            "rule, or declare it with halflife.rules.facts.declare."
        )
    return function(optimizer, group, params)


def _evaluated(column: Column) -> list[Tensor]:
    return [entry.value() if isinstance(entry, Deferred) else entry for entry in column]


def gradients(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
    """The gradients to descend along: unscaled, and negated where the base ascends.

    They are the direction of bases that only scale them: Adagrad, Adadelta, ASGD.

    Raises:
        ValueError: if one is sparse, which has no direction where it has no entry.
    """
    factor: Any = -1.0 if group.get("maximize") else 1.0
    if (scale := getattr(optimizer, "grad_scale", None)) is not None:
        factor = factor / scale
    grads: list[Any] = [p.grad for p in params]
    if any(g.is_sparse for g in grads):
        raise ValueError(
            f"decay={group.get('decay')!r}: a gradient is sparse, and the rule looks at the "
            "direction of every weight; use sparse=False in the embedding, or decay='decoupled'."
        )
    if isinstance(factor, float) and factor == 1.0:
        return grads
    if any(map(is_sharded, grads)):  # foreach takes no mixture of them and plain tensors
        return [g * factor for g in grads]
    with torch.no_grad():
        return list(torch._foreach_mul(grads, factor))


def first_moment(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor], start: float = 0.0
) -> Column:
    """``beta1 m + (1 - beta1) g``, the direction of Adam's relatives; ``m`` begins at ``start``."""
    beta1 = float(group["betas"][0])

    def mean(m: Tensor, g: Tensor) -> Tensor:
        return torch.lerp(m, g, 1.0 - beta1)

    grads = gradients(optimizer, group, params)
    moments = [(optimizer.state.get(p) or {}).get("exp_avg") for p in params]
    return [
        Deferred(mean, (torch.full_like(g, start) if m is None else m, g))
        for m, g in zip(moments, grads, strict=True)
    ]


def _adam_direction(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> Column:
    beta1 = float(group["betas"][0])

    def mean(m: Tensor, g: Tensor) -> Tensor:
        return torch.lerp(m, g, 1.0 - beta1)

    grads = gradients(optimizer, group, params)
    moments = [(optimizer.state.get(p) or {}).get("exp_avg") for p in params]
    return [
        (1.0 - beta1) * g if m is None else Deferred(mean, (m, g))
        for m, g in zip(moments, grads, strict=True)
    ]


def _adam_preconditioner(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]
) -> Column:
    key = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
    eps = group["eps"]

    def corrected(v: Tensor, correction: Any) -> Tensor:
        return v.sqrt().div_(correction).add_(eps)

    # One function for all tensors that have taken as many steps.
    by_number: dict[float, Callable[..., Tensor]] = {}
    states = [optimizer.state[p] for p in params]
    corrections = _roots_of_corrections(group["betas"][1], states, params)
    return [
        Deferred(corrected, (s[key], c))
        if isinstance(c, Tensor)
        else Deferred(
            by_number.setdefault(c, functools.partial(corrected, correction=c)), (s[key],)
        )
        for s, c in zip(states, corrections, strict=True)
    ]


def _roots_of_corrections(
    beta2: Any, states: list[dict[str, Any]], params: list[Tensor]
) -> Sequence[float | Tensor]:
    """``sqrt(1 - beta2^t)`` of each, as a number where that costs no wait for a device."""
    steps = [state["step"] for state in states]
    number = not isinstance(beta2, Tensor) and not torch.compiler.is_compiling()
    # A first step that a scaler skips leaves the count at 0, and nothing may become 0 / 0.
    if number and all(step.is_cpu for step in steps):
        return [math.sqrt(1.0 - beta2 ** max(step.item(), 1.0)) for step in steps]
    found: list[Any] = [None] * len(params)
    devices: dict[Any, list[int]] = {}
    for i, (step, p) in enumerate(zip(steps, params, strict=True)):
        devices.setdefault((step.device, p.device), []).append(i)
    for (_, device), places in devices.items():
        counts = torch.stack([steps[i] for i in places])
        counts = (counts if counts.device.type == "mps" else counts.double()).clamp(min=1.0)
        roots = (1.0 - beta2**counts).sqrt().to(device, non_blocking=True)
        for i, root in zip(places, roots.unbind(), strict=True):
            found[i] = root
    return found


def _sgd_direction(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> Column:
    momentum, grads = group["momentum"], gradients(optimizer, group, params)
    if not momentum:
        return grads
    kept = 1.0 - group["dampening"]

    def moved(buffer: Tensor, g: Tensor) -> Tensor:
        moment = (momentum * buffer).add_(g, alpha=kept)
        return moment.mul_(momentum).add_(g) if group["nesterov"] else moment

    directions: list[Tensor | Deferred] = []
    for p, g in zip(params, grads, strict=True):
        buffer = (optimizer.state.get(p) or {}).get("momentum_buffer")
        if buffer is not None:
            directions.append(Deferred(moved, (buffer, g)))
        else:
            directions.append(g + momentum * g if group["nesterov"] else g)
    return directions


def _all_gradients(optimizer: Optimizer) -> list[list[Tensor]]:
    return [[p.grad for p in params] for params in _all_weights(optimizer)]


def _all_weights(optimizer: Optimizer) -> list[list[Any]]:
    return [[p for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]


declare(Optimizer, gradient_norm=_all_gradients, weight_norm=_all_weights)
for _adam in ADAMS:
    declare(_adam, direction=_adam_direction, preconditioner=_adam_preconditioner)
declare(SGD, direction=_sgd_direction)
