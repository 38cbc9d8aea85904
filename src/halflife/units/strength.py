"""Decay strength in units a person can reason about, accepted wherever ``weight_decay`` is.

    AdamW(params, lr=3e-4, weight_decay=HalfLife(steps=5000))

A strength says which fraction of each weight one step at the peak lr removes; the rule turns the
fraction into its own coefficient, once, when the group is added. So the same strength means the
same decay under every rule, and a schedule then does to it what that rule does. The peak is the lr
at construction: where a schedule goes higher (OneCycleLR), pass ``peak_lr=``, under every rule.

    Fraction(1e-4)      the fraction itself
    HalfLife            steps until half of a weight is left        d = 1 - 2^(-1/steps)
    Timescale           steps of history the weights average over   d = 1 / steps
    TargetRMS           equilibrium RMS of the weights              exact random-walk form
    Rotation            equilibrium angle per step, in radians      exact random-walk form
    Normalized          the AdamW paper's budget-free coefficient   d = value sqrt(b / (B T))
    TotalDecay          sum of d over a whole schedule
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..bases.noise import Base
from ..checks import Scalar, is_number, require_argument
from ..rules.contract import DecayRule
from ..theory import equilibrium

_TINY = math.ulp(0.0)  # the smallest number above 0

__all__ = [
    "Fraction",
    "HalfLife",
    "Normalized",
    "Rotation",
    "Strength",
    "TargetRMS",
    "Timescale",
    "TotalDecay",
]


class Strength(ABC):
    """A decay strength: a fraction per step at the peak lr, however it is stated."""

    @abstractmethod
    def fraction(self, base: Base) -> float:
        """Fraction of each weight removed by one step at the peak lr, in [0, 1)."""

    def coefficient(self, rule: DecayRule, base: Base) -> Scalar:
        """The rule's ``weight_decay`` of this strength.

        Raises:
            ValueError: if the rule or the optimizer has no such number.
        """
        return rule.coefficient(self.fraction(base), base.step())

    def _require(self, name: str, low: float, below: float, requirement: str) -> None:
        """Refuse what is no number, NaN, or not in ``[low, below)``."""
        value = getattr(self, name)
        self._check(name, is_number(value) and low <= value < below, requirement)

    def _check(self, name: str, holds: bool, requirement: str) -> None:
        owner, value = type(self).__name__, getattr(self, name)
        require_argument(owner, name, value, holds, requirement, "its docstring names the unit")


@dataclass(frozen=True)
class Fraction(Strength):
    """The fraction removed by one step at the peak lr (dimensionless, 0 <= value < 1).

    Example:
        >>> Fraction(1e-4).fraction(Base("AdamW", lr=1e-3))
        0.0001
    """

    value: float

    def __post_init__(self) -> None:
        """Check the range."""
        self._require("value", 0.0, 1.0, "a number in [0, 1)")

    def fraction(self, base: Base) -> float:
        """The value itself."""
        return self.value


@dataclass(frozen=True)
class Duration(Strength):
    """A strength that is a time: in steps, or in epochs of so many steps."""

    steps: float | None = None
    epochs: float | None = None
    steps_per_epoch: float | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"{name}(steps={self.steps}, epochs={self.epochs}): give exactly one of the two, "
                f"as in {name}(steps=5000) or {name}(epochs=2, steps_per_epoch=391)."
            )
        if self.epochs is not None and self.steps_per_epoch is None:
            raise ValueError(
                f"{name}(epochs={self.epochs}): an optimizer does not know what an epoch is; pass "
                "steps_per_epoch=len(dataloader) too."
            )
        if self.steps is not None:
            self._check("steps", is_number(self.steps) and self.steps > 1.0, "longer than one step")
            return
        for name in ("epochs", "steps_per_epoch"):
            value = getattr(self, name)
            self._check(name, is_number(value) and value > 0.0, "a positive number")
        self._check("epochs", self.total_steps > 1.0, "longer than one step")

    @property
    def total_steps(self) -> float:
        """The duration in steps."""
        return self.steps if self.steps is not None else self.epochs * self.steps_per_epoch  # type: ignore[operator]


@dataclass(frozen=True)
class HalfLife(Duration):
    """Steps (or epochs) until half of a weight is left if nothing is added: ``1 - 2^(-1/h)``.

    ln 2 = 0.69 times the `Timescale`. Infinite means no decay.

    Args:
        steps: half-life in optimizer steps, above 1.
        epochs: half-life in epochs, with ``steps_per_epoch``.
        steps_per_epoch: optimizer steps per epoch.

    Example:
        >>> round(HalfLife(steps=2).fraction(Base("AdamW", lr=1e-3)), 12)  # 1 - 1/sqrt(2)
        0.292893218813
        >>> HalfLife(epochs=2, steps_per_epoch=391).total_steps
        782
    """

    def fraction(self, base: Base) -> float:
        """``1 - 2^(-1/h)``."""
        return -math.expm1(-math.log(2.0) / self.total_steps)


@dataclass(frozen=True)
class Timescale(Duration):
    """Steps (or epochs) over which the weights average past updates: ``d = 1/tau``.

    Decay makes the weights an exponential moving average of the updates with this timescale; a
    sensible one lies between an epoch and the whole training (Wang & Aitchison 2025).

    Args:
        steps: timescale in optimizer steps, above 1.
        epochs: timescale in epochs, with ``steps_per_epoch``.
        steps_per_epoch: optimizer steps per epoch.

    Example:
        >>> Timescale(steps=10_000).fraction(Base("AdamW", lr=1e-3))
        0.0001
    """

    def fraction(self, base: Base) -> float:
        """``1 / tau``."""
        return 1.0 / self.total_steps


@dataclass(frozen=True)
class TargetRMS(Strength):
    """Equilibrium RMS of the weights, for optimizers whose updates have a known size (Adam).

    In a random walk AdamW's weights settle at ``sqrt(lr / (2 weight_decay))``; this inverts the
    exact form. With ``decay="corrected"`` the RMS holds over a schedule too.

    Args:
        value: RMS per weight, in units of the weights.

    Example:
        >>> adam = Base("AdamW", lr=1e-3, momentum=0.0, update_rms=1.0)
        >>> round(TargetRMS(0.0707).fraction(adam) / 1e-3, 3)  # the weight_decay of Decoupled
        0.1
    """

    value: float

    def __post_init__(self) -> None:
        """Check the range."""
        self._require("value", _TINY, math.inf, "a positive, finite number")

    def fraction(self, base: Base) -> float:
        """The fraction whose equilibrium is this RMS.

        Raises:
            ValueError: if the size of the optimizer's updates depends on the gradients, or no
                fraction below 1 leaves weights as small as this.
        """
        if base.update_rms is None or base.momentum is None:
            raise ValueError(
                f"TargetRMS({self.value}) on {base.name}: "
                f"{base.reason or 'the size of its updates depends on the gradients'}, so no decay "
                "has a known equilibrium RMS; use HalfLife or Timescale, or an Adam-like optimizer."
            )
        least = equilibrium.rms(1.0, base.lr, base.momentum, base.update_rms)
        if self.value <= least:
            raise ValueError(
                f"TargetRMS({self.value}) at lr={base.lr}: a single update is larger than that, "
                f"the target must be above {least:.3g}; lower the lr or raise the target."
            )
        return equilibrium.fraction_for_rms(self.value, base.lr, base.momentum, base.update_rms)


@dataclass(frozen=True)
class Rotation(Strength):
    """Equilibrium angle by which a step turns a weight vector, in radians; the exact form.

    About ``sqrt(2 d (1-b)/(1+b))`` with momentum ``b`` (Kosson et al. 2023).

    Args:
        radians: angle per step.

    Example:
        >>> sgd = Base("SGD", lr=0.1, momentum=0.0)
        >>> round(Rotation(0.0141418).fraction(sgd), 7)
        0.0001
    """

    radians: float

    def __post_init__(self) -> None:
        """Check the range."""
        self._require("radians", _TINY, 1.0, "an angle in (0, 1) radians")

    def fraction(self, base: Base) -> float:
        """The fraction whose equilibrium rotation is this angle.

        Raises:
            ValueError: if the optimizer's momentum is unknown, or no decay turns so far.
        """
        if base.momentum is None:
            raise ValueError(
                f"Rotation({self.radians}) on {base.name}: "
                f"{base.reason or 'its momentum is unknown here'}, so the angle cannot be "
                "predicted; use HalfLife or Timescale."
            )
        most = equilibrium.rotation(1.0, base.momentum)
        if self.radians >= most:
            raise ValueError(
                f"Rotation({self.radians}) on {base.name}: with momentum {base.momentum} no decay "
                f"turns the weights by more than {most:.3g} radians per step; lower the angle."
            )
        return equilibrium.fraction_for_rotation(self.radians, base.momentum)


@dataclass(frozen=True)
class Normalized(Strength):
    """Normalized weight decay of the AdamW paper: ``d = value * sqrt(b / (B T))`` at the peak.

    Meant to transfer between training budgets. ``B/b`` is rounded up to whole steps, as in the
    authors' code. Source: Loshchilov & Hutter 2019, appendix B.1, who recommend 0.025 to 0.05.

    Args:
        value: normalized coefficient (dimensionless).
        batch_size: ``b``, samples per step.
        dataset_size: ``B``, samples per epoch.
        epochs: ``T``, epochs of the run (of the current cycle, with warm restarts).

    Example:
        >>> budget = Normalized(0.025, batch_size=128, dataset_size=50_000, epochs=1800)
        >>> round(budget.fraction(Base("AdamW", lr=1e-3)), 7)  # 0.025 / sqrt(391 * 1800)
        2.98e-05
    """

    value: float
    batch_size: int = field(kw_only=True)
    dataset_size: int = field(kw_only=True)
    epochs: float = field(kw_only=True)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("batch_size", "dataset_size", "epochs"):
            self._require(name, _TINY, math.inf, "a positive number")
        most = math.sqrt(self._steps)
        self._require("value", 0.0, most, f"at least 0 and below {most:.3g}")

    def fraction(self, base: Base) -> float:
        """``value / sqrt(steps per epoch * epochs)``."""
        return self.value / math.sqrt(self._steps)

    @property
    def _steps(self) -> float:
        return math.ceil(self.dataset_size / self.batch_size) * self.epochs


@dataclass(frozen=True)
class TotalDecay(Strength):
    """Sum of the fractions over a whole schedule, ``K``: about ``exp(-K)`` of the start survives.

    Unlike the other strengths this one averages over the schedule, as the rule weighs it.

    Args:
        total: ``K`` (dimensionless).
        schedule: multipliers of the peak lr, one per step; or a function of the step.
        steps: number of steps, needed when ``schedule`` is a function.

    Example:
        >>> half = TotalDecay(1.0, schedule=[1.0, 0.5, 0.5])
        >>> half.fraction(Base("AdamW", lr=1e-3))  # at the peak, under Decoupled
        0.5
    """

    total: float
    schedule: Iterable[float] | Callable[[int], float] = field(kw_only=True)
    steps: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Evaluate the schedule, so that the strength is plain data."""
        self._require("total", 0.0, math.inf, "a finite number >= 0")
        multipliers: Iterable[float]
        if callable(self.schedule):
            if self.steps is None:
                raise ValueError(
                    f"TotalDecay({self.total}, steps=None): the schedule is a function, so the "
                    "number of steps to sum over must be given; pass steps=."
                )
            counts = isinstance(self.steps, int) and is_number(self.steps) and self.steps > 0
            self._check("steps", counts, "an integer >= 1")
            multipliers = map(self.schedule, range(self.steps))
        else:
            multipliers = self.schedule
        requirement = "multipliers of the peak lr in [0, 1], not all zero"
        self._check("schedule", isinstance(multipliers, Iterable), requirement)
        object.__setattr__(self, "schedule", tuple(multipliers))
        usable = all(is_number(m) and 0.0 <= m <= 1.0 for m in self._multipliers)
        self._check("schedule", usable and any(self._multipliers), requirement)

    @property
    def _multipliers(self) -> tuple[float, ...]:
        return self.schedule  # type: ignore[return-value]

    def fraction(self, base: Base) -> float:
        """The fraction at the peak if the decay followed the lr."""
        return self.total / math.fsum(self._multipliers)

    def coefficient(self, rule: DecayRule, base: Base) -> Scalar:
        """The coefficient under which the rule's fractions sum to ``K``.

        Raises:
            ValueError: if the rule removes nothing over the schedule, or a step would remove all.
        """
        coefficient = rule.coefficient(min(self.fraction(base), 0.5), base.step())  # a first guess
        for _ in range(100):  # one pass is exact where the fraction is linear in the coefficient
            steps = [base.step(m, weight_decay=coefficient) for m in self._multipliers if m > 0.0]
            total = math.fsum(rule.fraction(step) for step in steps)
            if math.isclose(total, self.total, rel_tol=1e-14):
                return coefficient
            coefficient = coefficient * (self.total / total)
        raise ValueError(
            f"TotalDecay({self.total}): {rule!r} cannot remove that much in "
            f"{len(self._multipliers)} steps; lower the total."
        )
