"""Paired timing: candidates take turns, and are compared within a turn.

On a machine that others use too, a time means little and a ratio of two times taken seconds apart
not much more. So every round runs every candidate once, in an order drawn anew, and what is
reported is the median over rounds of the ratio within a round. The reference runs twice in each
round: the ratio of its two times is 1 but for the machine's noise.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from time import perf_counter

import numpy as np

Parts = Sequence[Callable[[], object]]


def paired(
    candidates: Mapping[str, Parts],
    rounds: int,
    before: Callable[[], object],
    seed: int = 0,
    settle: bool = False,
) -> dict[str, np.ndarray]:
    """Seconds that each part of each candidate took: name -> array [rounds, parts].

    Args:
        candidates: name -> calls, made one after the other and timed separately.
        rounds: how often each candidate runs; one more round warms up and is not counted.
        before: called before each candidate runs, untimed.
        seed: of the order within the rounds.
        settle: let each candidate run once, untimed, before it is timed, so that it is timed as if
            it alone ran again and again.
    """
    order, shuffle = list(candidates), random.Random(seed).shuffle
    times: dict[str, list[list[float]]] = {name: [] for name in candidates}
    enabled = gc.isenabled()
    gc.disable()  # a collection would be charged to whoever happens to trigger it
    try:
        for _ in range(rounds + 1):
            shuffle(order)
            for name in order:
                if settle:
                    before()
                    for call in candidates[name]:
                        call()
                before()
                ticks = [perf_counter()]
                for call in candidates[name]:
                    call()
                    ticks.append(perf_counter())
                times[name].append([b - a for a, b in pairwise(ticks)])
            gc.collect()
    finally:
        if enabled:
            gc.enable()
    return {name: np.array(rows[1:]) for name, rows in times.items()}


class Measured:
    """Values of one quantity, one per round, and what they say about its median.

    Attributes:
        median: of the values.
        low, high: the 10 % and 90 % quantiles, the spread between rounds.
        least, most: 95 % confidence interval of the median (order statistics).
    """

    def __init__(self, values: np.ndarray) -> None:
        ordered = np.sort(values)
        self.median = float(np.median(ordered))
        self.low, self.high = (float(q) for q in np.quantile(ordered, [0.1, 0.9]))
        # The rank of the median among n values is binomial(n, 1/2).
        n = len(ordered)
        reach = 0.98 * n**0.5
        self.least = float(ordered[max(0, int(np.floor(n / 2 - reach)))])
        self.most = float(ordered[min(n - 1, int(np.ceil(n / 2 + reach)))])

    def verdict(self, at_most: float | None = None, at_least: float | None = None) -> str:
        """``met``, ``within noise`` (the interval reaches the target) or ``missed``."""
        for target, value, best, sign in (
            (at_most, self.median, self.least, 1),
            (at_least, self.median, self.most, -1),
        ):
            if target is not None and sign * value > sign * target:
                return "missed" if sign * best > sign * target else "within noise"
        return "met"

    def as_dict(self) -> dict[str, float]:
        """Plain data, for a JSON file."""
        return dict(vars(self))


def spread(found: Mapping[str, float] | None, digits: int = 2) -> str:
    """A median and, in parentheses, 10 to 90 % of the rounds; nothing where it was not measured.

    Args:
        found: plain data of `Measured`.
        digits: of the median.
    """
    if not found:
        return ""
    return f"{found['median']:.{digits}f} ({found['low']:.2f}-{found['high']:.2f})"
