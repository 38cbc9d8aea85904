"""SGD with the learning rate inside the momentum buffer, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from .. import facts
from ..decay import Independent
from ..decayed import Decayed
from ..effective_rate import SGDRate
from ..rule import DecayRule
from ..step import Scalar
from ..strength import Strength
from .native.heavy_ball import HeavyBall as NativeHeavyBall

__all__ = ["HeavyBall"]


class HeavyBall(Decayed, NativeHeavyBall):
    r"""SGD with ``m <- momentum m + lr g``, ``w <- w - m``, and an explicit decay rule.

    The momentum of Loshchilov & Hutter's Algorithm 1; see
    `halflife.optim.native.heavy_ball.HeavyBall` for how it differs from torch's SGD.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (torch's of SGD).
        momentum: factor of the buffer. Default 0.9.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        decay: the decay rule, or its name. Default ``Independent()``, as in the paper's SGDW.
        peak_lr: the schedule's highest lr, for the rules that divide by it. Default: the group's
            lr at construction.
        **unknown: refused, naming the nearest keyword.

    Raises:
        ValueError: for `Proximal`, which would shrink the lr that the buffer remembers.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = HeavyBall(model.parameters(), 0.1, weight_decay=1e-4)
    """

    default_rule = Independent()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
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
            momentum=momentum,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            decay=decay,
            peak_lr=peak_lr,
            **unknown,
        )


class _Rate(SGDRate):
    """``1 / (1 - momentum)`` of each group."""

    def of(self, group: dict[str, Any]) -> Scalar:
        """Effective rate of a group."""
        return super().of({"dampening": 0.0, **group})


def _direction(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
    lr, momentum = group["lr"], group["momentum"]
    steps = [lr * g for g in facts.gradients(optimizer, group, params)]
    buffers = [(optimizer.state.get(p) or {}).get("momentum_buffer") for p in params]
    return [
        step if buffer is None else step + momentum * buffer
        for step, buffer in zip(steps, buffers, strict=True)
    ]


facts.declare(NativeHeavyBall, effective_rate=_Rate)
facts.declare(NativeHeavyBall, direction=_direction)
