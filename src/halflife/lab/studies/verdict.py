r"""What a claim's values say of it: replicates, contradicts or undecided, from the design alone.

A claim is about one number, its endpoint, of which there is a value for each fresh seed. With the
mean m of n values and its standard error, Student's t decides:

    kind          replicates                         contradicts
    above         mean > 0 told, and m >= effect     mean < effect told
    below         mean < 0 told, and m <= -effect    mean > -effect told
    equivalent    |mean| < effect told (TOST)        |mean| > effect told
    exact         every |value| <= effect            any is larger

where "told" is at 2.5 % one-sided, after Holm's correction over all registered primaries. So an
effect that is there and smaller than the smallest of interest contradicts, and what no test tells
is undecided, with the power that the study had. An exact claim has no noise and needs no test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..statistics.intervals import Interval, holm, mean_and_error
from ..statistics.quantiles import chi_square_quantile, t_power, t_quantile, t_tail
from .design import Claim

__all__ = ["LEVEL", "Verdict", "among_all", "judged"]

LEVEL = 0.025  # of each one-sided test
LEAST_SEEDS = 3
_POWER = 0.8
_NODES = 200


@dataclass(frozen=True)
class Verdict:
    """What became of a claim, or of one of its controls.

    Attributes:
        outcome: ``"replicates"``, ``"contradicts"`` or ``"undecided"``.
        reason: why it is undecided, or what should be known of the outcome; may be empty.
        mean: of the values; of an exact claim the one of the largest size.
        interval: Student's, 95 %, not corrected; None of an exact claim.
        seeds: values.
        p_replicates: one-sided, as corrected; None where there is no test.
        p_contradicts: likewise.
        deviation: standard deviation of the values, or its floor; None where there is no test.
        power: probability to tell an effect of the smallest size of interest from none, given that
            deviation; of an equivalence, to tell it where there is no difference. Among others it
            is that of Holm's strictest step.
        needed: seeds at which that is 80 %.
    """

    outcome: str
    reason: str = ""
    mean: float = math.nan
    interval: Interval | None = None
    seeds: int = 0
    p_replicates: float | None = None
    p_contradicts: float | None = None
    deviation: float | None = None
    power: float | None = None
    needed: int | None = None


def judged(claim: Claim, values: Sequence[float]) -> Verdict:
    """What values say of a claim, by themselves: as a single test says it.

    Args:
        claim: kind, smallest effect of interest, floor of the deviation.
        values: of the endpoint, one a seed.

    Example:
        >>> claim = Claim("gain", kind="above", effect=0.5, unit="points")
        >>> judged(claim, [1.1, 0.9, 1.3, 1.0, 0.7, 1.2]).outcome
        'replicates'
        >>> judged(claim, [0.1, -0.1, 0.2, 0.0, -0.2, 0.1]).outcome
        'contradicts'
    """
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        return Verdict("undecided", "nothing was measured")
    if claim.kind == "exact":
        return _exact(claim, found)
    if not np.isfinite(found).all():
        lost = int((~np.isfinite(found)).sum())
        return Verdict("undecided", f"{lost} of {len(found)} values are no numbers",
                       seeds=len(found))  # fmt: skip
    if len(found) < LEAST_SEEDS:
        return Verdict("undecided", f"{len(found)} values, and a verdict needs {LEAST_SEEDS}",
                       float(found.mean()), seeds=len(found))  # fmt: skip
    return _tested(claim, found)


def among_all(claims: Mapping[str, Claim], alone: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Verdicts after Holm's correction over all primaries that are registered.

    Args:
        claims: every registered claim. One that has not run counts as a test that tells nothing.
        alone: what `judged` says of those that have.

    Returns:
        The verdicts of `alone`; those of exact and exploratory claims unchanged.
    """
    tested = [k for k, c in claims.items() if c.kind != "exact" and not c.exploratory]
    corrected: dict[str, Verdict] = dict(alone)
    for which in ("p_replicates", "p_contradicts"):
        raw = [getattr(alone.get(k), which, None) for k in tested]
        p = holm([1.0 if value is None else value for value in raw])
        for key, before, after in zip(tested, raw, p, strict=True):
            if before is not None:
                changed: dict[str, Any] = {which: after}
                corrected[key] = replace(corrected[key], **changed)
    strictest = LEVEL / max(len(tested), 1)
    for key in tested:
        if key in alone and alone[key].deviation is not None:
            corrected[key] = _with_power(claims[key], corrected[key], strictest)
    return {
        key: _decided(claims[key], verdict) if key in tested else verdict
        for key, verdict in corrected.items()
    }


