"""AdaBound, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..decay import L2Regularization
from ..decayed import Decayed
from ..rule import DecayRule
from ..strength import Strength
from . import native

__all__ = ["AdaBound"]


class AdaBound(Decayed, native.AdaBound):
    r"""AdaBound with an explicit decay rule; see `halflife.optim.native.AdaBound`.

    Adam whose elementwise lr is clipped to a band that closes on ``final_lr lr / base_lr``, SGD's.
    Source: Luo et al. 2019.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (the code's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-8.
        final_lr: learning rate of the end, at ``lr = base_lr``. Default 0.1 (the code's).
        gamma: how fast the band closes, per step. Default 1e-3 (the code's).
        amsbound: divide by the maximum of all second moments so far.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        base_lr: the lr at which ``final_lr`` holds; kept in the group. Default: the group's lr when
            it is added. (Not ``peak_lr``: that one is the decay's.)
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
        >>> optimizer = AdaBound(model.parameters(), final_lr=0.05, weight_decay=5e-4)
    """

    default_rule = L2Regularization()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        amsbound: bool = False,
        weight_decay: float | Strength = 0,
        *,
        base_lr: float | None = None,
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
            final_lr=final_lr,
            gamma=gamma,
            amsbound=amsbound,
            weight_decay=weight_decay,
            base_lr=base_lr,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            decay=decay,
            peak_lr=peak_lr,
            **unknown,
        )
