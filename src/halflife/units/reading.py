"""One group's decay, read: what it removes at any learning rate, whoever wrote the optimizer.

`halflife.describe`, the audit and the monitor all ask here. A number that does not exist is None
with a note, and one that is a bound only says so:

    a scalar rule            the fraction of each weight
    L2                       the long-run fraction where the optimizer's own rate is known (SGD)
    Stable, Adaptive         known in a training step only
    Cautious, HuberDecay,    an upper bound: what the map leaves of it is the weights' affair
    NormControl
    Anchored                 of the distance to the anchor
    ProximalL1 and others    none: the amount is a threshold in units of the weights
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.judging import NativeDecay
from ..bases.native_decay import group_decay
from ..bases.noise import Base, base_of
from ..checks import Scalar
from ..rules import DecayMap
from ..rules.contract import DecayRule, as_rule
from ..rules.scalar import Decoupled
from ..rules.step import MEASURED, Step
from ..theory import equilibrium

__all__ = ["Reading", "read_group"]

_DIVIDED = "{} joins the gradient, of which the step is no fixed multiple: no fraction of w."
_LONG_RUN = "{} joins the gradient; the fraction is the long-run one with momentum."
_UNKNOWN = "the fraction follows the gradients: known in a training step only."
_LAST = "the fraction follows the gradients: it is that of the last step's measures."


@dataclass(frozen=True)
class Reading:
    """What a group's decay does.

    Args:
        rule: the group's rule, or the one that the optimizer is found to follow natively; None if
            that is no rule of ours.
        native: what its ``weight_decay`` natively does; None if the group has a rule of its own.
        peak_lr: the schedule's highest lr.
        base: what is known of the optimizer, at the peak.
        measured: what the optimizer's last step has measured, of what the rule follows.
    """

    rule: DecayRule | None
    native: NativeDecay | None
    peak_lr: float
    base: Base
    measured: dict[str, float]

    @property
    def predictable(self) -> bool:
        """Whether all weights lose alike, so that an equilibrium can be predicted."""
        return self.rule is not None and not isinstance(self.rule, DecayMap)

    def fraction_at(self, lr: Scalar, weight_decay: Scalar) -> Any:
        """Share of each weight removed by a step; None where it cannot be known or is none.

        Args:
            lr: of the step; or a tensor, one lr for each of many.
            weight_decay: the coefficient; or one for each.

        Returns:
            A number; or a tensor of the lr's shape, float64.

        Raises:
            ValueError: if the rule refuses the lr, as one above its peak.
        """
        return self.at(lr, weight_decay)[0]

    def rms_at(self, fraction: float | None, lr: float) -> float | None:
        """Predicted equilibrium RMS of the weights; None where none is predicted."""
        base = self.base
        if not fraction or fraction > 1.0 or base.momentum is None or base.update_rms is None:
            return None
        if not self.predictable:
            return None
        return equilibrium.rms(fraction, lr, base.momentum, base.update_rms)

    def rotation_at(self, fraction: float | None) -> float | None:
        """Predicted equilibrium angle per step, in radians; None where none is predicted."""
        momentum = self.base.momentum
        if not fraction or fraction > 1.0 or momentum is None or not self.predictable:
            return None
        return equilibrium.rotation(fraction, momentum)

    @property
    def settled(self) -> tuple[str, ...]:
        """What the rule may follow and the optimizer's settings alone decide, as SGD's rate."""
        return tuple(self.base.measured)

    def at(self, lr: Scalar, weight_decay: Scalar) -> tuple[Any, str]:
        """The fraction, as `fraction_at`, and what to know about it or why there is none."""
        rule, native = self.rule, self.native
        none = torch.zeros_like(lr) if isinstance(lr, Tensor) else 0.0
        off = not (weight_decay.any() if isinstance(weight_decay, Tensor) else weight_decay)
        if off or (native is not None and native.kind == "absent"):
            return none, ""
        if rule is None:
            return None, "" if native is None else native.reason
        if isinstance(rule, DecayMap) and not rule.removes_fraction:
            return None, rule.caveat
        several = isinstance(lr, Tensor)
        if native is not None and native.kind == "constant":  # at lr 0 too, where `Constant` stops
            amount = torch.as_tensor(weight_decay, dtype=torch.float64)
            return (amount.expand_as(lr) if several else float(amount)), ""  # type: ignore[arg-type]
        peak = torch.tensor(self.peak_lr, dtype=torch.float64) if several else self.peak_lr
        step = Step(lr, peak, weight_decay, lambda name: self.measured.get(name, math.nan))
        fraction: Any = rule.fraction(step)
        gradient: Any = rule.gradient_coefficient(step)
        note = rule.caveat if isinstance(rule, DecayMap) else ""
        if rule.joins_gradient:
            rate = self.measured.get("effective_rate")
            if rate is None or self.base.effective_rate is None:
                return None, _DIVIDED.format(_named(rule))
            fraction = fraction + gradient * lr * rate
            note = _LONG_RUN.format(_named(rule))
        elif rule.follows_gradients and not {*rule.needs} <= {*self.settled}:
            note = note or _LAST
        if isinstance(lr, Tensor):
            fraction = torch.as_tensor(fraction, dtype=torch.float64).expand_as(lr)
            unknown = bool(fraction.isnan().any())
        else:
            fraction = float(fraction)
            unknown = math.isnan(fraction)
        if unknown:
            return None, _UNKNOWN
        return fraction, note


def read_group(
    optimizer: Optimizer, group: dict[str, Any], peak_lr: float | None = None
) -> Reading:
    """What a group's decay does.

    Args:
        optimizer: a halflife optimizer, or any other, a copy of which is run to find out.
        group: one of its groups.
        peak_lr: the schedule's highest lr, where the group does not name its own. Default: its lr.

    Example:
        >>> optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1e-3, weight_decay=0.1)
        >>> read_group(optimizer, optimizer.param_groups[0]).fraction_at(lr=5e-4, weight_decay=0.1)
        5e-05
    """
    rule, native = group.get("decay"), None
    # A checkpoint of ours leaves its rule, as plain data, in the groups of a torch optimizer, which
    # never reads it. Another library may have a use for the word.
    unread = isinstance(rule, dict) and not hasattr(optimizer, "last_measured")
    if rule is None or unread or "peak_lr" not in group:
        native = group_decay(optimizer, group)
        # Before the step or after it, the same fraction is removed.
        rule = Decoupled() if native.kind == "decoupled_after" else native.rule
    else:
        rule = as_rule(rule)
    highest = float(group.get("lr") or 0.0) if peak_lr is None else peak_lr
    peak = float(group.get("peak_lr") or (native and native.peak_lr) or highest)
    base = _known(optimizer, group, peak)
    measured = base.measured
    for name in MEASURED:
        last = getattr(optimizer, "last_measured", lambda *_: None)(name, group)
        if name not in measured and last is not None:
            measured[name] = last
    return Reading(rule, native, peak, base, measured)


def _named(rule: DecayRule) -> str:
    return "L2" if not rule.removes_fraction else str(rule)


def _known(optimizer: Optimizer, group: dict[str, Any], lr: float) -> Base:
    try:
        return base_of(type(optimizer), group, lr)
    except (KeyError, TypeError, ValueError):  # a subclass with settings of its own
        return Base(type(optimizer).__name__, lr)
