"""Adai, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..decay import L2Regularization
from ..decayed import Decayed
from ..rule import DecayRule
from ..strength import Strength
from . import native

__all__ = ["Adai"]


class Adai(Decayed, native.Adai):
    r"""Adai with an explicit decay rule; see `halflife.optim.native.Adai`.

    Momentum whose inertia adapts to each weight. With ``decay="decoupled"`` it is AdaiS, or AdaiW:
    its effective rate is 1, so that stable and decoupled decay are the same. Source: Xie et al.
    2022 (Adai) and 2023 (AdaiS).

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1.0 (the authors': that of SGD without momentum).
        betas: the mean of the gradient's weight in the momentum, and averaging factor of its
            square. Default (0.1, 0.99) (the paper's).
        eps: the smallest weight of the gradient in the momentum. Default 1e-3 (the paper's).
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        capturable: allow capture in a CUDA graph.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in the authors' code.
        peak_lr: the schedule's highest lr, for the rules that divide by it. Default: the group's lr
            at construction.
        **unknown: refused, naming the nearest keyword.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> adais = Adai(model.parameters(), lr=1.0, weight_decay=5e-4, decay="decoupled")
    """

    default_rule = L2Regularization()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.1, 0.99),
        eps: float = 1e-3,
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
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
            **unknown,
        )
