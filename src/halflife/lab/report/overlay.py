"""What lies over a heat map: equal half-lives, the settings within the noise, ridge and optimum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ...theory.equilibrium import half_life
from ..wording import steps, with_unit
from .legend import WIDTH, dot, outline, ring
from .scales import decades
from .svg import fitted, tag, text

if TYPE_CHECKING:
    from ..statistics.analysis import RuleAnalysis
    from .heatmap import HeatMap

__all__ = ["best_value", "layers"]

_LABEL = 42.0


def layers(drawing: HeatMap) -> list[str]:
    """All of it, bottom to top."""
    lives, ridge = (_iso_lines(drawing), _ridge(drawing)) if drawing.main else ([], [])
    return [*lives, *_within(drawing), *ridge, *_optimum(drawing)]


def _iso_lines(drawing: HeatMap) -> list[str]:
    """Cells of equal half-life, one line per power of ten."""
    fractions = drawing.grid.fractions
    known = fractions[np.isfinite(fractions) & (fractions > 0.0) & (fractions < 1.0)]
    if not len(known) or drawing.scattered:
        return []
    lives = [half_life(float(f)) for f in (known.max(), known.min())]
    out: list[str] = []
    taken: list[tuple[float, float]] = []
    for life in decades(max(lives[0], 1.0), lives[1]):
        points = _contour(drawing, -math.expm1(-math.log(2.0) / life))
        if len(points) < 2:
            continue
        out += outline(points, 2.4, 1.2, "4 3")
        x, y = max((points[0], points[-1]), key=lambda point: _distance(drawing, point))
        right = x > drawing.right - 1.5 * _LABEL
        anchor, shift = ("end", -4) if right else ("start", 4)
        if all(abs(x - a) > _LABEL or abs(y - b) > 12.0 for a, b in taken):
            taken.append((x, y))
            out.append(text(x + shift, y + 4, steps(life), class_="halo", text_anchor=anchor))
    return out


def _contour(drawing: HeatMap, fraction: float) -> list[tuple[float, float]]:
    points = []
    for y, row in zip(drawing.y, drawing.grid.fractions, strict=True):
        usable = np.isfinite(row) & (row > 0.0)
        rising = row > np.fmax.accumulate(np.concatenate([[0.0], row[:-1]]))
        logs, x = np.log(row[usable & rising]), drawing.x[usable & rising]
        if len(logs) > 1:
            position = float(np.interp(math.log(fraction), logs, x, -1.0, -1.0))
            if position > 0.0:
                points.append((position, float(y)))
    return points


def _distance(drawing: HeatMap, point: tuple[float, float]) -> float:
    at = drawing.best
    return math.dist(point, (drawing.x[at[1]], drawing.y[at[0]])) if at else point[1]


def _within(drawing: HeatMap) -> list[str]:
    """An outline around the settings that cannot be told from the best."""
    within = drawing.rule.within
    if within is None or within.threshold is None or drawing.scattered:
        return []
    grid, inside = drawing.grid, within.settings
    if not drawing.main:
        has = np.isfinite(grid.values).any(-1)
        inside = np.zeros(has.shape, dtype=bool)
        for row, column in np.argwhere(has).tolist():
            inside[row, column] = grid.setting(row, column).key in within.keys
    w, h = 0.5 * drawing.cell_width, 0.5 * drawing.cell
    edges: list[tuple[float, float, float, float]] = []
    padded = np.pad(inside, 1)
    for row, column in np.argwhere(inside).tolist():
        x, y = float(drawing.x[column]), float(drawing.y[row])
        sides = (  # rows rise upwards
            (padded[row + 2, column + 1], (x - w, y - h, x + w, y - h)),
            (padded[row, column + 1], (x - w, y + h, x + w, y + h)),
            (padded[row + 1, column], (x - w, y - h, x - w, y + h)),
            (padded[row + 1, column + 2], (x + w, y - h, x + w, y + h)),
        )
        edges += [edge for neighbour, edge in sides if not neighbour]
    way = "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in edges)
    style = {"d": way, "stroke_linecap": "square"}
    return [
        tag("path", **style, class_="casing", stroke_width=3.2),
        tag("path", **style, class_="bright within", stroke_width=1.4),
    ]


def _ridge(drawing: HeatMap) -> list[str]:
    """The best weight decay of the rows that count, and the line through them."""
    ridge = drawing.rule.ridge
    if ridge.slope is None:
        return []
    ends = [(ridge.coefficient_at(lr) or 1.0, lr) for lr in (ridge.lrs[0], ridge.lrs[-1])]
    points = zip(ridge.coefficients, ridge.lrs, strict=True)
    return [
        *outline(_placed(drawing, ends), 5.0, 2.4),
        *(dot(*p) for p in _placed(drawing, points)),
    ]


def _placed(drawing: HeatMap, places: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Positions of pairs of weight decay and lr."""
    decays = drawing.grid.coefficients > 0.0
    columns, x = np.log(drawing.grid.coefficients[decays]), drawing.x[decays]
    rows = np.log(drawing.grid.lrs)
    return [
        (
            float(np.interp(math.log(coefficient), columns, x)),
            float(np.interp(math.log(lr), rows, drawing.y)),
        )
        for coefficient, lr in places
    ]


def _optimum(drawing: HeatMap) -> list[str]:
    """A ring around the best cell and its value; dashed if it lies on the border."""
    at = drawing.best
    if at is None or drawing.rule.best is None:
        return []
    x, y = float(drawing.x[at[1]]), float(drawing.y[at[0]])
    border = bool(drawing.rule.border)
    words = fitted(best_value(drawing.rule), 110.0) + (" (border)" if border else "")
    right = x > 0.6 * WIDTH
    anchor, shift = ("end", -15) if right else ("start", 15)
    place = {"text_anchor": anchor, "font_weight": 600, "class_": "halo"}
    return [
        *ring(x, y, 9.0, "4 3" if border else ""),
        text(x + shift, y + 4, words, **place),
    ]


def best_value(rule: RuleAnalysis) -> str:
    """The reported metric of a rule's best setting, by the seeds that chose."""
    best = rule.best
    if best is None or best.value is None:
        return "not measured"
    return with_unit(best.value, rule.surface.metric.unit, best.standard_error)
