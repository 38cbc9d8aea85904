"""The colour scale that all heat maps share, and the signs used in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..metric import Metric
from ..statistics.analysis import Analysis
from ..wording import in_digits
from .colour import ramp
from .svg import path, svg_figure, tag, text

__all__ = ["HEIGHT", "KINDS", "WIDTH", "Scale", "legend", "legend_parts", "patterns"]

WIDTH, HEIGHT = 380.0, 174.0  # as wide as a heat map
KINDS = {
    "missing": "not finished",
    "diverged": "diverged",
    "failed": "failed",
    "pruned": "pruned",
    "omitted": "removes whole weights",
}


@dataclass(frozen=True)
class Scale:
    """Loss to colour: logarithmic in the noises above the best, light is good.

    Attributes:
        metric: what the colours are of.
        best: lowest mean of all rules, as a value of which less is better.
        worst: highest.
        unit: the noise between seeds, or a twentieth of the range where it is not known.
    """

    metric: Metric
    best: float
    worst: float
    unit: float

    @classmethod
    def of(cls, analysis: Analysis, metric: Metric) -> Scale:
        """One scale for all rules of an analysis."""
        means = [metric.sign * rule.surface.mean.ravel() for rule in analysis.rules]
        losses = np.concatenate([np.array([]), *means])
        losses = losses[np.isfinite(losses)]
        if not len(losses):
            return cls(metric, 0.0, 1.0, 1.0)
        best, worst = float(losses.min()), float(losses.max())
        noise = analysis.best.noise if analysis.best else None
        unit = (noise.total if noise else 0.0) or 0.05 * (worst - best) or abs(best) or 1.0
        return cls(metric, best, max(worst, best + unit), unit)

    def share(self, loss: float) -> float:
        """Where a loss lies between the best, 0, and the worst, 1."""
        return self._height(loss) / self._height(self.worst)

    def _height(self, loss: float) -> float:
        return math.log1p(max(loss - self.best, 0.0) / self.unit)

    def colour(self, value: float) -> str:
        """Colour of a value of the metric."""
        return ramp(1.0 - self.share(self.metric.loss(value)))

    def ticks(self) -> list[float]:
        """Losses to name on the scale: the best, some in between, the worst."""
        inner = [self.best + more * self.unit for more in (1.0, 3.0, 10.0, 30.0)]
        most = self.best + 0.6 * (self.worst - self.best)
        return [self.best, *(loss for loss in inner if loss < most), self.worst]


def legend(scale: Scale, name: str) -> str:
    """The colour scale and the signs, as SVG."""
    label = f"Colour scale of {scale.metric.title}, and the signs used in the heat maps"
    return svg_figure(WIDTH, HEIGHT, label, *legend_parts(scale, name), name=name)


def legend_parts(scale: Scale, name: str) -> list[str]:
    """The elements of the legend, to be placed in a larger drawing."""
    left, right, bar = 16.0, WIDTH - 16.0, 12.0
    out = [text(left, 12, f"{scale.metric.title} (light is better)", class_="soft"), patterns(name)]
    n = 64
    for i in range(n):
        x, width = left + (right - left) * i / n, (right - left) / n + 0.4
        fill = ramp(1.0 - (i + 0.5) / n)
        out.append(
            tag(
                "rect",
                x=x,
                y=20.0,
                width=width,
                height=bar,
                fill=fill,
                shape_rendering="crispEdges",
            )
        )
    for loss in scale.ticks():
        x = left + (right - left) * scale.share(loss)
        anchor = "start" if x < left + 1 else "end" if x > right - 1 else "middle"
        out.append(path([(x, 20.0 + bar), (x, 24.0 + bar)], class_="frame"))
        out.append(text(x, 37 + bar, in_digits(scale.metric.sign * loss), text_anchor=anchor))
    return out + _signs(name, left, 70.0)


def _signs(name: str, left: float, y: float) -> list[str]:
    second, third = left + 128.0, left + 252.0
    out = [
        tag("rect", x=left - 2, y=y - 9, width=26, height=18, fill=ramp(0.6)),
        tag("circle", cx=left + 11, cy=y, r=6.0, class_="casing", stroke_width=4.5),
        tag("circle", cx=left + 11, cy=y, r=6.0, class_="bright", stroke_width=2.2),
        text(left + 32, y + 4, "best setting"),
        tag("rect", x=second - 2, y=y - 9, width=26, height=18, fill=ramp(0.6)),
        path([(second, y), (second + 22, y)], class_="casing", stroke_width=5.0),
        path([(second, y), (second + 22, y)], class_="bright", stroke_width=2.4),
        tag("circle", cx=second + 11, cy=y, r=3.4, fill="#fff", stroke="#111", stroke_width=1.4),
        text(second + 32, y + 4, "ridge"),
    ]
    places = {
        "missing": (third, y),
        "diverged": (left, y + 28.0),
        "omitted": (second, y + 28.0),
        "failed": (left, y + 84.0),
        "pruned": (second, y + 84.0),
    }
    for kind, (x, row) in places.items():
        box = {"x": x - 2, "y": row - 9, "width": 26, "height": 18}
        out.append(tag("rect", **box, fill=f"url(#{name}-{kind})"))
        out.append(text(x + 32, row + 4, KINDS[kind]))
    y, second = y + 56.0, left
    out += [
        tag("rect", x=second - 2, y=y - 9, width=26, height=18, fill=ramp(0.6)),
        path([(second, y), (second + 22, y)], class_="casing", stroke_width=2.4, opacity=0.55),
        path(
            [(second, y), (second + 22, y)],
            class_="bright",
            stroke_width=1.2,
            stroke_dasharray="4 3",
        ),
        text(second + 32, y + 4, "equal half-life at each lr (steps)"),
    ]
    return out


def patterns(name: str) -> str:
    """The fillings of cells without a mean; their ids begin with ``name``."""
    size = {"width": 6, "height": 6, "patternUnits": "userSpaceOnUse"}
    ground = tag("rect", width=6, height=6, class_="empty")
    stroke = tag("path", d="M-1 7L7 -1M-1 1L1 -1M5 7L7 5", class_="hatch")
    dots = tag("circle", cx=3, cy=3, r=0.9, class_="dot")
    cross = tag("path", d="M0 0L6 6M6 0L0 6", class_="hatch")
    return tag(
        "defs",
        tag("pattern", ground, stroke, id=f"{name}-missing", **size),
        tag("pattern", ground, cross, id=f"{name}-diverged", **size),
        tag("pattern", ground, dots, id=f"{name}-omitted", **size),
        tag("pattern", ground, stroke, dots, id=f"{name}-failed", **size),
        tag("pattern", ground, cross, dots, id=f"{name}-pruned", **size),
    )
