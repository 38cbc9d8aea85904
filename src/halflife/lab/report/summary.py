"""What the sweep was, and what is to be minded, in sentences about these trainings alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...units.writing import counted
from ..meta import Meta
from ..metric import Metric
from ..statistics.analysis import Analysis
from ..statistics.sentence import margin_text, titled
from ..statistics.surface import BASELINE, Record
from ..wording import listed, short
from .heatmap import scattered
from .svg import brief
from .weights import RmsPoint

__all__ = [
    "caveats",
    "chosen_and_told",
    "clock",
    "facts",
    "map_notes",
    "rms_text",
    "seeds",
    "what_ran",
]


def chosen_and_told(records: Sequence[Record], meta: Meta) -> str:
    """What is to be minded where one metric does both, though there are others; or empty."""
    told = meta.reported.name
    others = sorted({name for r in records for name in r["metrics"]} - {told})
    if meta.chosen_by.name != told or not others:
        return ""
    return (
        f"Settings were chosen by {brief(told)}, which is also what is told, though the trainings "
        f"return {listed([brief(name) for name in others[:5]])} too: if {brief(told)} is measured "
        "on test data, choose by another (choose=, --choose)."
    )


def caveats(analysis: Analysis, meta: Meta, records: Sequence[Record] = ()) -> list[str]:
    """Extended grids, optima on a border, runs that are missing, failed, pruned or diverged."""
    out = [note] if (note := chosen_and_told(records, meta)) else []
    if meta.extensions:
        grown: dict[tuple[str, str, str], int] = {}
        for e in meta.extensions:
            key = (e["rule"], {"lr": "lr"}.get(e["axis"], "weight decay"), e["side"])
            grown[key] = grown.get(key, 0) + 1
        parts = [
            f"{_name(r)} ({n} to the {side} side of {axis})" for (r, axis, side), n in grown.items()
        ]
        out.append(
            "The grid was extended because a best setting lay on its border: " + listed(parts) + "."
        )
    everything = [*analysis.rules, *([analysis.baseline] if analysis.baseline else [])]
    for rule in everything:
        # Where all settings of no decay are alike, its learning rate does not matter.
        if rule.border and (rule.rule != BASELINE or analysis.open_baseline):
            sides = " and ".join(rule.border)
            stops = [u for u in meta.unresolved if u["rule"] == rule.rule]
            why = (
                f"; the grid grew no further: {listed([u['reason'] for u in stops])}"
                if stops
                else ""
            )
            if meta.extend is False:
                why = ", and the grid was not allowed to grow"
            out.append(
                f"The best setting of {_name(rule.rule)} lies on the border of the grid "
                f"({sides}): it is no optimum{why}."
            )
    missing = {r.rule: r.missing for r in everything if r.missing and not scattered(r.surface)}
    if missing:
        parts = [f"{n} of {_name(r)}" for r, n in missing.items()]
        out.append(
            f"Not every setting has all seeds: {sum(missing.values()):,} trainings are not in the "
            f"ledger ({listed(parts)}). Settings are compared on the seeds that most of them have; "
            "those that lack one are drawn small, and are not chosen among."
        )
    omitted = {r.rule: int(r.surface.omitted.sum()) for r in analysis.rules}
    if any(omitted.values()):
        parts = [f"{n} of {brief(rule)}" for rule, n in omitted.items() if n]
        out.append(
            "Settings left out because one step would remove whole weights (a fraction of 1 or "
            f"more): {listed(parts)}."
        )
    for kind, words in (("diverged", "diverged"), ("failed", "failed"), ("pruned", "was stopped")):
        counts = {r.rule: getattr(r, kind) for r in everything if getattr(r, kind)}
        if counts:
            parts = [f"{n} of {_name(r)}" for r, n in counts.items()]
            out.append(f"Settings that have no mean, since a run {words}: {listed(parts)}.")
    if analysis.baseline is None:
        out.append("There are no trainings without decay to compare with.")
    return out


def _name(rule: str) -> str:
    return brief(titled(rule))


def map_notes(analysis: Analysis) -> list[str]:
    """What the colours of the maps do not mean."""
    flat = [r.rule for r in analysis.rules if r.within and r.within.everything]
    alone = [r for r in analysis.rules if r.within and r.within.threshold is None]
    out = []
    if flat:
        rules = listed([brief(rule) for rule in flat])
        out.append(f"No setting of {rules} can be told from its best: its colours differ by noise.")
    if alone:
        out.append("With one seed the noise is not known, and colours may differ by nothing else.")
    return out


def what_ran(analysis: Analysis, meta: Meta) -> str:
    """The size of the sweep and, as far as it is known, of each training."""
    lrs = max((len(r.surface.rows) for r in analysis.rules), default=0)
    decays = max((len(r.surface.columns) for r in analysis.rules), default=0)
    parts = [counted(len(meta.rules), "rule"), counted(lrs, "learning rate")]
    parts.append(counted(decays, "strength" if meta.strengths else "weight decay"))
    parts += [
        f"{counted(len(values), 'value')} of {brief(name)}" for name, values in meta.params.items()
    ]
    parts.append(f"{counted(len(meta.seeds), 'seed')} to choose by")
    if meta.confirm_seeds:
        parts.append(f"{counted(len(meta.confirm_seeds), 'fresh seed')} to judge by")
    run = _training(meta)
    return f"{listed(parts)}." + (f" A training: {run}." if run else "")


def _training(meta: Meta) -> str:
    parts = []
    if meta.epochs and meta.steps_per_epoch:
        per = counted(meta.steps_per_epoch, "step")
        parts.append(f"{counted(meta.epochs, 'epoch')} of {per}")
    elif meta.steps:
        parts.append(counted(meta.steps, "step"))
    parts += [f"batch size {meta.batch_size}"] if meta.batch_size else []
    parts += [f"{meta.schedule} schedule"] if meta.schedule else []
    return ", ".join(parts)


def facts(records: Sequence[Record], meta: Meta) -> list[tuple[str, str]]:
    """What was run, by what, and how long it took."""
    seconds = np.array([float(r["seconds"]) for r in records if r.get("seconds")], dtype=float)
    seconds = seconds[np.isfinite(seconds) & (seconds > 0.0)]
    took = ""
    if len(seconds):
        low, middle, high = np.quantile(seconds, [0.1, 0.5, 0.9])
        took = f"{clock(float(seconds.sum()))} in all; one: {clock(middle)} in the median"
        took += f", {clock(low)} to {clock(high)} in eight of ten" if len(seconds) > 9 else ""
    kinds = Counter(
        "diverged" if r["status"] == "done" and r.get("diverged") else r["status"] for r in records
    )
    named = {
        "training": meta.name,
        "optimizer": meta.optimizer,
        "chosen by": _metric(meta.chosen_by),
        "reported": _metric(meta.reported),
        "seeds that choose": seeds(meta.seeds),
        "fresh seeds": seeds(meta.confirm_seeds),
        "each training": _training(meta),
        "trainings": ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common()),
        "time of trainings": took,
        "margin of equality": margin_text(meta.margin, meta.reported) if meta.margin else None,
        "grid extension": None if meta.extend is None else "on" if meta.extend else "off",
    } | dict(meta.versions)
    return [(name, str(value)) for name, value in named.items() if value not in (None, "")]


def _metric(metric: Metric) -> str:
    return f"{metric.title}, {'less' if metric.goal == 'min' else 'more'} is better"


def seeds(values: Sequence[int]) -> str:
    """Seeds, in a row as a range.

    Example:
        >>> seeds([0, 1, 2, 3]), seeds([3, 7])
        ('0 to 3', '3, 7')
    """
    values = list(values)
    if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values[:50])) + (", ..." if values[50:] else "")


def clock(seconds: float) -> str:
    """A time in seconds, minutes or hours.

    Example:
        >>> clock(0.042), clock(75.0), clock(8000.0)
        ('0.042 s', '1 min 15 s', '2 h 13 min')
    """
    if seconds < 59.95:
        return f"{float(f'{seconds:.3g}'):g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def rms_text(points: Sequence[RmsPoint], meta: Meta) -> list[str]:
    """What the prediction assumes, and how far off it was."""
    out = [f"The prediction: {meta.prediction}."] if meta.prediction else []
    without = [rule for rule in meta.rules if all(p.rule != rule for p in points)]
    if without:
        out.append(f"No prediction is made for {listed([brief(rule) for rule in without])}.")
    for settled, what in ((True, "is forgotten"), (False, "still shows")):
        ratios = [p.measured / p.predicted for p in points if p.settled == settled]
        if ratios:
            low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
            sign = "filled" if settled else "hollow"
            out.append(
                f"{len(ratios)} settings whose start {what} ({sign}): measured over predicted is "
                f"{short(middle)} in the median, and between {short(low)} and {short(high)} in "
                "eight settings of ten."
            )
    return out
