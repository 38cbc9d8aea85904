"""What is known of a base optimizer before it has taken a step: what it does to pure noise.

A strength such as `TargetRMS` needs the RMS of the update direction and its memory. An optimizer
declares them as its fact ``noise``, beside its class; those of Adam and SGD are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.optim import SGD, Optimizer

from ..checks import Scalar
from ..rules import facts
from ..rules.step import Step, inverse_square
from ..theory import equilibrium
from ..versions import ADAMS
from .effective_rate import SGDRate

__all__ = ["Base", "adam_noise", "base_of", "first_moment_noise"]


@dataclass(frozen=True)
class Base:
    """What a strength may know of the optimizer it is resolved for.

    Args:
        name: class name, for messages.
        lr: the group's peak lr.
        momentum: averaging factor ``b`` of the update direction, or that of an average with the
            same memory; None if unknown.
        update_rms: RMS per entry of the direction under pure noise; None if it depends on the
            gradients' scale, as for SGD.
        effective_rate: as `Step.measured` gives it; None if only gradients tell.
        reason: why what is None is unknown, where it is not that the gradients decide.
    """

    name: str
    lr: float
    momentum: float | None = None
    update_rms: float | None = None
    effective_rate: float | None = None
    reason: str = ""

    def step(self, multiplier: float = 1.0, weight_decay: Scalar = 0.0) -> Step:
        """The step at ``multiplier`` times the peak lr."""
        return Step(
            lr=self.lr * multiplier,
            peak_lr=self.lr,
            weight_decay=weight_decay,
            measured=self._measured,
            label=f"the {self.name} group",
        )

    @property
    def measured(self) -> dict[str, Any]:
        """What is known beforehand of the numbers that a step measures."""
        rate = self.effective_rate
        return {} if rate is None else {"effective_rate": rate, "mean_square": inverse_square(rate)}

    def _measured(self, name: str) -> float:
        if name in self.measured:
            return self.measured[name]
        what = name.replace("_", " ")
        raise ValueError(
            f"weight_decay of this rule on {self.name}: its fraction follows the {what}, which is "
            "known in a training step only, not when a strength is resolved; pass a number"
            + (" (SWD's is 5e-4), or put the rule on SGD." if "norm" not in name else ".")
        )


def base_of(cls: type[Optimizer], group: dict[str, Any], lr: float) -> Base:
    """What is known of an optimizer class with one group's hyper-parameters.

    Example:
        >>> from torch.optim import SGD
        >>> settings = {"momentum": 0.9, "dampening": 0.0, "nesterov": False}
        >>> base_of(SGD, settings, lr=0.1).momentum
        0.9
    """
    known = facts.fact("noise", cls)
    return Base(cls.__name__, lr, **({} if known is None else known(group)))


def adam_noise(group: dict[str, Any]) -> dict[str, Any]:
    """Of Adam: an average of the gradients over their RMS.

    Example:
        >>> adam_noise({"betas": (0.0, 0.999)})
        {'momentum': 0.0, 'update_rms': 1.0}
    """
    beta1 = float(group["betas"][0])
    return {"momentum": beta1, "update_rms": equilibrium.adam_update_rms(beta1)}


def first_moment_noise(group: dict[str, Any]) -> dict[str, Any]:
    """Of an average of the gradients, at a size that depends on their scale."""
    return {"momentum": float(group["betas"][0])}


def _sgd_noise(group: dict[str, Any]) -> dict[str, Any]:
    momentum = float(group["momentum"])
    if group.get("nesterov"):
        momentum = equilibrium.effective_momentum(equilibrium.nesterov_update_rms(momentum) ** -2.0)
    return {"momentum": momentum, "effective_rate": float(SGDRate().of(group))}


for _adam in ADAMS:
    facts.declare(_adam, noise=adam_noise)
facts.declare(SGD, noise=_sgd_noise)
