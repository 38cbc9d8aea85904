"""Lion, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..decay import Decoupled
from ..decayed import Decayed
from ..rule import DecayRule
from ..strength import Strength
from . import native

__all__ = ["Lion"]


class Lion(Decayed, native.Lion):
    r"""Lion with an explicit decay rule; see `halflife.optim.native.Lion`.

    The sign of a momentum: every weight moves by exactly lr. Use an lr 3 to 10 times smaller than
    Adam's, and with it a ``weight_decay`` as much larger, if the rule's unit is 1/lr; a strength
    such as ``HalfLife`` stays as it is. Source: Chen et al. 2023.

    Args:
        params: parameters, named parameters, or groups.
        lr: size of every update, in units of a weight. Default 1e-4 (the paper's code).
        betas: weight of the momentum in the update, and averaging factor of the momentum. Default
            (0.9, 0.99) (the paper's).
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0 (the paper's code).
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        decay: the decay rule, or its name. Default ``Decoupled()``, as in the paper.
        peak_lr: the schedule's highest lr, for the rules that divide by it. Default: the group's lr
            at construction.
        **unknown: refused, naming the nearest keyword.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Lion(model.parameters(), lr=1e-4, weight_decay=1.0)
    """

    default_rule = Decoupled()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
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
            weight_decay=weight_decay,
            foreach=foreach,
            maximize=maximize,
            decay=decay,
            peak_lr=peak_lr,
            **unknown,
        )
