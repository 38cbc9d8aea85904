"""What is known of a base optimizer before it has taken a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)

from .decay import Scalar, Step
from .effective_rate import SGDRate
from .theory import equilibrium

__all__ = ["Base", "base_of", "declare"]


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
        effective_rate: as `Step.effective_rate`; None if only gradients tell.
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


_KNOWN: dict[type[Optimizer], Callable[[dict[str, Any]], dict[str, Any]]] = {}


def declare(cls: type[Optimizer], known: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Declare what is known of a class: `Base`'s optional arguments, from a group's settings.

    Subclasses inherit it.
    """
    _KNOWN[cls] = known


def base_of(cls: type[Optimizer], group: dict[str, Any], lr: float) -> Base:
    """What is known of an optimizer class with one group's hyper-parameters.

    Example:
        >>> from torch.optim import SGD
        >>> settings = {"momentum": 0.9, "dampening": 0.0, "nesterov": False}
        >>> base_of(SGD, settings, lr=0.1).momentum
        0.9
    """
    known = next((_KNOWN[base] for base in cls.__mro__ if base in _KNOWN), None)
    return Base(cls.__name__, lr, **({} if known is None else known(group)))


def _sgd(group: dict[str, Any]) -> dict[str, Any]:
    momentum = float(group["momentum"])
    if group.get("nesterov"):
        momentum = equilibrium.effective_momentum(equilibrium.nesterov_update_rms(momentum) ** -2.0)
    return {"momentum": momentum, "effective_rate": float(SGDRate().of(group))}


def _adam(group: dict[str, Any]) -> dict[str, Any]:
    beta1 = float(group["betas"][0])
    return {"momentum": beta1, "update_rms": equilibrium.adam_update_rms(beta1)}


def _nadam(group: dict[str, Any]) -> dict[str, Any]:
    size = equilibrium.nesterov_update_rms(float(group["betas"][0]))
    return {"momentum": equilibrium.effective_momentum(size**-2.0), "update_rms": size}


def _rmsprop(group: dict[str, Any]) -> dict[str, Any]:
    momentum = float(group["momentum"])
    return {"momentum": momentum, "update_rms": (1.0 - momentum**2) ** -0.5}


def _adamax(group: dict[str, Any]) -> dict[str, Any]:
    return {"momentum": float(group["betas"][0])}


def _unknown(reason: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda group: {"reason": reason}


declare(SGD, _sgd)
declare(Adam, _adam)
declare(RAdam, _adam)
declare(NAdam, _nadam)
declare(RMSprop, _rmsprop)
declare(Adamax, _adamax)
declare(Adagrad, _unknown("its steps shrink for ever, so there is no equilibrium"))
declare(ASGD, _unknown("its steps shrink for ever, so there is no equilibrium"))
declare(Adadelta, _unknown("its steps have a size of their own making"))
declare(Muon, _unknown("its updates are orthogonalized, and their correlation is not known"))
