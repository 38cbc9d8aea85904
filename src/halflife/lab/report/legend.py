"""The colour scale that all heat maps share, and the signs used in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..metric import Metric
from ..statistics.intervals import mean_over_seeds
from ..statistics.surface import FloatArray, Surface
from ..wording import in_digits
from .colour import ramp
from .svg import label, path, svg_figure, tag, text, width_of

__all__ = [
    "HEIGHT",
    "KINDS",
    "WIDTH",
    "Scale",
    "dot",
    "legend",
    "legend_parts",
    "means_of",
    "outline",
    "patterns",
    "ring",
]

WIDTH, HEIGHT = 380.0, 196.0  # as wide as a heat map
KINDS = {
    "missing": "not run, or not finished",
    "failed": "failed",
    "diverged": "diverged",
    "pruned": "pruned",
    "omitted": "removes whole weights",
}
_LEAST = 12.0  # units that the scale spans at least: noise alone is no landscape
_MOST = 1000.0  # units above the best where it ends: a few wild values leave the others apart
_ERRORS = 3.0  # standard errors of a difference: by so much the best of many differ by chance


@dataclass(frozen=True)
class Scale:
    """Loss to colour: logarithmic in what noise makes of a difference, light is good.

    With n seeds that is ``3 sqrt(2 / n)`` times the noise of a run. Where it is not known, or is
    less than a hundredth of what nine settings of ten span, a share of that stands for it.

    Attributes:
        metric: what the colours are of.
        best: lowest mean of all settings drawn, as a value of which less is better.
        worst: where the darkest colour begins.
        unit: the difference by noise.
        capped: whether some settings are worse than the worst.
    """

    metric: Metric
    best: float
    worst: float
    unit: float
    capped: bool = False

    @classmethod
    def of(cls, surfaces: Iterable[Surface], metric: Metric, noise: float | None) -> Scale:
        """One scale for all maps.

        Args:
            surfaces: what is drawn.
            metric: what they are of.
            noise: of a run, without what a seed shifts in all alike; None if it is not known.
        """
        surfaces = list(surfaces)
        means = [metric.sign * means_of(surface).ravel() for surface in surfaces]
        losses = np.concatenate([np.array([]), *means])
        ranked = np.sort(losses[np.isfinite(losses)]).tolist()
        if not ranked:
            return cls(metric, 0.0, 1.0, 1.0)
        best, high, worst = (ranked[int(share * (len(ranked) - 1))] for share in (0.0, 0.9, 1.0))
        hundredth = high / 100.0 - best / 100.0  # not of the difference, which may be infinite
        seeds = max(int(np.isfinite(s.values).sum(-1).max(initial=1)) for s in surfaces)
        by_noise = _ERRORS * math.sqrt(2.0 / max(seeds, 1)) * (noise or 0.0)
        unit = max(by_noise, hundredth) if by_noise else 5.0 * hundredth
        unit = unit or (worst / 20.0 - best / 20.0) or abs(best) or 1.0
        least, most = (n * (best / n + unit) for n in (_LEAST, _MOST))  # not best + n * unit
        end = min(worst, most)
        return cls(metric, best, max(end, least), unit, end < worst)

    def share(self, loss: float) -> float:
        """Where a loss lies between the best, 0, and the worst, 1."""
        return min(self._height(loss) / self._height(self.worst), 1.0)

    def _height(self, loss: float) -> float:
        return math.log1p(max(loss / self.unit - self.best / self.unit, 0.0))

    def colour(self, value: float) -> str:
        """Colour of a value of the metric."""
        return ramp(1.0 - self.share(self.metric.loss(value)))

    def colours(self, values: FloatArray) -> list[str]:
        """Colours of many values, to one part in 256."""
        return [_COLOURS[round(255 * self.share(self.metric.loss(float(v))))] for v in values]

    def ticks(self) -> list[float]:
        """Losses to name on the scale: the best, some in between, the worst."""
        inner = (self.best + more * self.unit for more in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0))
        return [self.best, *(loss for loss in inner if self.share(loss) < 1.0), self.worst]


def means_of(surface: Surface) -> FloatArray:
    """Mean of each setting over the seeds it has; NaN where a run is unusable; shape (R, C)."""
    runs = np.isfinite(surface.values).any(-1)
    return mean_over_seeds(surface.values, runs & ~surface.unusable)


_COLOURS = [ramp(1.0 - i / 255) for i in range(256)]


def legend(scale: Scale, name: str) -> str:
    """The colour scale and the signs, as SVG."""
    about = f"Colour scale of {scale.metric.title}, and the signs used in the heat maps"
    return svg_figure(WIDTH, HEIGHT, about, *legend_parts(scale, name), name=name)


def legend_parts(scale: Scale, name: str) -> list[str]:
    """The elements of the legend, to be placed in a larger drawing."""
    left, right, bar = 16.0, WIDTH - 16.0, 12.0
    way = "less is better" if scale.metric.goal == "min" else "more is better"
    out = [
        label(left, 12, scale.metric.title, right - left - 150.0, class_="soft"),
        text(right, 12, f"{way}, light is good", class_="soft", text_anchor="end"),
        patterns(name),
    ]
    n = 64
    for i in range(n):
        x, width = left + (right - left) * i / n, (right - left) / n + 0.4
        place = {"x": x, "y": 20.0, "width": width, "height": bar}
        out.append(
            tag("rect", **place, fill=ramp(1.0 - (i + 0.5) / n), shape_rendering="crispEdges")
        )
    return out + _ticks(scale, left, right, 20.0 + bar) + _signs(name, left, 74.0)


def _ticks(scale: Scale, left: float, right: float, y: float) -> list[str]:
    """Values below the bar, the two ends first; others where there is room."""
    losses, out = scale.ticks(), []
    taken: list[tuple[float, float]] = []
    for loss in (losses[0], losses[-1], *losses[1:-1]):
        x = left + (right - left) * scale.share(loss)
        anchor = "start" if x < left + 1 else "end" if x > right - 1 else "middle"
        shown = in_digits(scale.metric.sign * loss, scale.unit)
        if anchor == "end" and scale.capped:
            shown += " or worse"
        width = width_of(shown)
        start = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        if anchor == "middle" and any(start - 6 < b and a < start + width + 6 for a, b in taken):
            continue
        taken.append((start, start + width))
        out.append(path([(x, y), (x, y + 4)], class_="frame"))
        out.append(text(x, y + 17, shown, text_anchor=anchor))
    return out


def _signs(name: str, left: float, y: float) -> list[str]:
    second = left + 186.0
    places = [(x, y + 24.0 * row) for row in range(5) for x in (left, second)]
    spots = iter(places)
    box = {"width": 26, "height": 18}

    def ground(x: float, y: float) -> str:
        return tag("rect", x=x - 2, y=y - 9, **box, fill=ramp(0.6))

    out = []
    x, y = next(spots)
    out += [ground(x, y), *ring(x + 11, y, 6.0), text(x + 32, y + 4, "best setting")]
    x, y = next(spots)
    line = [(x, y), (x + 22, y)]
    out += [ground(x, y), *outline(line, 5.0, 2.4), dot(x + 11, y), text(x + 32, y + 4, "ridge")]
    x, y = next(spots)
    frame = [(x + 1, y + 9), (x + 1, y - 6), (x + 21, y - 6), (x + 21, y + 9)]
    out += [ground(x, y), *outline(frame, 3.2, 1.4), text(x + 32, y + 4, "within the noise")]
    x, y = next(spots)
    line = [(x, y), (x + 22, y)]
    out += [ground(x, y), *outline(line, 2.4, 1.2, "4 3")]
    out.append(text(x + 32, y + 4, "equal half-life (steps)"))
    x, y = next(spots)
    out.append(tag("rect", x=x - 2, y=y - 9, **box, fill=f"url(#{name}-missing)"))
    out.append(tag("rect", x=x + 4, y=y - 5, width=14, height=10, fill=ramp(0.6)))
    out.append(text(x + 32, y + 4, "fewer seeds than others"))
    for kind, words in KINDS.items():
        x, y = next(spots)
        out.append(tag("rect", x=x - 2, y=y - 9, **box, fill=f"url(#{name}-{kind})"))
        out.append(text(x + 32, y + 4, words))
    return out


def outline(
    points: Iterable[tuple[float, float]], casing: float, bright: float, dashes: str = ""
) -> list[str]:
    """A line that is seen on any colour: white on black."""
    points = list(points)
    style = {"stroke_dasharray": dashes} if dashes else {}
    return [
        path(points, class_="casing", stroke_width=casing),
        path(points, class_="bright", stroke_width=bright, **style),
    ]


def ring(x: float, y: float, r: float, dashes: str = "") -> list[str]:
    """A ring that is seen on any colour."""
    style = {"stroke_dasharray": dashes} if dashes else {}
    return [
        tag("circle", cx=x, cy=y, r=r, class_="casing", stroke_width=4.8),
        tag("circle", cx=x, cy=y, r=r, class_="bright", stroke_width=2.3, **style),
    ]


def dot(x: float, y: float) -> str:
    """A point of the ridge."""
    return tag("circle", cx=x, cy=y, r=3.4, fill="#fff", stroke="#111", stroke_width=1.4)


def patterns(name: str) -> str:
    """The fillings of cells without a mean; their ids begin with ``name``."""
    size = {"width": 6, "height": 6, "patternUnits": "userSpaceOnUse"}
    wide = {**size, "width": 9, "height": 9}
    ground = tag("rect", width=6, height=6, class_="empty")
    alarm = tag("rect", width=9, height=9, class_="faulty")
    stroke = tag("path", d="M-1 7L7 -1M-1 1L1 -1M5 7L7 5", class_="hatch")
    level = tag("path", d="M0 3H6", class_="hatch")
    dots = tag("circle", cx=3, cy=3, r=0.9, class_="dot")
    cross = tag("path", d="M0 0L6 6M6 0L0 6", class_="hatch")
    fault = tag("path", d="M2 2L7 7M7 2L2 7", class_="fault")
    return tag(
        "defs",
        tag("pattern", ground, stroke, id=f"{name}-missing", **size),
        tag("pattern", alarm, fault, id=f"{name}-failed", **wide),
        tag("pattern", ground, cross, id=f"{name}-diverged", **size),
        tag("pattern", ground, level, id=f"{name}-pruned", **size),
        tag("pattern", ground, dots, id=f"{name}-omitted", **size),
    )
