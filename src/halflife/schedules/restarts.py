"""Cosine with warm restarts, and the weight decay that goes with it.

The cycles have ``N_i = T_0 * T_mult**i * steps_per_epoch`` steps. In the k-th step of cycle i,
k = 0 .. N_i - 1, the lr has the multiplier

    eta = eta_min_i + (eta_max_i - eta_min_i) * (1 + cos(pi * k / N_i)) / 2

and jumps back to eta_max at k = 0. Only the schedule restarts: weights, moments and step counts are
kept (Loshchilov & Hutter 2019, Eq. 14-15). Steps are counted in integers, so no restart can slip by
one step as it does when fractions of an epoch are summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, NamedTuple

from ..checks import require, require_count, require_nonnegative
from .curves import Curve, blend, half_cosine

__all__ = ["Cycle", "cosine_warm_restarts", "normalized_decay"]

_MULTIPLE = "pass a multiple of the base value, or one for each cycle"


class Cycle(NamedTuple):
    """Where a step lies: the cycle's number from 0, the position in it, and its length in steps."""

    number: int
    position: int
    steps: int


@dataclass(frozen=True)
class cosine_warm_restarts(Curve):
    """Cosine cycles with warm restarts, advanced every step (SGDR, AdamWR).

    Args:
        T_0: Length of the first cycle. Unit: epochs.
        T_mult: Factor from one cycle's length to the next. 2 in the papers' long runs.
        steps_per_epoch: Optimizer steps in an epoch, ``ceil(dataset_size / batch_size)``.
        eta_max: Multiplier at the start of a cycle; a sequence gives one for each cycle and
            the last one serves all later cycles.
        eta_min: Multiplier that a cycle falls towards, likewise. Its last step is one step
            short of it.

    Raises:
        ValueError: If a length is not an integer >= 1, or a multiplier is negative, not finite, or
            missing.

    Example:
        >>> curve = cosine_warm_restarts(T_0=1, T_mult=2, steps_per_epoch=2)
        >>> [round(curve(step), 3) for step in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    T_0: int
    T_mult: int = 1
    _: KW_ONLY
    steps_per_epoch: int
    eta_max: float | Sequence[float] = 1.0
    eta_min: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        name = "cosine_warm_restarts"
        require_count(f"{name}: T_0", self.T_0, "pass the epochs of the first cycle")
        require_count(f"{name}: T_mult", self.T_mult, "pass 1 for cycles of equal length")
        remedy = "pass ceil(dataset_size / batch_size)"
        require_count(f"{name}: steps_per_epoch", self.steps_per_epoch, remedy)
        for key in ("eta_max", "eta_min"):
            value = getattr(self, key)
            values = tuple(value) if isinstance(value, Sequence) else (value,)
            require(len(values) > 0, f"{name}: {key}", "one number or more", value, _MULTIPLE)
            for multiplier in values:
                require_nonnegative(f"{name}: {key}", multiplier, _MULTIPLE)
            if isinstance(value, Sequence):
                object.__setattr__(self, key, values)

    def at(self, step: int) -> float:
        """The multiplier at `step`."""
        cycle = self.cycle(step)
        eta_max, eta_min = (_of_cycle(v, cycle.number) for v in (self.eta_max, self.eta_min))
        return blend(eta_max, eta_min, half_cosine(cycle.position / cycle.steps))

    def cycle(self, step: int) -> Cycle:
        """The cycle in which `step` lies and the position there.

        Example:
            >>> cosine_warm_restarts(10, 2, steps_per_epoch=5).cycle(52)
            Cycle(number=1, position=2, steps=100)
        """
        steps = self.T_0 * self.steps_per_epoch
        if self.T_mult == 1:
            return Cycle(*divmod(step, steps), steps)
        number = 0
        while step >= steps:
            step -= steps
            steps *= self.T_mult
            number += 1
        return Cycle(number, step, steps)

    def snapshot_epochs(self, epochs: int) -> list[int]:
        """The epochs, up to `epochs`, at whose end a cycle ends.

        There the lr is lowest: evaluate or save the model when ``epoch * steps_per_epoch`` steps
        are done. Later snapshots are better (Loshchilov & Hutter 2019, section 4.5).

        Raises:
            ValueError: If `epochs` is not an integer >= 1.

        Example:
            >>> cosine_warm_restarts(100, 2, steps_per_epoch=391).snapshot_epochs(1500)
            [100, 300, 700, 1500]
        """
        remedy = "pass the epochs of the run"
        require_count("cosine_warm_restarts.snapshot_epochs: epochs", epochs, remedy)
        ends = []
        length = end = self.T_0
        while end <= epochs:
            ends.append(end)
            length *= self.T_mult
            end += length
        return ends


@dataclass(frozen=True)
class normalized_decay(Curve):
    """Normalized weight decay within warm restarts, constant in each cycle.

    ``lambda_i = lambda_norm * sqrt(b / (B * T_i)) = lambda_norm / sqrt(N_i)``

    with batch size b, training set size B and cycle i of T_i epochs = N_i steps, B/b rounded up to
    whole batches as in the authors' code (Loshchilov & Hutter 2019, appendix B.1). Decay falls by
    ``sqrt(T_mult)`` at every restart.

    The multiplier of the lr within the cycle, eta, is not part of it: the decay rule applies it
    (``Independent`` does, and torch's AdamW, on which ``weight_decay`` is then in units of 1/lr).

    Args:
        restarts: The cycles; pass the very curve that drives the lr.
        base: What the group's ``weight_decay`` is. ``"lambda_norm"``: the normalized coefficient
            (0.025 to 0.05 in the paper), multiplied by ``1 / sqrt(N_i)``. ``"first_cycle"``: the
            coefficient of the first cycle, already resolved, multiplied by ``sqrt(N_0 / N_i)``.

    Raises:
        TypeError: If `restarts` is not a `cosine_warm_restarts`.
        ValueError: If `base` is unknown.

    Example:
        >>> restarts = cosine_warm_restarts(1, 4, steps_per_epoch=100)
        >>> curve = normalized_decay(restarts)
        >>> curve(0), curve(99), curve(100)
        (0.1, 0.1, 0.05)
    """

    restarts: cosine_warm_restarts
    _: KW_ONLY
    base: Literal["lambda_norm", "first_cycle"] = "lambda_norm"

    def __post_init__(self) -> None:
        if not isinstance(self.restarts, cosine_warm_restarts):
            raise TypeError(
                f"normalized_decay: restarts must be a cosine_warm_restarts, got {self.restarts!r};"
                " pass the curve that drives the lr."
            )
        known = self.base in ("lambda_norm", "first_cycle")
        remedy = "say what the group's weight_decay stands for"
        allowed = "'lambda_norm' or 'first_cycle'"
        require(known, "normalized_decay: base", allowed, self.base, remedy)

    def at(self, step: int) -> float:
        """The multiplier of the cycle in which `step` lies."""
        reference = 1 if self.base == "lambda_norm" else self.restarts.cycle(0).steps
        return math.sqrt(reference / self.restarts.cycle(step).steps)


def _of_cycle(value: float | Sequence[float], number: int) -> float:
    return value[min(number, len(value) - 1)] if isinstance(value, Sequence) else value
