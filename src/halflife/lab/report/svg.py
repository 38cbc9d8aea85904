"""A few lines to write SVG by: elements, polylines, markers, a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = [
    "STYLE",
    "LogAxis",
    "decades",
    "marker",
    "path",
    "standalone",
    "svg_figure",
    "tag",
    "text",
]

# The figures' classes; var(--...) are the page's colours for light and dark mode.
STYLE = """
.figure text { font: 11px system-ui, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
.figure .title { font-weight: 600; font-size: 12px; }
.figure .soft { fill: var(--soft); }
.figure .grid { stroke: var(--line); stroke-width: 1; fill: none; }
.figure .frame { stroke: var(--soft); stroke-width: 1; fill: none; }
.figure .hatch { stroke: var(--soft); stroke-width: 1; fill: none; }
.figure .empty { fill: var(--page); }
.figure .dot { fill: var(--soft); }
.figure .casing { stroke: #111; fill: none; stroke-linejoin: round; }
.figure .bright { stroke: #fff; fill: none; stroke-linejoin: round; }
.figure .halo { fill: #fff; stroke: #111; stroke-width: 3px; stroke-linejoin: round; }
.figure .halo { paint-order: stroke; }
"""
_LIGHT = {"--ink": "#1b1d21", "--soft": "#5a6069", "--line": "#d9dce1", "--page": "#ffffff"}

_MARKERS = (  # corners in units of the size; the first marker is a circle
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.35), (1.2, 0.9), (-1.2, 0.9)),
    ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    ((0, 1.35), (1.2, -0.9), (-1.2, -0.9)),
)


def tag(name: str, *children: str, **attributes: object) -> str:
    """An element; ``_`` in attribute names becomes ``-``, a trailing one is dropped.

    Example:
        >>> tag("rect", x=1.0, class_="cell", stroke_width=2)
        '<rect x="1" class="cell" stroke-width="2"/>'
    """
    parts = [name]
    for key, value in attributes.items():
        shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    opening = " ".join(parts)
    return f"<{opening}>{''.join(children)}</{name}>" if children else f"<{opening}/>"


def text(x: float, y: float, content: str, **attributes: object) -> str:
    """Text at a point; the content is escaped."""
    return tag("text", escape(content), x=float(x), y=float(y), **attributes)


def path(points: Iterable[tuple[float, float]], **attributes: object) -> str:
    """A polyline through the points."""
    return tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), **attributes)


def marker(index: int, x: float, y: float, size: float, **attributes: object) -> str:
    """The marker with this number, at a point: circle, square, triangle, diamond, ..."""
    kind = index % (1 + len(_MARKERS))
    if kind == 0:
        return tag("circle", cx=float(x), cy=float(y), r=1.1 * size, **attributes)
    corners = ((x + size * dx, y + size * dy) for dx, dy in _MARKERS[kind - 1])
    return tag("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners), **attributes)


def svg_figure(
    width: float, height: float, label: str, *children: str, name: str, most: int = 560
) -> str:
    """A whole SVG, with a description for those who do not see it.

    Args:
        width: of the view box, in its own units.
        height: of the view box.
        label: what the figure shows, for screen readers.
        *children: its elements.
        name: unique in the page; the title's id.
        most: widest it is drawn, in CSS pixels.
    """
    return tag(
        "svg",
        tag("title", escape(label), id=f"{name}-title"),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_="figure",
        viewBox=f"0 0 {width:g} {height:g}",
        style=f"max-width:{most}px",
        role="img",
        aria_labelledby=f"{name}-title",
    )


def standalone(width: float, height: float, label: str, *children: str) -> str:
    """An SVG file with a background and colours of its own, readable on light and dark pages."""
    style = STYLE
    for variable, value in _LIGHT.items():
        style = style.replace(f"var({variable})", value)
    background = tag("rect", width=width, height=height, rx=8, fill=_LIGHT["--page"])
    body = svg_figure(
        width, height, label, background, *children, name="landscape", most=int(width)
    )
    opening, rest = body.split(">", 1)
    opening = f'{opening} width="{width:g}" height="{height:g}"'
    return f"{opening}>{tag('style', style)}{rest}\n"


@dataclass(frozen=True)
class LogAxis:
    """Positions of values, logarithmic.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: position in units of the view box.
        end: position.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value, held inside the axis."""
        share = math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def labels(self, apart: float = 0.0) -> list[float]:
        """Round values to be written on the axis: at least three, where they may stand so near.

        Args:
            apart: how far from each other they are at least; the rounder one stays.

        Example:
            >>> LogAxis(5.0, 90.0, 0.0, 1.0).labels(), LogAxis(7.2, 9.4, 0.0, 1.0).labels()
            ([5.0, 10.0, 20.0, 50.0], [7.5, 8.0, 8.5, 9.0])
            >>> LogAxis(0.07, 0.45, 0.0, 100.0).labels(apart=20.0)
            [0.1, 0.2, 0.3]
        """
        kept: list[float] = []
        for value in sorted(self._round(), key=lambda v: "125346789".index(f"{v:e}"[0])):
            if all(abs(self(value) - self(other)) >= apart for other in kept):
                kept.append(value)
        return sorted(kept)

    def _round(self) -> list[float]:
        for digits in ((1,), (1, 2, 5), range(1, 10)):
            if len(found := self.ticks(digits)) >= 3:
                return found
        raw = (self.high - self.low) / 5.0
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(d * unit for d in (1, 2, 5, 10) if d * unit >= raw)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [float(f"{step * k:.6g}") for k in range(first, last + 1)]

    def ticks(self, digits: Sequence[float] = (1,)) -> list[float]:
        """The values digit * 10^k on the axis."""
        return [v for v in decades(self.low, self.high, digits) if self.low <= v <= self.high]


def decades(low: float, high: float, digits: Sequence[float] = (1,)) -> list[float]:
    """Values digit * 10^k, from the power of ten of ``low`` through that of ``high``.

    Example:
        >>> decades(2.0, 30.0, (1, 5))
        [1.0, 5.0, 10.0, 50.0]
    """
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    return [float(f"{d}e{k}") for k in range(first, last + 1) for d in digits]
