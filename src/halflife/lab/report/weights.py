"""Predicted against measured size of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..meta import Meta
from ..statistics.surface import Record, key_of
from ..wording import scientific
from .colour import rule_colour
from .scales import LogAxis
from .svg import label, marker, path, svg_figure, text

__all__ = ["RmsPoint", "rms_points", "rms_scatter"]

WIDTH = 420.0
_MOST = 2000  # markers: more are told apart by nobody
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


def rms_points(records: Iterable[Record], meta: Meta) -> list[RmsPoint]:
    """Predicted and measured weight RMS of every cell that has both, mean over seeds."""
    cells: dict[object, list[Record]] = {}
    for r in records:
        values = (r.get("predicted_rms"), r.get("weight_rms"), r.get("fraction"))
        usable = all(v is not None and math.isfinite(v) and v > 0.0 for v in values)
        if usable and not r.get("diverged"):
            cells.setdefault(key_of(r), []).append(r)
    length = meta.steps or 0
    return [
        RmsPoint(
            rule=runs[0]["rule"],
            predicted=_mean(runs, "predicted_rms"),
            measured=_mean(runs, "weight_rms"),
            settled=_mean(runs, "fraction") * length >= _SETTLED,
        )
        for runs in cells.values()
    ]


def rms_scatter(points: Sequence[RmsPoint], rules: Sequence[str]) -> str | None:
    """Measured over predicted RMS, both logarithmic, with the line where they are equal.

    Args:
        points: one per setting; of very many, some evenly chosen ones are drawn.
        rules: names in the order that gives them their marker and colour.
    """
    points = [p for p in points if p.rule in rules]
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
        shown = scientific(value)
        body.append(text(x(value), top + side + 16, shown, text_anchor="middle"))
        body.append(text(left - 6, y(value) + 4, shown, text_anchor="end"))
    body.append(path([(left, top + side), (left + side, top)], class_="frame"))
    rotate = f"rotate(-45 {left + side - 40:g} {top + 34:g})"
    body.append(text(left + side - 40, top + 34, "equal", text_anchor="middle", transform=rotate))
    below = {"text_anchor": "middle", "class_": "soft"}
    body.append(text(left + 0.5 * side, top + side + 34, "predicted RMS (log scale)", **below))
    at = {rule: index for index, rule in enumerate(rules)}
    thin = math.ceil(len(points) / _MOST)
    for p in sorted(points[::thin], key=lambda p: p.settled):
        colour = rule_colour(at[p.rule])
        place = {"stroke": colour, "stroke_width": 1.2, "opacity": 0.8}
        place["fill"] = colour if p.settled else "none"
        body.append(marker(at[p.rule], x(p.predicted), y(p.measured), 3.2, **place))
    seen = {p.rule for p in points}
    names = [rule for rule in rules if rule in seen]
    room = (WIDTH - 24.0) / max(len(names), 4)
    for k, rule in enumerate(names):
        spot = 18.0 + room * k
        body.append(marker(at[rule], spot, 12.0, 4.0, fill=rule_colour(at[rule])))
        body.append(label(spot + 9, 16, rule, room - 18.0))
    about = f"Predicted against measured weight RMS of {len(points)} settings, both logarithmic"
    return svg_figure(WIDTH, top + side + 44, about, *body, name="rms", most=520)


def _mean(runs: Sequence[Record], key: str) -> float:
    return float(np.mean([r[key] for r in runs]))
