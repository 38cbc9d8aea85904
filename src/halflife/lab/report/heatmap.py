"""Heat maps: learning rate x weight decay, one per rule, on one colour scale.

Rows are peak learning rates, highest on top, or another parameter that was swept; columns the
rule's own coefficient, with the half-life at the central learning rate above, and trainings without
decay in a column of their own. Settings off any grid, as a sampler draws them, are points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ...checks import is_number
from ...theory.equilibrium import half_life
from ..meta import Meta
from ..statistics.analysis import RuleAnalysis
from ..statistics.intervals import standard_error
from ..statistics.surface import AXES, FloatArray, Surface
from ..wording import in_digits, interval, scientific, short, signed, steps, with_unit
from . import overlay
from .legend import KINDS, WIDTH, Scale, means_of, patterns
from .svg import brief, clean, label, svg_figure, tag, text, width_of

__all__ = ["Fates", "HeatMap", "place_text", "scattered"]

Fates = Mapping[Any, str]  # by key of a setting: what became of a run that is in no mean

_RIGHT, _TOP, _BOTTOM = 10.0, 52.0, 40.0
_CELL, _TALLEST, _LOWEST = 22.0, 484.0, 5.0  # height of a cell; of all; of a cell at least
_COLUMN, _GAP = 16.0, 5.0  # the trainings without decay
_LABEL, _LINE = 44.0, 13.0  # room for a label beside and below another
_SPARSE = 0.2  # a grid less filled than this is none


class HeatMap:
    """One rule's settings over two of what was swept.

    Args:
        rule: what is known of the rule.
        surface: what is drawn.
        without: the trainings without decay over the same rows; None if there are none.
        meta: of the sweep; its ``central_lr`` is the one that the half-life axis holds at.
        scale: shared by all maps.
        fates: of settings without a mean.
    """

    def __init__(
        self,
        rule: RuleAnalysis,
        surface: Surface,
        without: Surface | None,
        meta: Meta,
        scale: Scale,
        fates: Fates,
    ) -> None:
        self.rule, self.grid, self.without, self.scale = rule, surface, without, scale
        self.fates = fates
        self.central = float(meta.central_lr or np.median([float(v) for v in meta.lrs or [1.0]]))
        self.main = surface.axes == AXES
        rows, columns = surface.failed.shape
        self.scattered = scattered(surface)
        self.row_names = [_named(v, surface.axes[0]) for v in surface.rows]
        widest = max((width_of(name) for name in self.row_names), default=0.0)
        left = min(max(widest + 12.0, 52.0), 120.0)
        self.left = left + (_COLUMN + _GAP if without is not None else 0.0)
        self.top = _TOP + (_LINE if surface.fixed else 0.0)
        self.right = WIDTH - _RIGHT
        self.cell_width = (self.right - self.left) / max(columns, 1)
        self.cell = min(max(_TALLEST / max(rows, 1), _LOWEST), _CELL)
        self.x = self.left + self.cell_width * (np.arange(columns) + 0.5)
        self.bottom = self.top + self.cell * rows
        self.y = self.bottom - self.cell * (np.arange(rows) + 0.5)
        if self.scattered:
            self.bottom, self.cell = self.top + 0.5 * _TALLEST, 11.0
            self.x = _spaced(surface.columns, self.left + 8.0, self.right - 8.0)
            self.y = _spaced(surface.rows, self.bottom - 8.0, self.top + 8.0)
        self.height = self.bottom + _BOTTOM
        self.has_half_life = bool((np.isfinite(surface.fractions) & (surface.fractions > 0)).any())

    @property
    def best(self) -> tuple[int, int] | None:
        """Row and column of the rule's best setting, if it is on this map."""
        return self.grid.index_of(self.rule.best) if self.rule.best else None

    def drawn(self, name: str) -> str:
        """The map as SVG; the name is unique in the page, prefix of the ids."""
        about = self.description()
        return svg_figure(WIDTH, self.height, about, *self.draw(name), name=name, kind="map")

    def draw(self, name: str, titles: bool = True) -> list[str]:
        """All layers, bottom to top.

        Args:
            name: prefix of the ids.
            titles: whether each cell has its figures as a tooltip.
        """
        frame = {
            "x": self.left,
            "y": self.top,
            "width": self.right - self.left,
            "height": self.bottom - self.top,
        }
        ground = {"class_": "empty"} if self.scattered else {"fill": f"url(#{name}-missing)"}
        cells = [*self._cells(self.grid, self.x, self.cell_width, name, titles, "")]
        if self.without is not None:
            spot = np.array([self.left - _GAP - 0.5 * _COLUMN])
            cells += self._cells(self.without, spot, _COLUMN, name, titles, "no decay")
        slope = _slope(self.rule) if self.main else ""
        edges = "auto" if self.scattered else "crispEdges"
        return [
            patterns(name),
            tag("rect", **frame, **ground),
            tag("g", *cells, class_="cells", shape_rendering=edges),
            tag("rect", **frame, class_="frame over"),
            label(4, 14, self.rule.rule, WIDTH - 24.0 - width_of(slope), class_="title"),
            text(self.right, 14, slope, text_anchor="end"),
            *self._axes(),
            tag("g", *overlay.layers(self), class_="over"),
        ]

    # --- cells ------------------------------------------------------------------------------------

    def _cells(
        self, grid: Surface, xs: FloatArray, width: float, name: str, titles: bool, what: str
    ) -> list[str]:
        """Every setting that there is something to say of, with that as a tooltip."""
        runs = np.isfinite(grid.values).sum(-1)
        mean = means_of(grid)
        complete, most = grid.complete, int(runs.max(initial=0))
        row_y = dict(zip(self.grid.rows, self.y, strict=True))
        if self.scattered:  # those without decay have learning rates of their own
            logs = np.log(self.grid.lrs)
            row_y |= {lr: float(np.interp(math.log(lr), logs, self.y)) for lr in grid.rows}
        kinds = np.full(mean.shape, "", dtype=object)
        for kind in ("omitted", "pruned", "diverged", "failed"):
            kinds[getattr(grid, kind)] = kind
        colour = np.full(mean.shape, "", dtype=object)
        has = np.isfinite(mean)
        colour[has] = self.scale.colours(mean[has])
        best = self.best if grid is self.grid else None
        out = []
        for i, j in np.argwhere(has | (kinds != "")).tolist():
            if grid.rows[i] not in row_y:
                continue
            fill = colour[i, j] if has[i, j] else f"url(#{name}-{kinds[i, j]})"
            shrink = 1.0 if complete[i, j] or not has[i, j] else 0.6
            spot = self._spot(float(xs[j]), float(row_y[grid.rows[i]]), width, shrink)
            mark = ' class="best"' if best == (i, j) else ""
            if not titles:
                out.append(f'<{spot} fill="{fill}"/>')
                continue
            said = self._said(grid, i, j, float(mean[i, j]), kinds[i, j], most, what)
            tail = f"<title>{escape(clean(said))}</title></{spot.split()[0]}>"
            out.append(f'<{spot} fill="{fill}"{mark}>{tail}')
        return out

    def _spot(self, x: float, y: float, width: float, shrink: float) -> str:
        if self.scattered and width != _COLUMN:
            return f'circle cx="{x:.1f}" cy="{y:.1f}" r="{5.5 * shrink:.1f}" stroke="#111"'
        w, h = shrink * width, shrink * self.cell
        at = f'x="{x - 0.5 * w:.2f}" y="{y - 0.5 * h:.2f}"'
        return f'rect {at} width="{w:.2f}" height="{h:.2f}"'

    def _said(
        self, grid: Surface, i: int, j: int, mean: float, kind: str, most: int, what: str
    ) -> str:
        """What a cell holds, in words."""
        parts = [f"{_axis(grid.axes[0])} {_named(grid.rows[i], grid.axes[0])}"]
        parts.append(what or f"weight_decay {short(float(grid.columns[j]))}")
        fraction = float(grid.fractions[i, j])
        if math.isfinite(fraction) and 0.0 < fraction < 1.0:
            parts.append(f"half-life {steps(half_life(fraction))} steps")
        place = ", ".join(parts)
        if math.isfinite(mean):
            values = grid.values[i, j]
            values = values[np.isfinite(values)]
            error = standard_error(values)
            shown = with_unit(mean, grid.metric.unit, error)
            shown += f", standard error {in_digits(error, error)}" if error else ""
            of = f" of {most}" if len(values) < most else ""
            return f"{place}: {shown}" + (f" ({len(values)}{of} seeds)" if most > 1 else "")
        fate = self.fates.get(grid.setting(i, j).key) if kind != "omitted" else None
        return f"{place}: {KINDS[kind]}" + (f" ({fate})" if fate else "")

    # --- axes -------------------------------------------------------------------------------------

    def _axes(self) -> list[str]:
        """Tick labels on three sides, and their titles."""
        first, _ = self.grid.axes
        edge = self.left - (_COLUMN + _GAP if self.without is not None else 0.0)
        title = f"lr{_scale_of(self.grid.rows)}" if first == "lr" else _axis(first)
        out = [label(4, self.top - 8, title, edge + 40.0, class_="soft")]
        for row in _room(self.y, _LINE):
            at = float(self.y[row]) + 4
            out.append(label(edge - 6, at, self.row_names[row], edge - 8.0, text_anchor="end"))
        for column in _room(self.x, _LABEL):
            x, strength = float(self.x[column]), self.grid.strengths[column]
            coefficient = short(float(self.grid.columns[column]))
            if self.without is None or x - 0.5 * width_of(coefficient) > self.left - 4.0:
                out.append(text(x, self.bottom + 15, coefficient, text_anchor="middle"))
            if self.main and self.has_half_life and 0.0 < strength < 1.0:
                life = steps(half_life(float(strength)))
                if x > edge + 60.0:
                    out.append(text(x, self.top - 8, life, text_anchor="middle", class_="soft"))
        if self.without is not None:
            x = edge + 0.5 * _COLUMN
            out.append(text(x, self.bottom + 15, "0", text_anchor="middle"))
        middle = 0.5 * (self.left + self.right)
        below = f"weight_decay{_scale_of(self.grid.columns)}"
        out.append(text(middle, self.bottom + 32, below, text_anchor="middle"))
        notes = [self._note(), f"at {place_text(self.grid.fixed)}" if self.grid.fixed else ""]
        for line, note in enumerate(filter(None, notes)):
            y = _TOP - 24 + _LINE * line
            out.append(label(self.right, y, note, self.right - 4, text_anchor="end", class_="soft"))
        return out

    def _note(self) -> str:
        if not self.main:
            return ""
        if self.has_half_life and bool((self.grid.strengths > 0.0).any()):
            return f"half-life in steps at lr {scientific(self.central)}"
        return "" if self.has_half_life else "no half-life is known"

    def description(self) -> str:
        """The map in words."""
        rows = f"{len(self.grid.rows)} of {_axis(self.grid.axes[0])}"
        grid = f"{rows} by {len(self.grid.columns)} of weight_decay"
        best = self.rule.best
        if best is None or self.best is None:
            return f"Heat map of rule {self.rule.rule}, {grid}: no setting is finished."
        place = f"lr {scientific(best.lr)}, weight_decay {short(best.weight_decay)}"
        name = self.grid.metric.name.replace("_", " ")
        words = f"best {name} {overlay.best_value(self.rule)} at {place}"
        border = " on the border of the grid" if self.rule.border else ""
        slope = f"; {_slope(self.rule)}" if self.main else ""
        return f"Heat map of rule {self.rule.rule}, {grid}: {words}{border}{slope}."


