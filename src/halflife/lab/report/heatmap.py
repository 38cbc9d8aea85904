"""Heat maps: learning rate x weight decay, one per rule, on one colour scale.

Rows are peak learning rates, highest on top; columns the rule's own coefficient, with the
half-life at the central learning rate above. Cells of equal half-life are joined by dashed lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...theory.equilibrium import half_life
from ...units.writing import counted
from ..meta import Meta
from ..statistics.analysis import Analysis, RuleAnalysis
from ..statistics.surface import FloatArray
from ..wording import interval, scientific, short, signed, steps, with_unit
from .legend import HEIGHT as LEGEND_HEIGHT
from .legend import KINDS, WIDTH, Scale, legend_parts, patterns
from .svg import decades, path, standalone, svg_figure, tag, text

__all__ = ["heat_map", "landscape_picture"]

LEFT, RIGHT, TOP, BOTTOM, CELL = 52.0, 10.0, 52.0, 40.0, 22.0
_LABEL_WIDTH = 42.0


class _Map:
    """Geometry and layers of one rule's heat map."""

    def __init__(self, rule: RuleAnalysis, meta: Meta, scale: Scale) -> None:
        self.rule, self.grid, self.scale = rule, rule.surface, scale
        self.central = float(meta.central_lr or np.median(self.grid.lrs))
        rows, columns = len(self.grid.lrs), len(self.grid.coefficients)
        self.cell_width = (WIDTH - LEFT - RIGHT) / max(columns, 1)
        self.x = LEFT + self.cell_width * (np.arange(columns) + 0.5)
        self.y = TOP + CELL * (rows - np.arange(rows) - 0.5)
        self.bottom = TOP + CELL * rows
        self.height = self.bottom + BOTTOM
        self.has_half_life = bool(np.isfinite(self.grid.fractions).any())

    def cells(self, name: str) -> list[str]:
        """Every cell, with what it holds as a tooltip."""
        mean, out = self.grid.mean, []
        for row, column in np.ndindex(mean.shape):
            box = {
                "x": float(self.x[column]) - 0.5 * self.cell_width,
                "y": float(self.y[row]) - 0.5 * CELL,
                "width": self.cell_width,
                "height": CELL,
            }
            if math.isnan(mean[row, column]):
                kind = self._kind(row, column)
                fill = f"url(#{name}-{kind})"
            else:
                fill = self.scale.colour(float(mean[row, column]))
            title = tag("title", self._tooltip(row, column))
            out.append(tag("rect", title, **box, fill=fill, shape_rendering="crispEdges"))
        return out

    def _tooltip(self, row: int, column: int) -> str:
        grid = self.grid
        place = f"lr {scientific(grid.lrs[row])}, weight_decay {short(grid.coefficients[column])}"
        fraction = grid.fractions[row, column]
        if np.isfinite(fraction) and fraction > 0.0:
            place += f", half-life {steps(half_life(float(fraction)))} steps"
        if not math.isnan(grid.mean[row, column]):
            cell = grid.setting(row, column)
            value = with_unit(cell.value or 0.0, grid.metric.unit, cell.standard_error)
            return f"{place}: {value} ({counted(cell.seeds, 'seed')})"
        return f"{place}: {KINDS[self._kind(row, column)]}"

    def _kind(self, row: int, column: int) -> str:
        """Why a cell has no mean."""
        kinds = ("failed", "diverged", "pruned", "omitted")
        found = (kind for kind in kinds if getattr(self.grid, kind)[row, column])
        return next(found, "missing")

    def axes(self) -> list[str]:
        """Tick labels on three sides, and their titles."""
        out = [text(2, TOP - 8, f"lr{_scale_of(self.grid.lrs)}", class_="soft")]
        for y, lr in zip(self.y, self.grid.lrs, strict=True):
            out.append(text(LEFT - 6, y + 4, scientific(lr), text_anchor="end"))
        every = max(math.ceil(_LABEL_WIDTH / self.cell_width), 1)
        first = (len(self.x) - 1) % every // 2
        for column in range(first, len(self.x), every):
            x, strength = self.x[column], self.grid.strengths[column]
            coefficient = short(self.grid.coefficients[column])
            out.append(text(x, self.bottom + 15, coefficient, text_anchor="middle"))
            if self.has_half_life and np.isfinite(strength) and strength > 0.0:
                shown = steps(half_life(float(strength)))
                out.append(text(x, TOP - 8, shown, text_anchor="middle", class_="soft"))
        middle = 0.5 * (LEFT + WIDTH - RIGHT)
        below = f"weight_decay{_scale_of(self.grid.coefficients)}"
        out.append(text(middle, self.bottom + 32, below, text_anchor="middle"))
        note = f"half-life in steps at lr {scientific(self.central)}"
        if not self.has_half_life:
            note = "no half-life: this rule removes no set fraction"
        out.append(text(middle, TOP - 24, note, text_anchor="middle", class_="soft"))
        return out

    def iso_lines(self) -> list[str]:
        """Cells of equal half-life, one line per power of ten."""
        fractions = self.grid.fractions
        known = fractions[np.isfinite(fractions) & (fractions > 0.0) & (fractions < 1.0)]
        if not len(known):
            return []
        lives = [half_life(float(f)) for f in (known.max(), known.min())]
        out: list[str] = []
        for life in decades(max(lives[0], 1.0), lives[1]):
            points = self._contour(-math.expm1(-math.log(2.0) / life))
            if len(points) < 2:
                continue
            out.append(path(points, class_="casing", stroke_width=2.4, opacity=0.55))
            out.append(path(points, class_="bright", stroke_width=1.2, stroke_dasharray="4 3"))
            x, y = max((points[0], points[-1]), key=self._distance_to_best)
            right = x > WIDTH - RIGHT - 1.5 * _LABEL_WIDTH
            anchor, shift = ("end", -4) if right else ("start", 4)
            out.append(text(x + shift, y + 4, steps(life), class_="halo", text_anchor=anchor))
        return out

    def _contour(self, fraction: float) -> list[tuple[float, float]]:
        points = []
        for y, row in zip(self.y, self.grid.fractions, strict=True):
            usable = np.isfinite(row) & (row > 0.0)
            rising = row > np.fmax.accumulate(np.concatenate([[0.0], row[:-1]]))
            logs, x = np.log(row[usable & rising]), self.x[usable & rising]
            if len(logs) > 1:
                position = float(np.interp(math.log(fraction), logs, x, -1.0, -1.0))
                if position > 0.0:
                    points.append((position, float(y)))
        return points

    def _distance_to_best(self, point: tuple[float, float]) -> float:
        at = self._best_index()
        return math.dist(point, (self.x[at[1]], self.y[at[0]])) if at else point[1]

    def _best_index(self) -> tuple[int, int] | None:
        return self.grid.index_of(self.rule.best) if self.rule.best else None

    def ridge(self) -> list[str]:
        """The best weight decay of the rows that count, and the line through them."""
        ridge = self.rule.ridge
        if ridge.slope is None:
            return []
        line = [
            (self._x_of(ridge.coefficient_at(lr) or 1.0), self._y_of(lr))
            for lr in (ridge.lrs[0], ridge.lrs[-1])
        ]
        out = [
            path(line, class_="casing", stroke_width=5.0),
            path(line, class_="bright", stroke_width=2.4),
        ]
        for lr, coefficient in zip(ridge.lrs, ridge.coefficients, strict=True):
            at = {"cx": self._x_of(coefficient), "cy": self._y_of(lr)}
            out.append(tag("circle", **at, r=3.4, fill="#fff", stroke="#111", stroke_width=1.4))
        return out

    def optimum(self) -> list[str]:
        """A ring around the best setting and its value; dashed if it lies on the border."""
        at = self._best_index()
        if at is None or self.rule.best is None:
            return []
        x, y = float(self.x[at[1]]), float(self.y[at[0]])
        dashes = {"stroke_dasharray": "4 3"} if self.rule.border else {}
        label = _value(self.rule) + (" (border)" if self.rule.border else "")
        right = x > 0.7 * WIDTH
        anchor, shift = ("end", -15) if right else ("start", 15)
        place = {"text_anchor": anchor, "font_weight": 600}
        return [
            tag("circle", cx=x, cy=y, r=9.0, class_="casing", stroke_width=5.0),
            tag("circle", cx=x, cy=y, r=9.0, class_="bright", stroke_width=2.4, **dashes),
            text(x + shift, y + 4, label, class_="halo", **place),
        ]

    def _x_of(self, coefficient: float) -> float:
        decays = self.grid.coefficients > 0.0
        logs: FloatArray = np.log(self.grid.coefficients[decays])
        return float(np.interp(math.log(coefficient), logs, self.x[decays]))

    def _y_of(self, lr: float) -> float:
        return float(np.interp(math.log(lr), np.log(self.grid.lrs), self.y))

    def draw(self, name: str) -> list[str]:
        """All layers, bottom to top."""
        frame = {"x": LEFT, "y": TOP, "width": WIDTH - LEFT - RIGHT, "height": self.bottom - TOP}
        return [
            patterns(name),
            *self.cells(name),
            tag("rect", **frame, class_="frame"),
            text(LEFT, 14, self.rule.rule, class_="title"),
            text(WIDTH - RIGHT, 14, _slope(self.rule), text_anchor="end"),
            *self.axes(),
            *self.iso_lines(),
            *self.ridge(),
            *self.optimum(),
        ]


