"""Curves: multipliers of a base value as functions of the step.

A curve is a frozen dataclass used as a function, hence the lower-case name. It knows nothing of
optimizers, so it can be plotted, summed, compared and pickled. New curves define `Curve.at`.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field

from ..checks import (
    require,
    require_count,
    require_curve,
    require_in_unit_interval,
    require_nonnegative,
    require_positive,
)

__all__ = [
    "Curve",
    "constant",
    "cosine",
    "exponential",
    "linear",
    "log_time",
    "multistep",
    "warmup",
]

_RUN = "pass the number of optimizer steps of the run"
_MULTIPLE = "pass a multiple of the base value"


class Curve(ABC):
    """A multiplier of the base value as a function of the step.

    Example:
        >>> curve = cosine(4)
        >>> [curve(step) for step in (0, 2, 4, 5)]
        [1.0, 0.5, 0.0, 0.0]
    """

    def __call__(self, step: int) -> float:
        """The multiplier at `step`, the number of optimizer steps already done.

        Raises:
            ValueError: If `step` is not an integer >= 0.
        """
        name = type(self).__name__
        require_count(f"{name}: step", step, "pass the optimizer steps already done", minimum=0)
        return self.at(int(step))

    @abstractmethod
    def at(self, step: int) -> float:
        """The multiplier at a step known to be valid."""


@dataclass(frozen=True)
class constant(Curve):
    """No change: ``1``.

    Example:
        >>> constant()(1000)
        1.0
    """

    def at(self, step: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class multistep(Curve):
    """A staircase: ``gamma ** (number of milestones <= t)``, as torch's ``MultiStepLR``.

    Args:
        milestones: Steps (not epochs) from which the next factor applies, strictly increasing.
        gamma: Factor per milestone, > 0. 0.1 is torch's default and that of the usual CIFAR and
            ImageNet recipes.

    Raises:
        ValueError: If the milestones are not increasing integers >= 1 or `gamma` is not positive.

    Example:
        >>> curve = multistep([80, 160], gamma=0.5)
        >>> curve(79), curve(80), curve(160)
        (1.0, 0.5, 0.25)
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        given = isinstance(self.milestones, Iterable)
        require(given, "multistep: milestones", "a list of steps", self.milestones, "list them")
        milestones = tuple(self.milestones)
        for milestone in milestones:
            require_count("multistep: each milestone", milestone, "pass optimizer steps")
        increasing = all(a < b for a, b in itertools.pairwise(milestones))
        remedy = "sort them and remove duplicates"
        require(increasing, "multistep: milestones", "strictly increasing", milestones, remedy)
        require_positive("multistep: gamma", self.gamma, "pass the factor per milestone")
        object.__setattr__(self, "milestones", milestones)

    def at(self, step: int) -> float:
        """`gamma` to the power of the milestones passed."""
        return float(self.gamma ** bisect_right(self.milestones, step))


@dataclass(frozen=True)
class _Transition(Curve):
    """From `start` to `final` within `total` steps; subclasses define the weight of `start`."""

    total: int
    final: float = 0.0
    _: KW_ONLY
    start: float = 1.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        require_count(f"{name}: total", self.total, _RUN)
        require_nonnegative(f"{name}: final", self.final, _MULTIPLE)
        require_nonnegative(f"{name}: start", self.start, _MULTIPLE)

    def at(self, step: int) -> float:
        """The blend of `start` and `final`, constant from `total` on."""
        return blend(self.start, self.final, self._weight(min(step / self.total, 1.0)))

    @abstractmethod
    def _weight(self, progress: float) -> float:
        """Weight of `start` at a progress from 0 to 1."""


@dataclass(frozen=True)
class linear(_Transition):
    """A straight line: ``start + (final - start) * min(t / total, 1)``.

    Args:
        total: Steps after which `final` is reached and kept.
        final: Multiplier at the end, >= 0. With final > start the value increases.
        start: Multiplier at step 0, >= 0.

    Raises:
        ValueError: If `total` is not an integer >= 1 or a multiplier is negative or not finite.

    Example:
        >>> linear(4)(1)
        0.75
    """

    def _weight(self, progress: float) -> float:
        return 1.0 - progress


@dataclass(frozen=True)
class cosine(_Transition):
    """Half a cosine: ``final + (start - final) * (1 + cos(pi * min(t / total, 1))) / 2``.

    ``cosine(total, final=10.0)`` on a base of 0.04 is DINO's increasing weight decay (0.04 to 0.4).

    Args:
        total: Steps after which `final` is reached and kept.
        final: Multiplier at the end, >= 0. With final > start the value increases.
        start: Multiplier at step 0, >= 0.

    Raises:
        ValueError: If `total` is not an integer >= 1 or a multiplier is negative or not finite.

    Example:
        >>> cosine(100, final=10.0)(50)
        5.5
    """

    def _weight(self, progress: float) -> float:
        return half_cosine(progress)


