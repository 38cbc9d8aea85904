"""The page's tables: finalists on fresh seeds, all rules, and the maps as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...units.writing import counted
from ..meta import Meta
from ..metric import Metric
from ..statistics.analysis import Analysis, RuleAnalysis
from ..statistics.confirmation import Comparison, Fresh
from ..statistics.sentence import margin_text
from ..statistics.surface import BASELINE, DEFAULT, Setting
from ..wording import in_digits, interval, scientific, short, signed, spread, steps, with_unit
from .heatmap import place_text

__all__ = ["Table", "finalists_table", "grid_table", "rules_table"]

NONE = "\N{EN DASH}"  # stands where there is no value


@dataclass(frozen=True)
class Table:
    """A table with a column of row headers.

    Attributes:
        caption: what it shows.
        columns: heads; the first is that of the row headers.
        rows: header and cells.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]

    def without_empty(self) -> Table:
        """The table without columns that hold nothing."""
        kept = [
            i
            for i in range(len(self.columns))
            if i == 0 or any(row[i] not in ("", NONE) for row in self.rows)
        ]
        rows = [[row[i] for i in kept] for row in self.rows]
        return Table(self.caption, [self.columns[i] for i in kept], rows)


def finalists_table(analysis: Analysis, meta: Meta) -> Table | None:
    """The settings that fresh seeds judge: what they reached, and what the leader gains over them.

    None where no fresh seed was trained.
    """
    metric = meta.reported
    fresh: list[tuple[str, str, Fresh | None]] = []
    if analysis.best:
        fresh.append((analysis.best.rule, "leads", analysis.best.fresh))
    if analysis.baseline:
        fresh.append((BASELINE, "no decay", analysis.baseline.fresh))
    if not any(analysis.is_default(r.rule) for r in analysis.rules):
        fresh.append((DEFAULT, "torch's default", analysis.default))
    others = [r for r in analysis.rules if analysis.best and r.rule != analysis.best.rule]
    fresh += [(r.rule, "best of its rule", r.fresh) for r in others]
    against = {c.other: c for c in analysis.comparisons}
    rows = []
    for name, role, runs in fresh:
        if runs is None:
            continue
        c = against.get(name)
        value = bounds = NONE
        if runs.value is not None:
            width = 0.25 * (runs.interval[1] - runs.interval[0]) if runs.interval else None
            value = with_unit(runs.value, metric.unit, width)
        if runs.interval:
            bounds = _whole(*runs.interval)
        gain = told = NONE
        if c is not None:
            width = 0.25 * (c.interval[1] - c.interval[0]) if c.interval else None
            gain = with_unit(c.gain, metric.unit_of_differences, width)
            gain += f" {_whole(*c.interval)}" if c.interval else ""
            gain += f" on {counted(c.seeds, 'seed')}" if c.seeds != runs.seeds else ""
            told = _told(c, metric)
        counts = {"missing": runs.missing, "failed": runs.failed, "diverged": runs.diverged}
        lost = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        seeds = f"{runs.seeds} of {len(meta.confirm_seeds)}" + (f" ({lost})" if lost else "")
        role += " and torch's default" if analysis.is_default(name) else ""
        rows.append([role, *_place(runs.setting), value, bounds, gain, told, seeds])
    if not rows or all(row[-1].startswith("0 of") for row in rows):
        return None
    columns = [
        "",
        "rule",
        "lr",
        "weight_decay",
        "other parameters",
        "half-life, steps",
        metric.title,
    ]
    columns += ["95 % interval", "leader's gain over it", "told apart", "fresh seeds"]
    return Table("Finalists on fresh seeds", columns, rows).without_empty()


def _whole(low: float, high: float) -> str:
    """An interval that no line end breaks."""
    return spread(low, high).replace(" ", "\N{NO-BREAK SPACE}")


def _told(c: Comparison, metric: Metric) -> str:
    if c.interval is None:
        return NONE
    margin = margin_text(c.margin, metric) if c.equal and c.margin is not None else ""
    if c.clear or c.worse:
        told = "yes" if c.clear else "yes: it is worse"
        return f"{told}, by less than {margin}" if margin else told
    return f"no: equal within {margin}" if margin else "no"


def _place(setting: Setting) -> list[str]:
    name = "none" if setting.rule == BASELINE else setting.rule
    return [
        name,
        scientific(setting.lr),
        short(setting.weight_decay),
        place_text(setting.params) or NONE,
        steps(setting.half_life) if setting.half_life else NONE,
    ]


def rules_table(analysis: Analysis, meta: Meta) -> Table:
    """The best setting of each rule by the seeds that chose, the trainings without decay last."""
    baseline = [analysis.baseline] if analysis.baseline else []
    per_epoch = meta.steps_per_epoch
    life = "half-life, steps (epochs)" if per_epoch else "half-life, steps"
    columns = ["rule", "lr", "weight_decay", "other parameters", life, "timescale, steps"]
    columns += [f"{meta.reported.title}, by the seeds that chose", "ridge slope"]
    columns += ["settings within the noise", "noise between seeds"]
    rows = [_row(rule, meta, len(columns)) for rule in [*analysis.rules, *baseline]]
    return Table("Best setting of each rule", columns, rows).without_empty()


def _row(rule: RuleAnalysis, meta: Meta, columns: int) -> list[str]:
    best, ridge, unit = rule.best, rule.ridge, meta.reported.unit
    is_baseline = rule.rule == BASELINE
    name = "no decay" if is_baseline else rule.rule
    if best is None:
        return [name, *[NONE] * (columns - 1)]
    slope = life = chosen = NONE
    if best.half_life is not None:
        life = steps(best.half_life)
        if per_epoch := meta.steps_per_epoch:
            life += f" ({steps(best.half_life / per_epoch)})"
    if best.value is not None:
        chosen = with_unit(best.value, unit, best.standard_error)
    if ridge.slope is not None and not is_baseline:
        slope = f"{signed(ridge.slope)} {interval(ridge.low, ridge.high) or '(no interval)'}"
    within = rule.within if not is_baseline else None
    return [
        name,
        scientific(best.lr),
        short(best.weight_decay),
        place_text(best.params) or NONE,
        life,
        steps(best.timescale) if best.timescale else NONE,
        chosen + (" (border)" if rule.border else ""),
        slope,
        f"{within.count} ({within.share:.0%})" if within and within.threshold is not None else NONE,
        with_unit(rule.noise.total, unit, rule.noise.total) if rule.noise else NONE,
    ]


def grid_table(rule: RuleAnalysis) -> Table:
    """One rule's means as a table, lr from high to low as in the picture."""
    surface, noise = rule.surface, rule.noise.total if rule.noise else None
    mean, unusable = surface.mean, surface.unusable
    at = f" at {place_text(surface.fixed)}" if surface.fixed else ""
    caption = f"{rule.rule}{at}: {surface.metric.title}, by lr (rows) and weight_decay (columns)"
    rows = [
        [
            scientific(float(surface.rows[i])),
            *(
                ("unusable" if bad else NONE) if math.isnan(value) else in_digits(value, noise)
                for value, bad in zip(mean[i].tolist(), unusable[i].tolist(), strict=True)
            ),
        ]
        for i in reversed(range(len(surface.rows)))
    ]
    return Table(caption, ["lr", *(short(float(c)) for c in surface.columns)], rows)
