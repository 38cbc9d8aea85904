"""Two charts: learning curves of the best settings, and predicted against measured weight RMS."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..meta import Meta
from ..statistics.analysis import Analysis
from ..statistics.surface import BASELINE, Record, key_of
from ..wording import in_digits, scientific
from .colour import rule_colour
from .svg import LogAxis, marker, path, svg_figure, tag, text

__all__ = ["RmsPoint", "examples", "learning_curves", "rms_points", "rms_scatter"]

WIDTH, HEIGHT = 420.0, 340.0
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5", "1 2", "12 4", "4 2 1 2")
_GAP = 14.0  # least distance between two labels
_SETTLED = 1.5  # fraction per step times steps: 5 % of the start's mean square is left


@dataclass(frozen=True)
class RmsPoint:
    """Weight RMS of one cell, mean over seeds.

    Attributes:
        rule: the rule's name.
        predicted: what the theory says, in units of the weights.
        measured: what training ended with.
        settled: whether decay at the peak lr had the time to remove the initial weights.
    """

    rule: str
    predicted: float
    measured: float
    settled: bool


def learning_curves(analysis: Analysis, records: Sequence[Record], meta: Meta) -> str | None:
    """The reported metric over training: each rule's best setting, and the best without decay.

    Lines are means over seeds, bands reach from the lowest seed to the highest. None if there is
    no curve to draw, or one that is not positive and has no place on a logarithmic axis.
    """
    cells = [(i, rule.best) for i, rule in enumerate(analysis.rules) if rule.best]
    baseline = analysis.baseline.best if analysis.baseline else None
    per_unit = (meta.steps_per_epoch or 1) if _counts_steps(meta) else 1
    of_setting: dict[object, list[Record]] = {}
    for r in records:
        if r.get("curve") and r["status"] == "done" and r["seed"] in meta.seeds:
            of_setting.setdefault(key_of(r), []).append(r["curve"])
    curves: list[tuple[int | None, str, np.ndarray, np.ndarray]] = []
    for index, cell in [*cells, *([(None, baseline)] if baseline else [])]:
        at, runs = _curve_of(of_setting.get(cell.key, []), meta.reported.name)
        if len(at) > 1:
            name = "no decay" if cell.rule == BASELINE else cell.rule
            curves.append((index, name, at / per_unit, runs))
    if not curves or min(float(runs.min()) for *_, runs in curves) <= 0.0:
        return None
    left, right, top, bottom = 40.0, WIDTH - 92.0, 22.0, HEIGHT - 38.0
    last = max(at[-1] for *_, at, _ in curves)
    low = min(float(runs.min()) for *_, runs in curves)
    high = max(float(runs.max()) for *_, runs in curves)
    error = LogAxis(0.95 * low, 1.05 * high, bottom, top)

    title = f"{meta.reported.title} (log scale), {examples(meta)}"
    body = [text(left - 34, 12, title, class_="soft")]
    for value in error.labels():
        y = error(value)
        body.append(path([(left, y), (right, y)], class_="grid"))
        body.append(text(left - 6, y + 4, f"{value:g}", text_anchor="end"))
    for epoch in _round_ticks(last):
        x = left + (right - left) * epoch / last
        body.append(path([(x, bottom), (x, bottom + 4)], class_="frame"))
        body.append(text(x, bottom + 16, f"{epoch:g}", text_anchor="middle"))
    body.append(text(0.5 * (left + right), bottom + 32, _unit(meta), text_anchor="middle"))
    ends = _spread([error(float(runs[:, -1].mean())) for *_, runs in curves], top, bottom)
    for (index, name, at, runs), end in zip(curves, ends, strict=True):
        x = left + (right - left) * at / last
        body += _one_curve(index, x, runs, error)
        place = {"stroke": rule_colour(index), "stroke_width": 1.0, "fill": "none"}
        final = error(float(runs[:, -1].mean()))
        body.append(path([(float(x[-1]), final), (right + 10, end)], **place))
        body.append(text(right + 13, end + 4, name))
    label = (
        f"Learning curves of the best settings: {meta.reported.title}, {examples(meta)}, "
        "logarithmic, over training. "
        + "; ".join(
            f"{name} ends at {in_digits(float(runs[:, -1].mean()))}" for _, name, _, runs in curves
        )
    )
    return svg_figure(WIDTH, HEIGHT, label, *body, name="curves", most=520)


def examples(meta: Meta) -> str:
    """Of how many examples of the test set the curves are."""
    some, all_ = meta.curve_examples, meta.test_examples
    if some is None or all_ is None:  # a ledger from before it was written down
        return "what the training reported"
    return (
        f"all {all_:,} test examples"
        if some == all_
        else f"the first {some:,} of {all_:,} test examples"
    )


def rms_points(records: Iterable[Record], meta: Meta) -> list[RmsPoint]:
    """Predicted and measured weight RMS of every cell that has both, mean over seeds."""
    cells: dict[tuple[str, float, float], list[Record]] = {}
    for r in records:
        values = (r.get("predicted_rms"), r.get("weight_rms"), r.get("fraction"))
        usable = all(v is not None and math.isfinite(v) and v > 0.0 for v in values)
        if usable and not r.get("diverged"):
            cells.setdefault((r["rule"], r["lr"], r["weight_decay"]), []).append(r)
    length = meta.steps or 0
    return [
        RmsPoint(
            rule=rule,
            predicted=_mean(runs, "predicted_rms"),
            measured=_mean(runs, "weight_rms"),
            settled=_mean(runs, "fraction") * length >= _SETTLED,
        )
        for (rule, _, _), runs in cells.items()
    ]


def rms_scatter(points: Sequence[RmsPoint], rules: Sequence[str]) -> str | None:
    """Measured over predicted RMS, both logarithmic, with the line where they are equal.

    Args:
        points: one per cell.
        rules: names in the order that gives them their marker and colour.
    """
    if not points:
        return None
    values = [v for p in points for v in (p.predicted, p.measured)]
    left, top, side = 52.0, 50.0, WIDTH - 70.0
    low, high = 0.8 * min(values), 1.25 * max(values)
    x, y = LogAxis(low, high, left, left + side), LogAxis(low, high, top + side, top)
    body = [text(left - 46, top - 8, "measured RMS (log scale)", class_="soft")]
    for value in x.labels(apart=34.0):  # as wide as they are written
        body.append(path([(x(value), top), (x(value), top + side)], class_="grid"))
        body.append(path([(left, y(value)), (left + side, y(value))], class_="grid"))
        label = scientific(value)
        body.append(text(x(value), top + side + 16, label, text_anchor="middle"))
        body.append(text(left - 6, y(value) + 4, label, text_anchor="end"))
    body.append(path([(left, top + side), (left + side, top)], class_="frame"))
    rotate = f"rotate(-45 {left + side - 40:g} {top + 34:g})"
    body.append(text(left + side - 40, top + 34, "equal", text_anchor="middle", transform=rotate))
    middle = left + 0.5 * side
    body.append(
        text(
            middle,
            top + side + 34,
            "predicted RMS (log scale)",
            text_anchor="middle",
            class_="soft",
        )
    )
    shown = [rule for rule in rules if any(p.rule == rule for p in points)]
    for p in sorted(points, key=lambda p: p.settled):
        index = rules.index(p.rule)
        place = {"stroke": rule_colour(index), "stroke_width": 1.2}
        fill = rule_colour(index) if p.settled else "none"
        title = f"{p.rule}: predicted {scientific(p.predicted)}, measured {scientific(p.measured)}"
        spot = marker(index, x(p.predicted), y(p.measured), 3.2, fill=fill, opacity=0.8, **place)
        body.append(tag("g", tag("title", title), spot))
    for k, rule in enumerate(shown):
        at, index = 18.0 + (WIDTH - 24.0) / max(len(shown), 4) * k, rules.index(rule)
        body.append(marker(index, at, 12.0, 4.0, fill=rule_colour(index)))
        body.append(text(at + 9, 16, rule))
    label = f"Predicted against measured weight RMS of {len(points)} cells, both logarithmic"
    return svg_figure(WIDTH, top + side + 44, label, *body, name="rms", most=520)


def _counts_steps(meta: Meta) -> bool:
    return (meta.curve_unit or "step") == "step"


def _unit(meta: Meta) -> str:
    if not _counts_steps(meta):
        return meta.curve_unit or ""
    return "epoch" if meta.steps_per_epoch else "step"


def _curve_of(curves: Sequence[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps of shape (T,) and values of shape (seeds, T) of one setting's runs."""
    curves = [c for c in curves if name in c]
    if not curves:
        return np.array([]), np.array([])
    length = min(len(c[name]) for c in curves)
    runs = np.array([c[name][:length] for c in curves], dtype=float)
    at = np.array(curves[0]["step"][:length], dtype=float)
    finite = np.isfinite(runs).all(0)
    return at[finite], runs[:, finite]


def _one_curve(index: int | None, x: np.ndarray, runs: np.ndarray, error: LogAxis) -> list[str]:
    def line(values: np.ndarray) -> list[tuple[float, float]]:
        return [(float(a), error(float(b))) for a, b in zip(x, values, strict=True)]

    colour = rule_colour(index)
    band = line(runs.min(0)) + line(runs.max(0))[::-1]
    dash = "" if index is None else _DASHES[index % len(_DASHES)]
    style = {"stroke_dasharray": dash} if dash else {}
    return [
        path(band, fill=colour, opacity=0.13, stroke="none"),
        path(line(runs.mean(0)), fill="none", stroke=colour, stroke_width=2.0, **style),
    ]


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


def _round_ticks(last: float) -> list[float]:
    """About five round numbers from 0 to ``last``."""
    raw = last / 5.0
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(d * unit for d in (1, 2, 5, 10) if d * unit >= raw)
    return [step * k for k in range(int(last / step + 1e-9) + 1)]


def _mean(runs: Sequence[Record], key: str) -> float:
    return float(np.mean([r[key] for r in runs]))