def heat_map(rule: RuleAnalysis, meta: Meta, scale: Scale, name: str) -> str:
    """One rule's heat map as SVG.

    Args:
        rule: what is known about the rule.
        meta: of the ledger; its ``central_lr`` is the one the half-life axis holds at.
        scale: shared by the rules.
        name: unique in the page, prefix of the ids.
    """
    drawing = _Map(rule, meta, scale)
    return svg_figure(WIDTH, drawing.height, _description(rule), *drawing.draw(name), name=name)


def landscape_picture(analysis: Analysis, meta: Meta) -> str:
    """The heat maps of all rules as one SVG file."""
    scale = Scale.of(analysis, meta.reported)
    maps = [_Map(rule, meta, scale) for rule in analysis.rules]
    columns = 2 if len(maps) > 1 else 1
    height = max((m.height for m in maps), default=0.0) + 12.0
    top, body = 40.0, [text(16, 25, _heading(meta), class_="title", style="font-size:14px")]
    for index, drawing in enumerate(maps):
        x, y = WIDTH * (index % columns) + 8.0, top + height * (index // columns)
        inner = drawing.draw(f"map-{index}")
        body.append(tag("g", *inner, transform=f"translate({x:g} {y:g})"))
    y = top + height * math.ceil(len(maps) / columns)
    x = 8.0 + 0.5 * WIDTH * (columns - 1)
    body.append(tag("g", *legend_parts(scale, "key"), transform=f"translate({x:g} {y:g})"))
    label = f"{_heading(meta)}. " + " ".join(_description(m.rule) for m in maps)
    return standalone(WIDTH * columns + 16.0, y + LEGEND_HEIGHT, label, *body)


def _heading(meta: Meta) -> str:
    return f"Weight decay and learning rate on {meta.name} with {meta.optimizer}"


def _scale_of(values: FloatArray) -> str:
    """Whether cells of equal size are equal factors; a list of values need not be."""
    steps = np.diff(np.log(values[values > 0.0]))
    return " (log)" if len(steps) > 1 and np.allclose(steps, steps[0], rtol=0.01) else ""


def _slope(rule: RuleAnalysis) -> str:
    ridge = rule.ridge
    if ridge.slope is None:
        return "no ridge slope"
    bounds = interval(ridge.low, ridge.high) or "(no interval)"
    return f"ridge slope {signed(ridge.slope)} {bounds}"


def _value(rule: RuleAnalysis) -> str:
    best = rule.best
    if best is None or best.value is None:
        return "not measured"
    return with_unit(best.value, rule.surface.metric.unit, best.standard_error)


def _description(rule: RuleAnalysis) -> str:
    rows: Sequence[float] = rule.surface.lrs.tolist()
    grid = f"{len(rows)} learning rates by {len(rule.surface.coefficients)} weight decays"
    if rule.best is None:
        return f"Heat map of rule {rule.rule}, {grid}: no setting is finished."
    place = f"lr {scientific(rule.best.lr)}, weight_decay {short(rule.best.weight_decay)}"
    best = f"best {rule.surface.metric.name.replace('_', ' ')} {_value(rule)} at {place}"
    border = " on the border of the grid" if rule.border else ""
    return f"Heat map of rule {rule.rule}, {grid}: {best}{border}; {_slope(rule)}."
