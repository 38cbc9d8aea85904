"""Yogi, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..decay import L2Regularization
from ..decayed import Decayed
from ..rule import DecayRule
from ..strength import Strength
from . import native

__all__ = ["Yogi"]


class Yogi(Decayed, native.Yogi):
    r"""Yogi with an explicit decay rule; see `halflife.optim.native.Yogi`.

    Adam with ``v <- v - (1 - beta2) sign(v - g^2) g^2``: the second moment never falls faster than
    by the squares of the gradients that come in. Source: Zaheer et al. 2018.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-2 (the paper's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-3 (the paper's).
        initial_accumulator: what both moments start from. Default 1e-6.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        capturable: allow capture in a CUDA graph.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in the paper's code.
        peak_lr: the schedule's highest lr, for the rules that divide by it. Default: the group's lr
            at construction.
        **unknown: refused, naming the nearest keyword.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Yogi(model.parameters(), weight_decay=0.01, decay="decoupled")
    """

    default_rule = L2Regularization()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        weight_decay: float | Strength = 0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        decay: DecayRule | str | None = None,
        peak_lr: float | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            initial_accumulator=initial_accumulator,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
            **unknown,
        )
