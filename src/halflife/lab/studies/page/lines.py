"""The figures of a study: lines over an axis, with a band where a point has one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...report.colour import rule_colour
from ...report.curves import DASHES
from ...report.scales import LinearAxis, LogAxis, Ruler, tick
from ...report.svg import label, marker, path, svg_figure, text, width_of
from ...wording import in_digits
from ..calls import Curve

__all__ = ["drawn_curve", "points_of"]

WIDTH, HEIGHT = 420.0, 300.0
_MARKED = 24  # a line of at most so many points has a marker at each

Point = tuple[float, ...]


def drawn_curve(curve: Curve, name: str) -> str:
    """An SVG of a figure; empty where it has no point that can be drawn.

    Args:
        curve: what the study's plan found.
        name: unique in the page.
    """
    lines = {key: _fit(points, curve) for key, points in curve.lines.items()}
    every = [point for points in lines.values() for point in points]
    if not every:
        return ""
    legend = 17.0 * len(lines)
    top, bottom, right = 24.0, HEIGHT - 44.0, WIDTH - 12.0
    heights = [v for p in every for v in p[1:] if math.isfinite(v) and (v > 0 or not curve.log_y)]
    y = _ruler(heights, curve.log_y, bottom, top)
    ticks = y.labels(apart=20.0)
    written = _written(ticks, curve.log_y)
    left = min(max([26.0, *(width_of(w) for w in written)]) + 10.0, 120.0)
    x = _ruler([p[0] for p in every], curve.log_x, left + 4, right - 4)
    scale = ", log scale" if curve.log_y else ""
    body = [label(4, 12, curve.y_label + scale, WIDTH - 8.0, class_="soft")]
    for value, words in zip(ticks, written, strict=True):
        body.append(path([(left, y(value)), (right, y(value))], class_="grid"))
        body.append(label(left - 6, y(value) + 4, words, left - 6.0, text_anchor="end"))
    body.append(path([(left, bottom), (right, bottom)], class_="frame"))
    places = x.labels(apart=40.0)
    for value, words in zip(places, _written(places, curve.log_x), strict=True):
        body.append(path([(x(value), bottom), (x(value), bottom + 4)], class_="frame"))
        anchor = "end" if x(value) > right - 14 else "middle"
        body.append(text(x(value), bottom + 16, words, text_anchor=anchor))
    under = curve.x_label + (", log scale" if curve.log_x else "")
    middle = 0.5 * (left + right)
    body.append(label(middle, bottom + 33, under, right - left, text_anchor="middle"))
    for index, points in enumerate(lines.values()):
        body += _line(index, points, x, y)
    for index, key in enumerate(lines):
        at = HEIGHT + 10.0 + 17.0 * index
        body.append(path([(left, at - 4), (left + 30, at - 4)], **_stroke(index)))
        body.append(marker(index, left + 15, at - 4, 3.2, fill=rule_colour(index)))
        body.append(label(left + 38, at, key, WIDTH - left - 46.0))
    ends = "; ".join(
        f"{key} from {in_digits(points[0][1])} to {in_digits(points[-1][1])}"
        for key, points in lines.items()
        if points
    )
    about = f"{curve.title}: {curve.y_label} over {curve.x_label}. {ends}."
    return svg_figure(WIDTH, HEIGHT + 8.0 + legend, about, *body, name=name, most=520)


def points_of(curve: Curve) -> list[list[str]]:
    """The figure's points as a table's rows: line, x, y, and the band's ends where it has one."""
    return [
        [key, *(in_digits(float(v)) for v in point)]
        for key, points in curve.lines.items()
        for point in points
    ]


def _fit(points: Sequence[Point], curve: Curve) -> list[Point]:
    """Those that a figure has a place for."""
    return [
        tuple(map(float, p))
        for p in points
        if math.isfinite(p[0]) and math.isfinite(p[1])
        and (p[0] > 0 or not curve.log_x) and (p[1] > 0 or not curve.log_y)
    ]  # fmt: skip


def _ruler(values: Sequence[float], logarithmic: bool, start: float, end: float) -> Ruler:
    low, high = min(values), max(values)
    if logarithmic:
        room = max((high / low) ** 0.04, 1.02)
        return LogAxis(max(low / room, 1e-300), min(high * room, 1e300), start, end)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
    return LinearAxis(low - margin, high + margin, start, end)


def _written(values: Sequence[float], logarithmic: bool) -> list[str]:
    apart = 0.0 if logarithmic or len(values) < 2 else values[1] - values[0]
    return [tick(value, apart) for value in values]


def _stroke(index: int) -> dict[str, object]:
    dash = DASHES[index % len(DASHES)]
    style: dict[str, object] = {"stroke_dasharray": dash} if dash else {}
    return {"fill": "none", "stroke": rule_colour(index), "stroke_width": 2.0, **style}


def _line(index: int, points: Sequence[Point], x: Ruler, y: Ruler) -> list[str]:
    points = sorted(points, key=lambda point: point[0])
    body = []
    band = [p for p in points if len(p) == 4 and all(map(math.isfinite, p[2:]))]
    if len(band) > 1:
        edge = [(x(p[0]), y(p[3])) for p in band] + [(x(p[0]), y(p[2])) for p in reversed(band)]
        body.append(path(edge, fill=rule_colour(index), opacity=0.15, stroke="none"))
    if len(points) > 1:
        body.append(path([(x(p[0]), y(p[1])) for p in points], **_stroke(index)))
    if len(points) <= _MARKED:
        body += [marker(index, x(p[0]), y(p[1]), 3.2, fill=rule_colour(index)) for p in points]
    return body
