r"""Which settings the noise cannot tell from the best, and whether a grid should grow.

A set of settings that holds the truly best one with a probability of 0.95 (Hsu, Multiple
Comparisons with the Best): those whose mean over n seeds is above the lowest by at most

    d * sigma * sqrt(2 / n),

with ``sigma`` the noise between seeds and ``d`` Dunnett's one-sided quantile for the k - 1 other
settings and sigma's degrees of freedom f,

    E_s[ integral phi(z) Phi(sqrt(2) d s + z)^(k - 1) dz ] = 0.95,    f s^2 ~ chi^2_f.

It is a matter of noise, not of percent: with more seeds the set narrows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..meta import Meta
from .intervals import CONFIDENCE
from .quantiles import chi_square_quantile
from .selection import Choice, choose
from .settings import AXES, BASELINE, Key, Record
from .surface import BoolArray, in_order, records_of

__all__ = [
    "Border",
    "Within",
    "borders",
    "dunnett",
    "within_noise",
    "worth_extending",
]

_NODES = 64


@dataclass(frozen=True, eq=False)
class Within:
    """The settings of one rule that cannot be told from its best one, whatever is swept.

    All are compared with the best of all, those with other values of other parameters too.

    Attributes:
        settings: those on the slice of the best setting; shape (R, C).
        keys: of all of them, as `Setting.key`.
        count: how many in all.
        share: of the settings that were planned.
        threshold: by how much their mean over seeds may be worse than the best mean, in units of
            the metric that settings are chosen by; None with one seed, when only the best is in it.
        lr: lowest and highest learning rate among them.
        weight_decay: lowest and highest weight decay.
        params: values of other parameters among them, by name.
        half_life: shortest and longest half-life in steps; None where no setting has one.
        includes_none: whether no decay cannot be told from the best; None if that is not known,
            for want of runs without decay or of seeds.
    """

    settings: BoolArray
    keys: frozenset[Key]
    count: int
    share: float
    threshold: float | None
    lr: tuple[float, float]
    weight_decay: tuple[float, float]
    params: Mapping[str, Sequence[Any]]
    half_life: tuple[float, float] | None
    includes_none: bool | None

    @property
    def everything(self) -> bool:
        """Whether no setting at all can be told from the best."""
        return self.threshold is not None and self.share == 1.0


@dataclass(frozen=True)
class Border:
    """A side of the grid on which the best setting of a rule lies.

    Attributes:
        axis: ``"lr"`` or ``"weight_decay"``.
        side: ``"low"`` or ``"high"``.
        worth: whether the grid should grow there.
        reason: why not, in words; empty where it should.
    """

    axis: str
    side: str
    worth: bool
    reason: str = ""

    @property
    def name(self) -> str:
        """In words, such as "highest lr"."""
        return f"{self.side}est {self.axis.replace('_', ' ')}"


@functools.lru_cache(maxsize=256)
def dunnett(others: int, freedom: int, confidence: float = CONFIDENCE) -> float:
    """One-sided quantile of the largest of several differences from one mean.

    Args:
        others: number of means that are compared with it, at least 1.
        freedom: degrees of freedom of the standard deviation, at least 1.
        confidence: probability that none is above the quantile.

    Example:
        >>> from halflife.lab.statistics.quantiles import t_quantile
        >>> round(dunnett(1, 10), 3), round(t_quantile(0.95, 10), 3)
        (1.812, 1.812)
    """
    from scipy import optimize, special  # as in `quantiles`

    z, of_z = np.polynomial.hermite_e.hermegauss(_NODES)
    levels, of_level = np.polynomial.legendre.leggauss(_NODES)
    s = np.sqrt(chi_square_quantile(0.5 * (levels + 1.0), freedom) / freedom)

    def lack(d: float) -> float:
        below = special.ndtr(math.sqrt(2.0) * d * s[:, None] + z) ** others
        return float(of_level @ below @ of_z) / (2.0 * of_z.sum()) - confidence

    highest = 4.0
    while lack(highest) < 0.0:
        highest *= 2.0
    return float(optimize.brentq(lack, 0.0, highest, xtol=1e-6))


def within_noise(choice: Choice, none: Choice | None) -> Within:
    """The settings that cannot be told from the best of a rule, and whether no decay is one.

    Args:
        choice: of the rule; all its surfaces are looked at.
        none: of the runs without decay; None if there are none.
    """
    grids, metric = choice.grids, choice.surface.metric
    losses = [np.where(g.complete, g.metric.sign * g.mean, np.inf) for g in grids]
    near = [np.zeros(loss.shape, dtype=bool) for loss in losses]
    threshold = included = None
    if choice.noise is not None:
        own = None if none is None else _value_on(none, choice.surface.compared)
        others = sum(int(g.complete.sum()) for g in grids) - 1 + (own is not None)
        d = dunnett(max(others, 1), _rounded(choice.noise.freedom))
        runs = max(choice.setting.seeds, 1)
        threshold = d * choice.noise.residual * math.sqrt(2.0 / runs)
        highest = min(float(loss.min(initial=np.inf)) for loss in losses) + threshold
        near = [loss <= highest for loss in losses]
        included = None if own is None else metric.loss(own) <= highest
    here = next(i for i, g in enumerate(grids) if g is choice.surface)
    at = choice.surface.index_of(choice.setting)
    if at is not None:
        near[here][at] = True
    found = [g.setting(*at) for g, n in zip(grids, near, strict=True) for at in np.argwhere(n)]
    lives = [s.half_life for s in found if s.half_life is not None]
    count, planned = len(found), sum(int((~g.omitted).sum()) for g in grids)
    names = choice.setting.params
    return Within(
        settings=near[here],
        keys=frozenset(s.key for s in found),
        count=count,
        share=count / max(planned, 1),
        threshold=threshold,
        lr=_range([s.lr for s in found]),
        weight_decay=_range([s.weight_decay for s in found]),
        params={name: in_order([s.params[name] for s in found]) for name in names},
        half_life=_range(lives) if lives else None,
        includes_none=included,
    )


def _value_on(choice: Choice, seeds: tuple[int, ...] | None) -> float | None:
    """The mean of a setting on the seeds that others are compared on, if it has them all."""
    grid, at = choice.surface, choice.surface.index_of(choice.setting)
    of = [seed in (seeds or ()) for seed in grid.seeds]
    runs = grid.values[at][of] if at is not None else np.array([])
    if len(runs) and np.isfinite(runs).all():
        return float((runs / len(runs)).sum())
    return choice.setting.value


def borders(choice: Choice, within: Within) -> tuple[Border, ...]:
    """The sides of the grid the best setting of a rule lies on, and whether to grow there.

    An axis with one value has no border. The grid does not grow where every setting is within the
    noise, nor towards less decay where the best is not told from no decay.
    """
    at = choice.surface.index_of(choice.setting)
    if at is None:
        return ()
    out = []
    for index, length, axis in zip(at, choice.surface.values.shape, AXES, strict=False):
        for side, end in (("low", 0), ("high", length - 1)):
            if length > 1 and index == end:
                reason = _reason(axis, side, within)
                out.append(Border(axis, side, not reason, reason))
    return tuple(out)


def worth_extending(records: Iterable[Record], meta: Meta, rule: str) -> tuple[Border, ...]:
    """The sides of the grid a rule's best setting lies on, and whether to grow there.

    Args:
        records: of the ledger, in any order; only those of the selection seeds count.
        meta: what was planned.
        rule: the rule's name, or `BASELINE` or `DEFAULT`.

    Returns:
        Empty where the best setting is inside, or nothing is complete. A grid that grows should do
        so where ``worth`` is true, and say the ``reason`` elsewhere.
    """
    of_rule = records_of(records, meta)
    choice = choose(of_rule.get(rule, ()), meta, rule)
    if choice is None:
        return ()
    none = None if rule == BASELINE else choose(of_rule.get(BASELINE, ()), meta, BASELINE)
    return borders(choice, within_noise(choice, none))


def _reason(axis: str, side: str, within: Within) -> str:
    if within.everything:
        return "no setting can be told from the best"
    if (axis, side) == ("weight_decay", "low"):
        if within.includes_none:
            return "the best there cannot be told from no decay"
        if within.includes_none is None:
            return "whether decay helps there is not known, for want of seeds or of a run without"
    return ""


def _rounded(freedom: int) -> int:
    """Two digits of it, the others 0: nearly the same quantile, a little wider, and kept."""
    unit = 10 ** max(len(str(freedom)) - 2, 0)
    return max(freedom // unit * unit, 1)


def _range(values: Sequence[float]) -> tuple[float, float]:
    return float(min(values)), float(max(values))
