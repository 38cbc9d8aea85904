"""Learning curves of the best settings, of whatever the trainings reported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..meta import Meta
from ..statistics.analysis import Analysis
from ..statistics.surface import BASELINE, FloatArray, Record, Setting, key_of
from ..wording import in_digits, listed
from .colour import rule_colour
from .scales import LinearAxis, LogAxis, Ruler, axis_for, tick
from .svg import brief, label, path, svg_figure, text, width_of

__all__ = ["DASHES", "Curves", "examples", "learning_curves"]

WIDTH, HEIGHT = 420.0, 340.0
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5", "1 2", "12 4", "4 2 1 2")
_GAP = 14.0  # least distance between two labels
_METRICS, _POINTS = 4, 200  # at most drawn


@dataclass(frozen=True)
class Curves:
    """What is drawn of learning curves.

    Attributes:
        figures: one drawing per metric.
        notes: what is to be said of them.
    """

    figures: list[str]
    notes: list[str]


@dataclass(frozen=True)
class _Line:
    """One setting's runs.

    Attributes:
        index: of the rule; None without decay.
        name: as it is labelled.
        at: where values are; shape (T,).
        runs: the metric, NaN where it is missing or not finite; shape (seeds, T).
    """

    index: int | None
    name: str
    at: FloatArray
    runs: FloatArray

    @property
    def whole(self) -> FloatArray:
        """Mean over seeds where all of them have a value, else NaN; shape (T,)."""
        fine = np.isfinite(self.runs).all(0)
        total = (np.where(fine, self.runs, 0.0) / len(self.runs)).sum(0)
        return np.where(fine, total, np.nan)


def learning_curves(analysis: Analysis, records: Sequence[Record], meta: Meta) -> Curves | None:
    """Metrics over training: each rule's best setting, and the best without decay.

    Lines are means over the seeds that chose, bands reach from the lowest seed to the highest; both
    have a gap where a seed has no finite value. None if there is nothing to draw.
    """
    settings: list[tuple[int | None, Setting]] = [
        (i, rule.best) for i, rule in enumerate(analysis.rules) if rule.best
    ]
    found: dict[object, list[Mapping[str, Sequence[float]]]] = {s.key: [] for _, s in settings}
    baseline = analysis.baseline.best if analysis.baseline else None
    if baseline:
        found[baseline.key] = []
    for r in records:
        if r.get("curve") and r["status"] == "done" and r["seed"] in meta.seeds:
            own = found.get(key_of(r))
            if own is not None:
                own.append(r["curve"])
    places = [*([(None, baseline)] if baseline else []), *settings]
    known = {name for curves in found.values() for curve in curves for name in curve} - {"step"}
    first = [n for n in dict.fromkeys((meta.reported.name, meta.chosen_by.name)) if n in known]
    order = first + sorted(known - set(first))
    figures: list[str] = []
    notes, left_out = [], []
    for name in order:
        lines = []
        for index, setting in places:
            at, runs = _runs(found[setting.key], name)
            if len(at) > 1 and np.isfinite(runs).any():
                shown = "no decay" if setting.rule == BASELINE else setting.rule
                lines.append(_Line(index, shown, at / _per_unit(meta), runs))
        if not lines:
            continue
        if len(figures) == _METRICS:
            left_out.append(name)
            continue
        figures.append(_figure(lines, _title(name, meta), meta, f"curves-{len(figures)}"))
        gaps = [brief(line.name) for line in lines if not np.isfinite(line.runs).all()]
        if gaps:
            notes.append(
                f"{brief(_words(name))} is missing or not finite at times: {listed(gaps)}."
            )
    if left_out:
        some = listed([brief(_words(name)) for name in left_out[:10]])
        notes.append(
            f"Reported too, and not drawn: {some}" + (", ..." if left_out[10:] else "") + "."
        )
    return Curves(figures, notes) if figures else None


def examples(meta: Meta) -> str:
    """Of how many examples of the test set the curves are; empty if that is not known."""
    some, all_ = meta.curve_examples, meta.test_examples
    if some is None or all_ is None:
        return ""
    if some == all_:
        return f"all {all_:,} test examples"
    return f"the first {some:,} of {all_:,} test examples"


def _title(name: str, meta: Meta) -> str:
    for metric in (meta.reported, meta.chosen_by):
        if metric.name == name:
            return metric.title
    return _words(name)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _counts_steps(meta: Meta) -> bool:
    return meta.curve_unit == "step"


def _per_unit(meta: Meta) -> float:
    return float((meta.steps_per_epoch or 1) if _counts_steps(meta) else 1)


def _unit(meta: Meta) -> str:
    if not _counts_steps(meta):
        return meta.curve_unit or "step, as reported"
    return "epoch" if meta.steps_per_epoch else "step"


def _runs(
    curves: Sequence[Mapping[str, Sequence[float]]], name: str
) -> tuple[FloatArray, FloatArray]:
    """Where a setting's runs have values, at most so many places, and the values."""
    curves = [c for c in curves if name in c and "step" in c]
    places = sorted({float(s) for c in curves for s in c["step"] if math.isfinite(s)})
    if len(places) > _POINTS:
        chosen = np.unique(np.linspace(0, len(places) - 1, _POINTS).round().astype(int))
        places = [places[i] for i in chosen]
    runs = np.full((len(curves), len(places)), np.nan)
    at = {place: i for i, place in enumerate(places)}
    for row, curve in zip(runs, curves, strict=True):
        for step, value in zip(curve["step"], curve[name], strict=False):
            if step in at and value is not None and math.isfinite(value):
                row[at[step]] = value
    return np.array(places), runs


