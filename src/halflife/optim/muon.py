"""Muon, with the decay rule as an argument."""

from __future__ import annotations

from typing import Any

from .. import versions
from ..mechanism.decayed import Decayed
from ..mechanism.settings import refuse_unknown
from ..rules import facts
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import Decoupled
from ..units.strength import Strength

__all__ = ["Muon"]


class Muon(Decayed, versions.Muon):
    r"""``torch.optim.Muon`` with an explicit decay rule; by default torch's own, bit for bit.

    Its native decay multiplies by ``1 - lr weight_decay``, with the group's lr and not the one that
    ``adjust_lr_fn`` makes of it; so do the other rules. For matrices only: give biases, gains and
    embeddings to another optimizer.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (torch's).
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.1 (torch's).
        momentum: averaging factor of the gradient. Default 0.95.
        nesterov: look-ahead momentum.
        ns_coefficients: of the Newton-Schulz polynomial. Default: torch's.
        eps: added to the denominator. Default 1e-7.
        ns_steps: Newton-Schulz iterations. Default 5.
        adjust_lr_fn: ``"original"`` (None) or ``"match_rms_adamw"``: what the lr means for a
            matrix's shape.
        decay: the decay rule, or its name. Default ``Decoupled()``, as in torch.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Muon([model.weight], lr=0.02, decay="independent", weight_decay=1e-4)
    """

    default_rule = Decoupled()

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float | Strength = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_coefficients=ns_coefficients,
            eps=eps,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            decay=decay,
            peak_lr=peak_lr,
        )


facts.declare(  # no direction: it mixes a matrix's elements; no effective rate: steps of one size
    versions.Muon,
    noise=lambda group: {
        "reason": "its updates are orthogonalized, and their correlation is not known"
    },
)
