"""Padam, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..decay import L2Regularization
from ..decayed import Decayed
from ..rule import DecayRule
from ..strength import Strength
from . import native

__all__ = ["Padam"]


class Padam(Decayed, native.Padam):
    r"""Padam with an explicit decay rule; see `halflife.optim.native.Padam`.

    Adam with the power ``partial`` of the second moment in place of 1/2. Source: Chen et al. 2018.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 0.1 (the code's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-8.
        partial: the power of the second moment, in [0, 1/2]. Default 1/4 (the code's; the paper's
            runs have 1/8).
        amsgrad: divide by the maximum of all second moments so far. Default True (the code's).
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
        >>> optimizer = Padam(model.parameters(), weight_decay=5e-4)
    """

    default_rule = L2Regularization()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        partial: float = 1 / 4,
        amsgrad: bool = True,
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
            partial=partial,
            amsgrad=amsgrad,
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
            **unknown,
        )