def _figure(lines: Sequence[_Line], title: str, meta: Meta, name: str) -> str:
    values = np.concatenate([line.runs[np.isfinite(line.runs)] for line in lines])
    top, bottom, right = 22.0, HEIGHT - 38.0, WIDTH - 92.0
    y = axis_for([float(values.min()), float(values.max())], bottom, top)
    ticks = y.labels(apart=16.0)
    apart = 0.0 if isinstance(y, LogAxis) or len(ticks) < 2 else ticks[1] - ticks[0]
    written = [tick(v, apart) for v in ticks]
    left = min(max([30.0, *(width_of(w) for w in written)]) + 10.0, 130.0)
    first = min(min(0.0, float(line.at[0])) for line in lines)
    x = LinearAxis(first, max(float(line.at[-1]) for line in lines) or 1.0, left, right)
    scale = ", log scale" if isinstance(y, LogAxis) else ""
    body = [label(4, 12, title + scale, WIDTH - 8.0, class_="soft")]
    for value, words in zip(ticks, written, strict=True):
        body.append(path([(left, y(value)), (right, y(value))], class_="grid"))
        body.append(label(left - 6, y(value) + 4, words, left - 6.0, text_anchor="end"))
    for value in x.labels(apart=30.0):
        body.append(path([(x(value), bottom), (x(value), bottom + 4)], class_="frame"))
        body.append(text(x(value), bottom + 16, tick(value), text_anchor="middle"))
    middle = 0.5 * (left + right)
    body.append(label(middle, bottom + 32, _unit(meta), right - left, text_anchor="middle"))
    ends = [_end(line) for line in lines]
    spots = _spread([y(value) for _, value in ends], top, bottom)
    for line, (at, value), spot in zip(lines, ends, spots, strict=True):
        colour = rule_colour(line.index)
        body += _drawn(line, x, y)
        lead = [(x(at), y(value)), (right + 10, spot)]
        body.append(path(lead, stroke=colour, stroke_width=1.0, fill="none"))
        body.append(label(right + 13, spot + 4, line.name, WIDTH - right - 15.0))
    finals = (
        f"{line.name} ends at {in_digits(v)}" for line, (_, v) in zip(lines, ends, strict=True)
    )
    about = f"Learning curves of the best settings: {title}{scale}. {'; '.join(finals)}"
    return svg_figure(WIDTH, HEIGHT, about, *body, name=name, most=520)


def _end(line: _Line) -> tuple[float, float]:
    """The last place that has a mean, or else any value, and that."""
    mean = line.whole
    if not np.isfinite(mean).any():
        mean = np.where(np.isfinite(line.runs), line.runs, -np.inf).max(0)
    last = int(np.flatnonzero(np.isfinite(mean))[-1])
    return float(line.at[last]), float(mean[last])


def _drawn(line: _Line, x: Ruler, y: Ruler) -> list[str]:
    """Bands and lines of the stretches without a gap."""
    dash = "" if line.index is None else DASHES[line.index % len(DASHES)]
    style = {"stroke_dasharray": dash} if dash else {}
    colour, mean, out = rule_colour(line.index), line.whole, []
    fine = np.flatnonzero(np.isfinite(mean))
    for piece in np.split(fine, np.flatnonzero(np.diff(fine) > 1) + 1) if len(fine) else []:
        at = [x(float(v)) for v in line.at[piece]]
        low, high = (
            [y(float(v)) for v in edge]
            for edge in (line.runs[:, piece].min(0), line.runs[:, piece].max(0))
        )
        middle = [y(float(v)) for v in mean[piece]]
        band = [*zip(at, low, strict=True), *zip(at[::-1], high[::-1], strict=True)]
        points = list(zip(at, middle, strict=True))
        if len(points) == 1:  # a stretch of one place
            points.append((points[0][0] + 1.5, points[0][1]))
        out.append(path(band, fill=colour, opacity=0.13, stroke="none"))
        out.append(path(points, fill="none", stroke=colour, stroke_width=2.0, **style))
    return out


def _spread(positions: Sequence[float], top: float, bottom: float) -> list[float]:
    """Labels moved apart, in their order, until none is closer than the gap."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = [positions[i] for i in order]
    for _ in range(200):
        for k in range(len(placed) - 1):
            lack = _GAP - (placed[k + 1] - placed[k])
            if lack > 0.0:
                placed[k] -= 0.5 * lack
                placed[k + 1] += 0.5 * lack
        shift = min(bottom + 4.0 - placed[-1], 0.0) or max(top - placed[0], 0.0)
        placed = [p + shift for p in placed]
    out = [0.0] * len(placed)
    for rank, i in enumerate(order):
        out[i] = placed[rank]
    return out
