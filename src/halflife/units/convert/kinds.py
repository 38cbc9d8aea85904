"""Kinds of conventions: what a ``weight_decay`` removes at a step, and which number removes it.

Every convention is ``w <- (1 - d) w - s u``. A rule of the package gives both scalars, and
`DecayRule.coefficient` its inverse; a strength gives ``d`` at the peak lr. So a convention is a
rule or a strength with its formula in words, and no inverse is written a second time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from ...checks import Scalar
from ...rules.contract import DecayRule
from ...rules.scalar import Decoupled, Stable
from ...rules.step import Step
from ..strength import (
    Fraction,
    Strength,
    TotalDecay,
)
from .recipe import Setting

__all__ = ["Convention", "check"]


@dataclass(frozen=True)
class Convention(ABC):
    """A way to state weight decay.

    Args:
        name: canonical name.
        unit: what its number is.
        formula: the update of one step, in ASCII; ``v`` is the number, ``lr`` that of the step.
        note: what to know about it.
    """

    name: str
    unit: str
    formula: str
    note: str = field(default="", kw_only=True)
    follows_rule: bool = field(default=False, kw_only=True)

    @abstractmethod
    def at(
        self, value: float, lr: float, multiplier: float, setting: Setting
    ) -> tuple[float, float]:
        """Fraction removed and step size, at a multiple of the peak lr."""

    @abstractmethod
    def solve(
        self, decay: Strength, step_size: float, setting: Setting, mean: bool
    ) -> tuple[float, float]:
        """The number, and the peak lr it belongs to, of a strength and a step size at the peak."""

    def total(self, value: float, setting: Setting, who: str) -> float:
        """Sum of the fractions over the schedule."""
        multipliers = setting.require_multipliers(who)
        return math.fsum(self.at(value, setting.lr, m, setting)[0] for m in multipliers)

    def given(self, value: float, setting: Setting, mean: bool) -> tuple[Strength, float]:
        """The strength that a number states, and the step size, both at the peak."""
        fraction, step_size = self.at(value, setting.lr, 1.0, setting)
        check(fraction, self, value, setting)
        if not mean:
            return Fraction(fraction), step_size
        multipliers = setting.require_multipliers("reference='mean'")
        total = self.total(value, setting, "reference='mean'")
        return TotalDecay(total, schedule=multipliers), step_size

    def is_approximate(self, setting: Setting) -> bool:
        """Whether even the fraction at the peak holds only in the long run."""
        return False


def check(fraction: float, convention: Convention, value: float, setting: Setting) -> None:
    """Refuse a number that removes the whole weight.

    Raises:
        ValueError: if the fraction is not in [0, 1).
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(
            f"value={value} as {convention.name!r} at lr={setting.lr} would remove the fraction "
            f"{fraction:.6g} of each weight in a step, and it must be in [0, 1); is it stated in "
            "another convention?"
        )


@dataclass(frozen=True)
class RuleConvention(Convention):
    """A decay rule's coefficient."""

    rule: DecayRule = field(default=Decoupled(), kw_only=True)

    def at(
        self, value: float, lr: float, multiplier: float, setting: Setting
    ) -> tuple[float, float]:
        step = setting.base(lr).step(multiplier, value)
        fraction = self.rule.fraction(step)
        return float(fraction), float(step.lr * self.rule.direction_scale(step))

    def solve(
        self, decay: Strength, step_size: float, setting: Setting, mean: bool
    ) -> tuple[float, float]:
        lr = step_size
        for _ in range(2):  # the scale of the step depends on the fraction alone
            base = setting.base(lr)
            value = float(decay.coefficient(self.rule, base))
            scale = float(self.rule.direction_scale(base.step(1.0, value)))
            lr = step_size / scale
        return float(decay.coefficient(self.rule, setting.base(lr))), lr


@dataclass(frozen=True)
class DecayAfter(DecayRule):
    """``(1 - d)(w - lr u)``; affine, so at another lr it is `Decoupled` and needs no class."""

    def rate(self, step: Step) -> Scalar:
        return step.lr

    def direction_scale(self, step: Step) -> Scalar:
        return 1.0 - self.fraction(step)


@dataclass(frozen=True)
class _Always(DecayRule):
    """``Constant`` without its exception: at lr 0 it decays as well."""

    def rate(self, step: Step) -> Scalar:
        return 1.0


