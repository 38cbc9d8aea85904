"""SGD with the learning rate inside the momentum buffer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.effective_rate import SGDRate
from ..checks import Scalar
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import Independent
from ..tensors.reduction import real
from ..units.strength import Strength
from .base import BaseOptimizer, Group, Lists, State, scalar

__all__ = ["HeavyBall", "HeavyBallBase"]


class HeavyBallBase(BaseOptimizer):
    r"""``m <- momentum m + lr g``, ``w <- w - m``: the buffer holds steps, not gradients.

    ``torch.optim.SGD`` multiplies by the lr after the buffer. The two agree as long as the lr is
    constant; when it changes, each gradient keeps here the lr it came with, also in a step taken
    at ``lr = 0``, which therefore still moves the weights. Source: Loshchilov & Hutter 2019,
    Algorithm 1; Sutskever et al. 2013; the heavy ball of Polyak 1964.

    The arguments are those of `HeavyBall`, without the decay's.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> w.grad = torch.tensor([1.0])
        >>> optimizer = HeavyBallBase([w], lr=0.25, momentum=0.5)
        >>> optimizer.step()
        >>> optimizer.param_groups[0]["lr"] = 0.0
        >>> optimizer.step()
        >>> w.item()  # 1 - 0.25 - 0.125
        0.625
    """

    _counts_steps = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        defaults = {"lr": lr, "momentum": momentum, "foreach": foreach, "maximize": maximize}
        super().__init__(params, defaults)

    def _initial(self, group: Group) -> dict[str, float]:
        return {"momentum_buffer": 0.0}

    def _lists(self, group: Group) -> Lists:
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if p.grad.is_sparse:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [real(self.state[p]["momentum_buffer"]) for p in params]
        grads = [real(p.grad) for p in params]
        return Lists([real(p) for p in params], grads, {"momentum_buffer": buffers})

    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        p.sub_(state["momentum_buffer"].mul_(group["momentum"]).add_(grad * scalar(group["lr"])))

    def _multi(self, group: Group, lists: Lists) -> None:
        params, grads, state = lists
        buffers = state["momentum_buffer"]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, torch._foreach_mul(grads, scalar(group["lr"])))
        torch._foreach_sub_(params, buffers)


class HeavyBall(Decayed, HeavyBallBase):
    r"""The momentum of Loshchilov & Hutter's Algorithm 1, with an explicit decay rule.

    `HeavyBallBase` has the equation, and how it differs from torch's SGD.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (torch's of SGD).
        momentum: factor of the buffer. Default 0.9.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.
        decay: the decay rule, or its name. Default ``Independent()``, as in the paper's SGDW.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Raises:
        ValueError: for `Proximal`, which would shrink the lr that the buffer remembers.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = HeavyBall(model.parameters(), 0.1, weight_decay=1e-4)
    """

    default_rule = Independent()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
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
            momentum=momentum,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            decay=decay,
            peak_lr=peak_lr,
        )


def _direction(optimizer: Optimizer, group: Group, params: list[Tensor]) -> facts.Column:
    """The coming displacement."""
    lr, momentum = group["lr"], group["momentum"]

    def first(g: Tensor) -> Tensor:
        return lr * g

    def moved(g: Tensor, buffer: Tensor) -> Tensor:
        return lr * g + momentum * buffer

    grads = facts.gradients(optimizer, group, params)
    buffers = [(optimizer.state.get(p) or {}).get("momentum_buffer") for p in params]
    return [
        facts.Deferred(first, (g,)) if buffer is None else facts.Deferred(moved, (g, buffer))
        for g, buffer in zip(grads, buffers, strict=True)
    ]


class _Rate(SGDRate):
    """``1 / (1 - momentum)`` of each group."""

    def of(self, group: Group) -> Scalar:
        """Effective rate of a group."""
        return super().of({"dampening": 0.0, **group})


def _noise(group: Group) -> dict[str, Any]:
    momentum = float(group["momentum"])
    return {"momentum": momentum, "effective_rate": 1.0 / (1.0 - momentum)}


facts.declare(HeavyBallBase, direction=_direction, effective_rate=_Rate, noise=_noise)
