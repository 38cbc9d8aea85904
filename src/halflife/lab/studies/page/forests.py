"""A claim's values as a forest: a row for the claim, for what must fail, must hold, and matches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...report.scales import LinearAxis, LogAxis, Ruler, tick
from ...report.svg import label, path, svg_figure, tag, text, width_of
from ..design import Claim
from ..results import ClaimResult
from ..verdict import Verdict
from ..words import measured_text

__all__ = ["forest"]

WIDTH = 440.0
_LEFT, _RIGHT, _ROW, _TOP = 12.0, WIDTH - 12.0, 48.0, 26.0
_DOTS = 160  # at most of a row
_FAR = 3.0  # a planted effect so many times as large as the rest is told by an arrow
_GOLDEN = 0.6180339887


@dataclass(frozen=True)
class _Row:
    """One line of dots.

    Attributes:
        name: of the row.
        values: one a seed.
        verdict: of them.
        main: whether it is the claim itself.
    """

    name: str
    values: Sequence[float]
    verdict: Verdict
    main: bool = False


def forest(result: ClaimResult, every: Mapping[str, Sequence[float]], name: str) -> str:
    """An SVG of the values of a claim and of its controls; empty where there is nothing to draw.

    Args:
        result: the claim with its verdicts.
        every: values of all endpoints of the study, as its findings have them.
        name: unique in the page.
    """
    claim = result.claim
    rows = [_Row("the claim", result.values, result.verdict, main=True)]
    names = {
        "null": "null, which must not hold",
        "planted": "planted, which must be seen",
        **{m: f"at {m}" for m in claim.matched},
    }
    for key in (*claim.matched, "null", "planted"):
        if key in result.controls:
            values = every[f"{claim.name}/{key}"]
            rows.append(_Row(names[key], values, result.controls[key]))
    if claim.kind == "exact":
        rows = [_Row(r.name, [abs(v) for v in r.values], r.verdict, r.main) for r in rows]
    rows = [row for row in rows if any(map(math.isfinite, row.values))]
    axis = _axis(claim, rows)
    if axis is None:
        return ""
    bottom = _TOP + _ROW * len(rows)
    body = _ground(claim, axis, bottom)
    for number, row in enumerate(rows):
        body += _drawn(claim, row, axis, _TOP + _ROW * number)
    told = "; ".join(
        f"{row.name}: {measured_text(claim, row.verdict, unit=False) or 'no number'}, "
        f"{row.verdict.outcome}"
        for row in rows
    )
    about = f"{claim.words} In {claim.unit}. {told}."
    return svg_figure(WIDTH, bottom + 44.0, about, *body, name=name, most=560, kind="forest")


def _axis(claim: Claim, rows: Sequence[_Row]) -> Ruler | None:
    near = [v for row in rows if row.name[:7] != "planted" for v in _reach(row)]
    if claim.kind == "exact":
        every = [v for row in rows for v in _reach(row) if v > 0.0]
        if claim.effect <= 0.0 or not every:
            return None
        low, high = min(*every, claim.effect), max(*every, claim.effect)
        return LogAxis(max(low / 4.0, 1e-300), min(high * 4.0, 1e300), _LEFT + 14.0, _RIGHT - 8.0)
    sign = -1.0 if claim.kind == "below" else 1.0
    bounds = [sign * claim.effect] if claim.kind != "equivalent" else [-claim.effect, claim.effect]
    near += [0.0, *bounds]
    low, high = min(near), max(near)
    span = (high - low) or 1.0
    for row in rows:
        reach = _reach(row)
        if row.name[:7] == "planted" and reach:
            low = min(low, max(min(reach), low - _FAR * span))
            high = max(high, min(max(reach), high + _FAR * span))
            if not low <= row.verdict.mean <= high:  # it is told by an arrow: leave no void for it
                low, high = min(near), max(near)
    margin = 0.06 * ((high - low) or 1.0)
    return LinearAxis(low - margin, high + margin, _LEFT + 8.0, _RIGHT - 8.0)


def _reach(row: _Row) -> list[float]:
    ends = row.verdict.interval or ()
    return [v for v in (*row.values, *ends) if math.isfinite(v)]


def _ground(claim: Claim, axis: Ruler, bottom: float) -> list[str]:
    """The head, which says what is shaded, and the axis."""
    words = {"equivalent": "within the margin", "exact": "allowed"}
    body = [
        tag("rect", x=_LEFT, y=4.0, width=16.0, height=9.0, class_="zone edged"),
        label(_LEFT + 22, 12, words.get(claim.kind, "as large as the smallest effect of interest"),
              WIDTH, class_="soft"),
    ]  # fmt: skip
    ticks = axis.labels(apart=34.0)
    logarithmic = isinstance(axis, LogAxis)
    apart = 0.0 if logarithmic or len(ticks) < 2 else ticks[1] - ticks[0]
    body.append(path([(_LEFT, bottom), (_RIGHT, bottom)], class_="frame"))
    for value in ticks:
        body.append(path([(axis(value), bottom), (axis(value), bottom + 4)], class_="frame"))
        body.append(text(axis(value), bottom + 16, tick(value, apart), text_anchor="middle"))
    what = f"size of the deviation, {claim.unit}" if claim.kind == "exact" else claim.unit
    scale = ", log scale" if logarithmic else ""
    middle = 0.5 * (_LEFT + _RIGHT)
    under = {"text_anchor": "middle", "class_": "soft"}
    return [*body, label(middle, bottom + 34, what + scale, WIDTH - 16.0, **under)]


def _strip(claim: Claim, axis: Ruler, top: float, bottom: float) -> list[str]:
    """Behind a row's dots: where the claim would hold, its edges, and 0."""
    effect = -claim.effect if claim.kind == "below" else claim.effect
    left = {"above": axis(effect), "equivalent": axis(-effect)}.get(claim.kind, _LEFT)
    right = _RIGHT if claim.kind == "above" else axis(effect)
    height = bottom - top
    body = [tag("rect", x=_LEFT, y=top, width=_RIGHT - _LEFT, height=height, class_="ground")]
    body.append(
        tag("rect", x=left, y=top, width=max(right - left, 0.0), height=height, class_="zone")
    )
    edges = [effect, -effect] if claim.kind == "equivalent" else [effect]
    for edge in edges if claim.effect > 0.0 else []:
        body.append(path([(axis(edge), top), (axis(edge), bottom)], class_="edge"))
    if claim.kind != "exact":
        body.append(path([(axis(0.0), top), (axis(0.0), bottom)], class_="zero"))
    return body


