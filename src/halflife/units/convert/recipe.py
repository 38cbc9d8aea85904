"""What a conversion may know besides the number: lr, schedule, optimizer, budget."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch.optim import SGD, AdamW

from ...bases.noise import Base, base_of
from ...checks import is_number, near, require_count
from ...schedules import schedule_named
from ...theory import equilibrium

__all__ = ["Schedule", "Setting", "base_named", "multipliers_of", "optimizer_named"]

Schedule: TypeAlias = "str | Iterable[float] | Callable[[int], float]"

_BETAS = {"adamw": (0.9, 0.999), "lion": (0.9, 0.99)}
OPTIMIZERS = ("adamw", "lion", "sgd")
_ALSO = {"adam": "adamw"}  # a spelling that means the same here


def multipliers_of(schedule: Schedule, steps: int | None) -> tuple[float, ...]:
    """Multipliers of the peak lr, one a step, of a list, a function of the step, or a name.

    Args:
        schedule: multipliers, a function such as those of `halflife.schedules`, or a name of
            `halflife.schedules.schedule_named`, such as "cosine" or "multistep:0.5,0.8".
        steps: length of the run; needed for a function or a name.

    Raises:
        ValueError: for an unknown name, or a function without ``steps``.

    Example:
        >>> multipliers_of("linear", 4)
        (1.0, 0.75, 0.5, 0.25)
    """
    if isinstance(schedule, Iterable) and not isinstance(schedule, str):
        return tuple(schedule)
    if not isinstance(schedule, str) and not callable(schedule):
        raise ValueError(
            f"schedule={schedule!r}: must be a name such as 'cosine', a list of multipliers of the "
            "peak lr, or a function of the step."
        )
    remedy = "pass the length of the run, which a schedule by name or function needs"
    # A name is looked at first.
    curve = schedule_named(schedule, steps) if isinstance(schedule, str) else schedule
    require_count("steps", steps, remedy)
    return tuple(curve(step) for step in range(int(steps or 0)))


def optimizer_named(name: object, known: Collection[str] = OPTIMIZERS) -> str:
    """The one spelling of an optimizer's name; "adam" is "adamw" here, as is "AdamW".

    Args:
        name: as people write it.
        known: the names to choose from.

    Raises:
        ValueError: for a name that is not known, naming the nearest.

    Example:
        >>> optimizer_named("adam"), optimizer_named("SGD")
        ('adamw', 'sgd')
    """
    key = name.strip().lower() if isinstance(name, str) else ""
    key = _ALSO.get(key, key)
    if key not in known:
        raise ValueError(
            f"optimizer={name!r}: must be one of {', '.join(known)}{near(name, known)}"
        )
    return key


def base_named(
    optimizer: str,
    lr: float,
    momentum: float | None = None,
    dampening: float = 0.0,
    effective_rate: float | None = None,
) -> Base:
    """What is known of "adamw", "lion" or "sgd" before a step.

    Args:
        optimizer: the name.
        lr: peak learning rate.
        momentum: beta1, or SGD's momentum. Default: 0.9.
        dampening: SGD's.
        effective_rate: Adam's ``1 / sqrt(mean of v_hat)``, where it has been measured.

    Raises:
        ValueError: for another name.

    Example:
        >>> base_named("sgd", 0.1, momentum=0.5).effective_rate
        2.0
    """
    return _base(optimizer_named(optimizer), lr, momentum, dampening, effective_rate)


@functools.lru_cache(maxsize=64)  # asked for every step of a schedule
def _base(
    optimizer: str,
    lr: float,
    momentum: float | None,
    dampening: float,
    effective_rate: float | None,
) -> Base:
    b = 0.9 if momentum is None else momentum
    if optimizer == "sgd":
        return base_of(SGD, {"momentum": b, "dampening": dampening}, lr)
    betas = (b, _BETAS[optimizer][1])
    if optimizer == "lion":  # a sign has RMS 1, and the memory of what it is the sign of
        memory = equilibrium.effective_momentum(equilibrium.sign_memory(*betas))
        return Base("Lion", lr, memory, 1.0, effective_rate)
    return replace(base_of(AdamW, {"betas": betas}, lr), effective_rate=effective_rate)


@dataclass(frozen=True)
class Setting:
    """Everything a convention may need; what it needs and was not given, it names.

    Args:
        lr: peak learning rate.
        optimizer: "adamw", "lion" or "sgd".
        momentum: beta1, or SGD's momentum.
        dampening: SGD's.
        effective_rate: see `base_named`.
        multipliers: the schedule, as `multipliers_of` gives it.
        batch_size: samples per step.
        dataset_size: samples per epoch.
        epochs: length of the run.
    """

    lr: float
    optimizer: str = "adamw"
    momentum: float | None = None
    dampening: float = 0.0
    effective_rate: float | None = None
    multipliers: tuple[float, ...] | None = None
    batch_size: int | None = None
    dataset_size: int | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        object.__setattr__(self, "optimizer", optimizer_named(self.optimizer))
        _require("lr", self.lr, math.inf, above_zero=True)
        if self.momentum is not None:
            _require("momentum", self.momentum, 1.0)
        _require("dampening", self.dampening, 1.0)
        for name in ("effective_rate", "batch_size", "dataset_size", "epochs"):
            value = getattr(self, name)
            if value is not None:
                _require(name, value, math.inf, above_zero=True)
        if self.multipliers is not None:
            usable = all(is_number(m) and 0.0 <= m <= 1.0 for m in self.multipliers)
            if not usable or not any(self.multipliers):
                raise ValueError(
                    "schedule: must give multipliers of the peak lr in [0, 1], not all zero; "
                    "divide it by its highest value."
                )
        self.base(self.lr)

    def base(self, lr: float) -> Base:
        """The optimizer at another peak lr."""
        return base_named(self.optimizer, lr, self.momentum, self.dampening, self.effective_rate)

    def require_multipliers(self, who: str) -> tuple[float, ...]:
        """The schedule.

        Raises:
            ValueError: if it was not given.
        """
        if self.multipliers is None:
            raise ValueError(
                f"schedule=None: {who} sums over the whole run; pass schedule=, a name "
                "such as 'cosine' with steps=, or its multipliers."
            )
        return self.multipliers


def _require(name: str, value: Any, below: float, above_zero: bool = False) -> None:
    enough = is_number(value) and (value > 0.0 if above_zero else value >= 0.0)
    if not (enough and value < below):
        bounds = "a finite number > 0" if above_zero else f"a number in [0, {below:g})"
        raise ValueError(f"{name}={value!r}: must be {bounds}; correct it.")