def _exact(claim: Claim, found: np.ndarray) -> Verdict:
    finite = bool(np.isfinite(found).all())
    worst = float(found[np.abs(found).argmax()]) if finite else math.nan
    holds = finite and abs(worst) <= claim.effect
    return Verdict("replicates" if holds else "contradicts", "", worst, seeds=len(found))


def _tested(claim: Claim, found: np.ndarray) -> Verdict:
    sign = -1.0 if claim.kind == "below" else 1.0
    mean, error = mean_and_error(sign * found, claim.floor)
    n = len(found)
    if error is None:  # all values are equal, and no floor says how far to trust them
        tiny = max(abs(mean), claim.effect, 1e-300) * 1e-9
        error = tiny / math.sqrt(n)
    half = t_quantile(1.0 - LEVEL, n - 1) * error

    def tail(distance: float) -> float:
        return t_tail(distance / error, n - 1)

    if claim.kind == "equivalent":
        replicates, contradicts = tail(claim.effect - abs(mean)), tail(abs(mean) - claim.effect)
    else:
        replicates, contradicts = tail(mean), tail(claim.effect - mean)
    low, high = sign * mean - half, sign * mean + half
    deviation = error * math.sqrt(n)
    verdict = Verdict(
        "undecided", "", sign * mean, (low, high), n, replicates, contradicts, deviation
    )  # fmt: skip
    return _decided(claim, _with_power(claim, verdict, LEVEL))


def _decided(claim: Claim, verdict: Verdict) -> Verdict:
    if verdict.p_replicates is None or verdict.p_contradicts is None:
        return verdict
    size = -verdict.mean if claim.kind == "below" else verdict.mean
    large_enough = claim.kind == "equivalent" or size >= claim.effect
    if verdict.p_contradicts <= LEVEL:
        small = claim.kind != "equivalent" and verdict.p_replicates <= LEVEL
        why = "the effect is there, and smaller than the smallest of interest" if small else ""
        return replace(verdict, outcome="contradicts", reason=why)
    if verdict.p_replicates <= LEVEL and large_enough:
        return replace(verdict, outcome="replicates", reason="")
    told = verdict.p_replicates <= LEVEL
    why = (
        "an effect is told, and whether it is as large as the smallest of interest is not" if told
        else "neither is told"
    )  # fmt: skip
    return replace(verdict, outcome="undecided", reason=why)


def _with_power(claim: Claim, verdict: Verdict, level: float) -> Verdict:
    assert verdict.deviation is not None
    power = _power(claim, verdict.deviation, verdict.seeds, level)
    return replace(verdict, power=power, needed=_needed(claim, verdict.deviation, level))


def _power(claim: Claim, deviation: float, n: int, level: float) -> float | None:
    if claim.effect <= 0.0 or deviation <= 0.0:
        return None
    if claim.kind == "equivalent":
        return _equivalence_power(claim.effect * math.sqrt(n) / deviation, n - 1, level)
    return t_power(claim.effect * math.sqrt(n) / deviation, n - 1, level)


def _equivalence_power(margin: float, freedom: int, level: float) -> float:
    """Probability that both one-sided tests tell it, where there is no difference.

    The mean must lie nearer to 0 than the margin by t times the error that is drawn; so the normal
    probability of that is averaged over the errors' distribution.

    Args:
        margin: over the true standard error.
        freedom: degrees of freedom.
        level: of each test.
    """
    levels = (np.arange(_NODES) + 0.5) / _NODES
    errors = np.sqrt(chi_square_quantile(levels, freedom) / freedom)
    room = np.maximum(margin - t_quantile(1.0 - level, freedom) * errors, 0.0)
    return sum(math.erf(each / math.sqrt(2.0)) for each in room.tolist()) / _NODES


def _needed(claim: Claim, deviation: float, level: float) -> int | None:
    for n in (*range(LEAST_SEEDS, 64), *range(64, 1025, 16)):
        power = _power(claim, deviation, n, level)
        if power is None or power >= _POWER:
            return None if power is None else n
    return None