def _drawn(claim: Claim, row: _Row, axis: Ruler, top: float) -> list[str]:
    """A row: its name, its figures, a dot a seed, the interval and the mean."""
    kind = "claim" if row.main else "control"
    said = measured_text(claim, row.verdict, unit=False)
    room = _RIGHT - _LEFT - width_of(said) - 12.0
    body = [label(_LEFT, top + 11, row.name, room, class_=f"{kind} name")]
    body.append(text(_RIGHT, top + 11, said, text_anchor="end", class_=f"{kind} name"))
    body += _strip(claim, axis, top + 16.0, top + _ROW - 6.0)
    middle = top + 28.0
    finite = [v for v in row.values if math.isfinite(v)]
    stride = math.ceil(max(len(finite) / _DOTS, 1.0))
    shown = sorted(finite)[::stride] if stride > 1 else finite
    for index, value in enumerate(shown):
        off = ((index * _GOLDEN) % 1.0 - 0.5) * 13.0
        if claim.kind == "exact" or axis.low <= value <= axis.high:
            dot = {"cx": axis(value), "cy": middle + off, "r": 2.6}
            body.append(tag("circle", **dot, class_=f"seed {kind}"))
    mean = row.verdict.mean
    if claim.kind == "exact" or not math.isfinite(mean):
        return body
    if not axis.low <= mean <= axis.high:
        return [*body, *_arrow(axis, mean > axis.high, middle, kind)]
    if row.verdict.interval is not None:
        low, high = (axis(v) for v in row.verdict.interval)
        body.append(path([(low, middle), (high, middle)], class_="casing-line"))
        body.append(path([(low, middle), (high, middle)], class_=f"interval {kind}"))
        for end in (low, high):
            body.append(path([(end, middle - 5), (end, middle + 5)], class_=f"interval {kind}"))
    x = axis(mean)
    corners = ((x, middle - 6.5), (x + 5.5, middle), (x, middle + 6.5), (x - 5.5, middle))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    return [*body, tag("polygon", points=points, class_=f"mean {kind}")]


def _arrow(axis: Ruler, right: bool, middle: float, kind: str) -> list[str]:
    """What lies beyond the axis; how far is written beside the row's name."""
    at, way = (_RIGHT, -1.0) if right else (_LEFT, 1.0)
    head = [(at, middle), (at + way * 9, middle - 6), (at + way * 9, middle + 6), (at, middle)]
    words = "far beyond the axis"
    anchor = {"text_anchor": "end"} if right else {}
    return [
        path([(at + way * 34, middle), (at + way * 9, middle)], class_=f"interval {kind}"),
        path(head, class_=f"mean {kind}"),
        text(at + way * 40, middle + 4, words, class_="soft far", **anchor),
    ]
