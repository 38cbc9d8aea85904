"""What is known of a base optimizer before it has taken a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.optim import SGD, Adam, NAdam, Optimizer

from .decay import Scalar, Step
from .effective_rate import SGDRate
from .theory import equilibrium

__all__ = ["Base", "base_of"]


@dataclass(frozen=True)
class Base:
    """What a strength may know of the optimizer it is resolved for.

    Args:
        name: class name, for messages.
        lr: the group's peak lr.
        momentum: averaging factor ``b`` of the update direction; None if unknown.
        update_rms: RMS per entry of the direction under pure noise; None if it depends on the
            gradients' scale, as for SGD.
        effective_rate: as `Step.effective_rate`; None if only gradients tell.
    """

    name: str
    lr: float
    momentum: float | None = None
    update_rms: float | None = None
    effective_rate: float | None = None

    def step(self, multiplier: float = 1.0, weight_decay: Scalar = 0.0) -> Step:
        """The step at ``multiplier`` times the peak lr."""
        return Step(
            lr=self.lr * multiplier,
            peak_lr=self.lr,
            weight_decay=weight_decay,
            effective_rate=self._effective_rate,
            label=f"the {self.name} group",
        )

    def _effective_rate(self) -> float:
        if self.effective_rate is None:
            raise ValueError(
                f"weight_decay for the stable rule on {self.name}: its fraction follows the "
                "gradients, which are not known when a strength is resolved; pass a number (the "
                "paper's is 5e-4), or put the rule on SGD."
            )
        return self.effective_rate


def base_of(cls: type[Optimizer], group: dict[str, Any], lr: float) -> Base:
    """What is known of an optimizer class with one group's hyper-parameters.

    Example:
        >>> from torch.optim import SGD
        >>> base_of(SGD, {"momentum": 0.9, "dampening": 0.0}, lr=0.1).momentum
        0.9
    """
    if issubclass(cls, (Adam, NAdam)):
        beta1 = float(group["betas"][0])
        return Base(cls.__name__, lr, beta1, equilibrium.adam_update_rms(beta1))
    if issubclass(cls, SGD):
        rate = float(SGDRate().of(group))
        return Base(cls.__name__, lr, float(group["momentum"]), None, effective_rate=rate)
    return Base(cls.__name__, lr)