def scattered(surface: Surface) -> bool:
    """Whether settings lie off any grid, each with an lr and a weight decay of its own."""
    filled = np.isfinite(surface.values).any(-1) | surface.unusable
    return min(filled.shape) > 12 and float(filled.mean()) < _SPARSE


def place_text(values: Mapping[str, Any]) -> str:
    """Parameters and their values, in words."""
    named = ((brief(_axis(name)), brief(_named(value, name))) for name, value in values.items())
    return ", ".join(f"{name} {value}" for name, value in named)


def _named(value: Any, axis: str) -> str:
    if not is_number(value):
        return str(value)
    if axis == "lr":
        return scientific(float(value))
    if axis == "weight_decay":
        return short(float(value))
    return f"{value:g}" if abs(value) < 1e6 else scientific(float(value), 3)


def _axis(name: str) -> str:
    return name if name in AXES else name.replace("_", " ")


def _room(positions: FloatArray, apart: float) -> list[int]:
    """Which of some positions are labelled, so that none is too near another."""
    out: list[int] = []
    for index in np.argsort(positions, kind="stable").tolist():
        if not out or positions[index] - positions[out[-1]] >= apart:
            out.append(index)
    return out


def _spaced(values: Sequence[Any], start: float, end: float) -> FloatArray:
    """Positions of rising positive values, logarithmic."""
    logs = np.log(np.maximum(np.array(values, dtype=float), 1e-300))
    span = float(logs[-1] - logs[0]) or 1.0
    return np.asarray(start + (end - start) * (logs - logs[0]) / span)


def _scale_of(values: Sequence[Any]) -> str:
    """Whether cells of equal size are equal factors; a list of values need not be."""
    numbers = np.array([v for v in values if is_number(v) and v > 0.0], dtype=float)
    gaps = np.diff(np.log(numbers))
    return " (log)" if len(gaps) > 1 and np.allclose(gaps, gaps[0], rtol=0.01) else ""


def _slope(rule: RuleAnalysis) -> str:
    ridge = rule.ridge
    if ridge.slope is None:
        return "no ridge slope"
    bounds = interval(ridge.low, ridge.high) or "(no interval)"
    return f"ridge slope {signed(ridge.slope)} {bounds}"