@dataclass(frozen=True)
class exponential(Curve):
    """A constant factor per step: ``rate ** t``, so ``c1 * rate ** t`` on a base value c1.

    On ``weight_decay`` this is AdamW-D (Zhou et al., TPAMI 2024, section 6), with rate 0.99999 for
    runs of 10^5 steps and more; in a shorter run that rate changes nothing: use `reaching`.

    Args:
        rate: Factor per step, 0 < rate <= 1.

    Raises:
        ValueError: If `rate` is not in (0, 1].

    Example:
        >>> exponential(0.5)(3)
        0.125
    """

    rate: float

    def __post_init__(self) -> None:
        remedy = "pass the factor per step, such as 0.99999"
        require_in_unit_interval("exponential: rate", self.rate, remedy)

    def at(self, step: int) -> float:
        """``rate ** step``."""
        return float(self.rate**step)

    @classmethod
    def reaching(cls, final: float, total: int) -> exponential:
        """The curve that is `final` at step `total`: ``rate = final ** (1 / total)``.

        Args:
            final: Multiplier at `total`, in (0, 1]. AdamW-D's ImageNet runs ended at exp(-1.25) =
                0.29 (100 epochs) and exp(-3.75) = 0.023 (300 epochs).
            total: Steps of the run.

        Raises:
            ValueError: If `final` is not in (0, 1] or `total` is not an integer >= 1.

        Example:
            >>> exponential.reaching(0.25, 2)(1)
            0.5
        """
        remedy = "pass the multiplier at the last step"
        require_in_unit_interval("exponential.reaching: final", final, remedy)
        require_count("exponential.reaching: total", total, _RUN)
        return cls(final ** (1.0 / total))

    @classmethod
    def theorem(cls, *, b2: float, c_inf: float, delta: float) -> exponential:
        """``(1 - mu) ** t`` with ``mu = b2 * c_inf**2 / delta``.

        The decay for which AdamW was proved to converge (Zhou et al., TPAMI 2024, Theorem 2).

        Args:
            b2: The paper's beta_2, which is 1 - beta_2 of torch: 0.001 for torch's default.
            c_inf: Bound on the largest gradient entry. Unit: that of the gradient.
            delta: Added under the root, ``sqrt(v + delta)``. Unit: gradient squared. It is not
                torch's eps, which is added outside the root.

        Raises:
            ValueError: If an argument is negative or not finite, or if mu >= 1: there
                ``(1 - mu) ** t`` vanishes at once or changes sign at every step.

        Example:
            >>> exponential.theorem(b2=0.25, c_inf=1.0, delta=0.5)
            exponential(rate=0.5)
        """
        name = "exponential.theorem"
        require_nonnegative(f"{name}: b2", b2, "pass 1 - beta_2 of torch, such as 0.001")
        require_nonnegative(f"{name}: c_inf", c_inf, "pass a bound on the largest gradient entry")
        require_positive(f"{name}: delta", delta, "pass the constant under the root, such as 1e-4")
        mu = b2 * c_inf**2 / delta
        remedy = f"raise delta above b2*c_inf**2 = {b2 * c_inf**2:g}"
        require(mu < 1, f"{name}: mu = b2*c_inf**2/delta", ">= 0 and < 1", mu, remedy)
        return cls(1.0 - mu)


@dataclass(frozen=True)
class log_time(Curve):
    """Decay of equal weight in every octave of time: ``1 / (1 + t / t0)``.

    From ADANA (Ferbach et al., arXiv 2602.05298): there the fraction removed per step is
    ``omega / (t0 + t)`` times the lr's schedule, so the independent ``weight_decay`` is omega / t0
    with omega about 4 and t0 a tenth of the run.

    Args:
        t0: Steps after which the value has halved, > 0.

    Raises:
        ValueError: If `t0` is not positive and finite.

    Example:
        >>> log_time(100)(300)
        0.25
    """

    t0: float

    def __post_init__(self) -> None:
        require_positive("log_time: t0", self.t0, "pass steps, such as a tenth of the run")

    def at(self, step: int) -> float:
        """``1 / (1 + step / t0)``."""
        return 1.0 / (1.0 + step / self.t0)


@dataclass(frozen=True)
class warmup(Curve):
    """A linear rise, then any curve, which starts at its own step 0 when the rise ends.

    ``(start + (1 - start) * t / steps) * then(0)`` for t < steps, ``then(t - steps)`` from there.
    A run of T steps is therefore ``warmup(w, cosine(T - w))``.

    Args:
        steps: Length of the rise. 0 means none.
        then: The curve that follows.
        start: Fraction of ``then(0)`` at step 0, in [0, 1]. At 0 the first step has a value of 0.

    Raises:
        ValueError: If `steps` is not an integer >= 0 or `start` is not in [0, 1].
        TypeError: If `then` is not callable.

    Example:
        >>> curve = warmup(2, linear(4))
        >>> [curve(step) for step in range(5)]
        [0.0, 0.5, 1.0, 0.75, 0.5]
    """

    steps: int
    then: Callable[[int], float] = field(default_factory=constant)
    _: KW_ONLY
    start: float = 0.0

    def __post_init__(self) -> None:
        require_count("warmup: steps", self.steps, "pass optimizer steps", minimum=0)
        require_curve("warmup: then", self.then)
        require_nonnegative("warmup: start", self.start, "pass a fraction of the value to reach")
        remedy = "pass a fraction of the value to reach"
        require(self.start <= 1, "warmup: start", "a number >= 0 and <= 1", self.start, remedy)

    def at(self, step: int) -> float:
        """The rise before `steps`, the following curve from there."""
        if step >= self.steps:
            return self.then(step - self.steps)
        return blend(self.start, 1.0, 1.0 - step / self.steps) * self.then(0)


def blend(start: float, final: float, weight: float) -> float:
    """Mix the two so that weights 1 and 0 give `start` and `final` without rounding.

    ``final + (start - final) * weight`` may exceed `start` by an ulp, and an lr above its peak is
    an error for rules that divide by the peak.
    """
    return start * weight + final * (1.0 - weight)


def half_cosine(progress: float) -> float:
    """Fall from 1 to 0 for a progress from 0 to 1."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))
