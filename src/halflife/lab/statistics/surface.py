"""One rule's settings laid out for two of what is swept, gathered from the records of a ledger.

A setting has a mean only when all the seeds that are compared are there and none failed, was pruned
or diverged. Those are counted, and enter no figure silently.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...checks import is_number, require
from ..meta import Meta
from ..metric import Metric
from .intervals import FloatArray, mean_over_seeds, standard_error
from .seeds import shared
from .settings import AXES, BASELINE, DEFAULT, DEFAULT_RULE, Key, Record, Setting, key_of

__all__ = [
    "AXES",
    "BASELINE",
    "DEFAULT",
    "DEFAULT_RULE",
    "BoolArray",
    "FloatArray",
    "Record",
    "Setting",
    "Surface",
    "drawn",
    "in_order",
    "key_of",
    "records_of",
    "slices",
    "surface_of",
]

BoolArray: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Surface:
    """One rule's settings over two of the things swept, all others fixed.

    Attributes:
        rule: the rule's name.
        metric: what the values are of.
        axes: what rows and columns are: "lr", "weight_decay" or other parameters.
        rows: values of the first axis, rising if they are numbers; R of them.
        columns: values of the second, the rule's own coefficient if it is the decay; C of them.
        fixed: value of everything swept that is no axis, by name.
        strengths: fraction at the central lr of each column, NaN where unknown; shape (C,).
        seeds: seeds of the grid, in the order of the last axis.
        values: the metric, NaN where missing or not finite; shape (R, C, seeds).
        failed: settings with a run that raised or died; shape (R, C).
        pruned: settings with a run that was stopped early; shape (R, C).
        diverged: settings with a diverged run, or one without a finite value; shape (R, C).
        omitted: settings never planned, since a step would remove whole weights; shape (R, C).
        fractions: share removed per step, mean over seeds, NaN where undefined; shape (R, C).
        compared: seeds on which settings are compared, and their means are; None for those that
            most settings of this surface share.
    """

    rule: str
    metric: Metric
    axes: tuple[str, str]
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    fixed: Mapping[str, Any]
    strengths: FloatArray
    seeds: tuple[int, ...]
    values: FloatArray
    failed: BoolArray
    pruned: BoolArray
    diverged: BoolArray
    omitted: BoolArray
    fractions: FloatArray
    compared: tuple[int, ...] | None = None

    @property
    def lrs(self) -> FloatArray:
        """Peak learning rates of the rows, if they are that; shape (R,)."""
        return np.array(self.rows, dtype=float)

    @property
    def coefficients(self) -> FloatArray:
        """Weight decays of the columns, if they are that; shape (C,)."""
        return np.array(self.columns, dtype=float)

    @property
    def losses(self) -> FloatArray:
        """The values as ones of which less is better; shape (R, C, seeds)."""
        return self.metric.sign * self.values

    @property
    def unusable(self) -> BoolArray:
        """Settings with a run that failed, was pruned or diverged; shape (R, C)."""
        return self.failed | self.pruned | self.diverged

    @property
    def usable(self) -> BoolArray:
        """Runs with a value, of settings of which none was lost; shape (R, C, seeds)."""
        return np.isfinite(self.values) & ~self.unusable[..., None]

    @functools.cached_property
    def counted(self) -> BoolArray:
        """Which of the seeds settings are compared on; shape (seeds,)."""
        if self.compared is None:
            return shared(self.usable)
        return np.array([seed in self.compared for seed in self.seeds], dtype=bool)

    @property
    def complete(self) -> BoolArray:
        """Settings with a usable run of every seed that is compared, and no other; (R, C)."""
        counted = self.counted
        return np.asarray(self.usable[..., counted].all(-1) & counted.any(), dtype=bool)

    @property
    def mean(self) -> FloatArray:
        """Mean over the seeds that are compared, NaN where not complete; shape (R, C)."""
        return mean_over_seeds(self.values[..., self.counted], self.complete)

    @property
    def runs(self) -> FloatArray:
        """Losses of the settings and seeds that are compared; shape (settings, seeds)."""
        return self.losses[self.complete][:, self.counted]

    @property
    def missing(self) -> int:
        """Runs the grid has room for and the ledger does not hold, unusable settings aside."""
        room = ~(self.unusable | self.omitted)
        return int((~np.isfinite(self.values) & room[..., None]).sum())

    def setting(self, row: int, column: int) -> Setting:
        """The setting at an index."""
        runs = self.values[row, column, self.counted]
        runs = runs[np.isfinite(runs)]
        at = {**self.fixed, self.axes[0]: self.rows[row], self.axes[1]: self.columns[column]}
        fraction = self.fractions[row, column]
        return Setting(
            rule=DEFAULT_RULE if self.rule == DEFAULT else self.rule,
            lr=float(at.pop("lr")),
            weight_decay=float(at.pop("weight_decay")),
            params=at,
            fraction=float(fraction) if np.isfinite(fraction) else None,
            value=float((runs / len(runs)).sum()) if len(runs) else None,
            standard_error=standard_error(runs),
            seeds=len(runs),
        )

    def index_of(self, setting: Setting) -> tuple[int, int] | None:
        """Row and column of a setting; None if it is not on this surface."""
        at = setting.place
        row, column = (at.get(axis) for axis in self.axes)
        others = {k: v for k, v in at.items() if k not in self.axes}
        if row not in self.rows or column not in self.columns or others != dict(self.fixed):
            return None
        return self.rows.index(row), self.columns.index(column)


def records_of(records: Iterable[Record], meta: Meta) -> dict[str, list[Record]]:
    """The records of the selection seeds by rule, those of torch's default as `DEFAULT`.

    A default that lies on the grid of its rule belongs to both.
    """
    seeds = set(meta.seeds)
    on_grid = meta.default_decay in meta.coefficients.get(DEFAULT_RULE, ())
    out: dict[str, list[Record]] = {}
    for r in records:
        if r["seed"] not in seeds:
            continue
        default = r["rule"] == DEFAULT_RULE and r["weight_decay"] == meta.default_decay
        if default:
            out.setdefault(DEFAULT, []).append(r)
        if not default or on_grid:
            out.setdefault(r["rule"], []).append(r)
    return out


def slices(
    own: Iterable[Record],
    meta: Meta,
    rule: str,
    metric: Metric,
    axes: Sequence[str] = AXES,
) -> list[Surface]:
    """One surface for each combination of what is swept and no axis; one pass over the records.

    Args:
        own: the records of this rule, of the selection seeds.
        meta: what was planned.
        rule: the rule's name.
        metric: what the values are of.
        axes: names of what rows and columns are.
    """
    swept = [*AXES, *meta.params]
    apart = [name for name in swept if name not in axes]
    groups: dict[Key, list[Record]] = {}
    for r in own:
        groups.setdefault(tuple(_coordinate(r, name) for name in apart), []).append(r)
    if not groups and not apart:  # a grid that is planned and not begun
        groups = {(): []}
    return [
        surface_of(group, meta, rule, metric, axes, dict(zip(apart, key, strict=True)))
        for key, group in groups.items()
    ]


def drawn(
    own: Iterable[Record],
    meta: Meta,
    rule: str,
    metric: Metric,
    place: Mapping[str, Any] | None = None,
    axes: Sequence[str] = AXES,
) -> Surface:
    """The surface through a place, of the records of one rule.

    Args:
        own: the records of this rule, of the selection seeds.
        meta: what was planned.
        rule: the rule's name.
        metric: what the values are of.
        place: value of everything swept that is no axis, by name; where there is none, as in the
            first record or the plan.
        axes: names of what rows and columns are.

    Raises:
        ValueError: for an axis that was not swept, or a place that leaves something open.
    """
    own, swept = list(own), [*AXES, *meta.params]
    for name in axes:
        known = ", ".join(swept)
        require(name in swept, "axes", f"two of what is swept ({known})", name, "name two of those")
    apart = [name for name in swept if name not in axes]
    if place is None:
        planned = {**meta.params, "lr": meta.lrs, "weight_decay": _planned_decays(meta, rule)}
        place = {n: _coordinate(own[0], n) if own else next(iter(planned[n]), None) for n in apart}
    for name in apart:
        words = f"a value of {name}, which is no axis"
        require(name in place, "params", words, place, "give one for all that is swept")
    fixed = {name: place[name] for name in apart}
    group = [r for r in own if all(_coordinate(r, n) == v for n, v in fixed.items())]
    return surface_of(group, meta, rule, metric, axes, fixed)


def surface_of(
    own: Sequence[Record],
    meta: Meta,
    rule: str,
    metric: Metric,
    axes: Sequence[str] = AXES,
    fixed: Mapping[str, Any] | None = None,
) -> Surface:
    """The surface of records that differ in the axes and seeds alone."""
    first, second = axes
    planned = {
        "lr": list(meta.lrs),
        "weight_decay": _planned_decays(meta, rule),
        **{name: list(values) for name, values in meta.params.items()},
    }
    places = [(_coordinate(r, first), _coordinate(r, second)) for r in own]
    rows = in_order([*planned[first], *(row for row, _ in places)])
    columns = in_order([*planned[second], *(column for _, column in places)])
    row_at, column_at = ({v: i for i, v in enumerate(axis)} for axis in (rows, columns))
    seeds = tuple(sorted(meta.seeds))
    seed_at = {seed: i for i, seed in enumerate(seeds)}

    values = np.full((len(rows), len(columns), len(seeds)), np.nan)
    fractions = np.full_like(values, np.nan)
    flags = {kind: np.zeros(values.shape[:2], dtype=bool) for kind in ("failed", "pruned", "bad")}
    for r, (row, column) in zip(own, places, strict=True):
        at = row_at[row], column_at[column]
        if r["status"] in ("failed", "pruned"):
            flags[r["status"]][at] = True
        elif r["status"] == "done":
            value = metric.of(r["metrics"])
            fine = math.isfinite(value) and not r.get("diverged")
            flags["bad"][at] |= not fine
            values[(*at, seed_at[r["seed"]])] = value if fine else math.nan
            fractions[(*at, seed_at[r["seed"]])] = _number(r.get("fraction"))
    empty = ~np.isfinite(values).any(-1) & ~flags["bad"] & ~flags["failed"] & ~flags["pruned"]
    strengths = dict(
        zip(meta.coefficients.get(rule, ()), meta.strengths.get(rule, ()), strict=False)
    )
    strengths |= {r["weight_decay"]: r.get("strength") for r in own}
    by_decay = second == "weight_decay"
    return Surface(
        rule=rule,
        metric=metric,
        axes=(first, second),
        rows=tuple(rows),
        columns=tuple(columns),
        fixed=dict(fixed or {}),
        strengths=np.array(
            [_number(strengths.get(c)) if by_decay else math.nan for c in columns], dtype=float
        ),
        seeds=seeds,
        values=values,
        failed=flags["failed"],
        pruned=flags["pruned"],
        diverged=flags["bad"],
        omitted=_largest(empty, np.outer(rows, columns), meta.omitted.get(rule, 0))
        if (first, second) == AXES
        else np.zeros_like(empty),
        fractions=mean_over_seeds(fractions, np.isfinite(fractions).sum(-1) > 0),
    )


def _planned_decays(meta: Meta, rule: str) -> list[float]:
    if rule == DEFAULT:
        return [] if meta.default_decay is None else [meta.default_decay]
    return list(meta.coefficients.get(rule, [0.0] if rule == BASELINE else []))


def _largest(empty: BoolArray, size: FloatArray, count: int) -> BoolArray:
    """The empty settings of largest lr times weight decay, as many as the plan left out."""
    order = np.argsort(np.where(empty, -size, np.inf), axis=None)
    out = np.zeros(empty.size, dtype=bool)
    out[order[:count]] = True
    return out.reshape(empty.shape) & empty


def _coordinate(record: Record, axis: str) -> Any:
    if axis in AXES:
        return record[axis]
    return (record.get("params") or {}).get(axis)


def in_order(values: Sequence[Any]) -> list[Any]:
    """Each value once: rising if all are numbers, else as they come."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(is_number(v) for v in once) else once


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