@dataclass(frozen=True)
class FixedConvention(RuleConvention):
    """A fraction per step that nothing about the lr changes."""

    rule: DecayRule = field(default=_Always(), kw_only=True)

    def solve(
        self, decay: Strength, step_size: float, setting: Setting, mean: bool
    ) -> tuple[float, float]:
        if mean and isinstance(decay, TotalDecay):  # steps at lr 0 count here
            return decay.total / len(setting.require_multipliers(self.name)), step_size
        return super().solve(decay, step_size, setting, mean)


@dataclass(frozen=True)
class RateConvention(RuleConvention):
    """Rules whose fraction follows the optimizer's effective rate: stable decay, and L2 on SGD."""

    rule: DecayRule = field(default=Stable(), kw_only=True)
    sgd_only: bool = field(default=False, kw_only=True)

    def at(
        self, value: float, lr: float, multiplier: float, setting: Setting
    ) -> tuple[float, float]:
        self._check(setting)
        return super().at(value, lr, multiplier, setting)

    def solve(
        self, decay: Strength, step_size: float, setting: Setting, mean: bool
    ) -> tuple[float, float]:
        self._check(setting)
        return super().solve(decay, step_size, setting, mean)

    def is_approximate(self, setting: Setting) -> bool:
        return self.sgd_only and setting.momentum != 0.0

    def _check(self, setting: Setting) -> None:
        if self.sgd_only and setting.optimizer != "sgd":
            raise ValueError(
                f"optimizer={setting.optimizer!r} with L2: "
                "the regularizer's gradient is divided by sqrt(v), each weight by its own, so no "
                "decay coefficient is equal to it (Loshchilov & Hutter 2019, Proposition 2); start "
                "from a timescale instead."
            )
        if setting.optimizer == "sgd" and setting.momentum is None:
            raise ValueError(
                f"momentum=None: {self.name!r} on SGD removes lr v (1 - dampening)/(1 - momentum) "
                "a step; pass momentum= (0 for plain SGD)."
            )
        if setting.base(setting.lr).effective_rate is None:
            raise ValueError(
                f"effective_rate=None: {self.name!r} on {setting.optimizer} follows the gradients, "
                "so no number is equal to it in advance; pass effective_rate= as measured "
                "(1 / sqrt(mean of v_hat))."
            )


@dataclass(frozen=True)
class ScionRadius(Convention):
    """``(1 - lr) w - lr radius u``: the lr itself is the fraction, the radius a step size."""

    def at(
        self, value: float, lr: float, multiplier: float, setting: Setting
    ) -> tuple[float, float]:
        return lr * multiplier, lr * multiplier * value

    def solve(
        self, decay: Strength, step_size: float, setting: Setting, mean: bool
    ) -> tuple[float, float]:
        lr = decay.fraction(setting.base(step_size))
        if lr == 0.0:
            raise ValueError("value=0 to 'scion': no decay is no radius; leave its decay out.")
        return step_size / lr, lr


@dataclass(frozen=True)
class StrengthConvention(Convention):
    """A strength: what it removes at the peak lr. Off the peak it follows the lr, or the rule."""

    strength: Callable[[float, Setting], Strength] = field(kw_only=True)
    number: Callable[[float, float, Setting], float] = field(kw_only=True)

    def at(
        self, value: float, lr: float, multiplier: float, setting: Setting
    ) -> tuple[float, float]:
        fraction = self.strength(value, setting).fraction(setting.base(lr))
        return fraction * multiplier, lr * multiplier

    def given(self, value: float, setting: Setting, mean: bool) -> tuple[Strength, float]:
        strength = self.strength(value, setting)
        fraction = strength.fraction(setting.base(setting.lr))
        if isinstance(strength, TotalDecay):
            return strength, setting.lr
        if not mean:
            return Fraction(fraction), setting.lr
        multipliers = setting.require_multipliers("reference='mean'")
        return TotalDecay(fraction * len(multipliers), schedule=multipliers), setting.lr

    def solve(
        self, decay: Strength, step_size: float, setting: Setting, mean: bool
    ) -> tuple[float, float]:
        if mean and isinstance(decay, TotalDecay):
            fraction = decay.total / len(setting.require_multipliers(self.name))
        else:
            fraction = decay.fraction(setting.base(step_size))
        return self.number(fraction, step_size, setting), step_size


@dataclass(frozen=True)
class Total(StrengthConvention):
    """Total decay over the schedule, which the source's own course decides."""

    def solve(
        self, decay: Strength, step_size: float, setting: Setting, mean: bool
    ) -> tuple[float, float]:
        if isinstance(decay, TotalDecay):
            return decay.total, step_size
        return super().solve(decay, step_size, setting, mean)
