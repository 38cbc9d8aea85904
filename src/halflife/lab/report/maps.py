"""All heat maps of a sweep: on the page, and as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..meta import Meta
from ..statistics.analysis import Analysis, RuleAnalysis
from ..statistics.surface import AXES, BASELINE, Record, Surface, drawn, key_of, records_of
from .failures import last_line
from .heatmap import Fates, HeatMap
from .legend import HEIGHT, WIDTH, Scale, legend_parts
from .svg import brief, label, standalone, tag

__all__ = ["Maps", "heading", "maps_of", "picture"]


@dataclass(frozen=True)
class Maps:
    """The maps of a sweep.

    Attributes:
        scale: their colours.
        main: lr against weight decay, one per rule.
        beside: for each other parameter its name, and one map per rule of it against weight decay.
    """

    scale: Scale
    main: list[HeatMap]
    beside: list[tuple[str, list[HeatMap]]]


def maps_of(analysis: Analysis, records: Sequence[Record], meta: Meta) -> Maps:
    """The maps of an analysis, other parameters as in each rule's best setting."""
    of_rule, metric = records_of(records, meta), meta.reported
    none = of_rule.get(BASELINE, [])
    swept = [name for name, values in meta.params.items() if len(values) > 1]

    def without(surface: Surface) -> Surface | None:
        """The trainings without decay over the rows of a map."""
        return drawn(none, meta, BASELINE, metric, surface.fixed, surface.axes) if none else None

    placed: list[tuple[str, RuleAnalysis, Surface]] = [("", r, r.surface) for r in analysis.rules]
    for name in swept:
        for rule in analysis.rules:
            if rule.best:
                own, axes = of_rule.get(rule.rule, []), (name, AXES[1])
                surface = drawn(own, meta, rule.rule, metric, rule.best.place, axes)
                placed.append((name, rule, surface))
    beside = [without(surface) for *_, surface in placed]
    noise = analysis.best.noise if analysis.best else None
    drawn_all = [s for s in (*(s for *_, s in placed), *beside) if s is not None]
    scale = Scale.of(drawn_all, metric, noise.residual or noise.total if noise else None)
    fates = _fates(records, meta)
    maps = [
        (name, HeatMap(rule, surface, column, meta, scale, fates))
        for (name, rule, surface), column in zip(placed, beside, strict=True)
    ]
    of = {name: [drawing for own, drawing in maps if own == name] for name in ["", *swept]}
    return Maps(scale, of.pop(""), list(of.items()))


def _fates(records: Sequence[Record], meta: Meta) -> Fates:
    """Why a setting has no mean, by its first run that failed or was stopped."""
    out: dict[object, str] = {}
    for r in records:
        if r["status"] == "failed":
            out.setdefault(key_of(r), last_line(r.get("error"), 100))
        elif r["status"] == "pruned":
            out.setdefault(key_of(r), f"stopped at {r.get('progress') or 0.0:.0%} of the training")
    return out


def picture(maps: Maps, meta: Meta) -> str:
    """The heat maps of all rules as one SVG file."""
    columns = 2 if len(maps.main) > 1 else 1
    height = max((m.height for m in maps.main), default=0.0) + 12.0
    whole, top = WIDTH * columns + 16.0, 40.0
    title = {"class_": "title", "style": "font-size:14px"}
    body = [label(16, 25, heading(meta), 0.85 * (whole - 32.0), **title)]
    for index, drawing in enumerate(maps.main):
        x, y = WIDTH * (index % columns) + 8.0, top + height * (index // columns)
        inner = drawing.draw(f"map-{index}", titles=False)
        body.append(tag("g", *inner, transform=f"translate({x:g} {y:g})"))
    y = top + height * math.ceil(len(maps.main) / columns)
    x = 8.0 + 0.5 * WIDTH * (columns - 1)
    body.append(tag("g", *legend_parts(maps.scale, "key"), transform=f"translate({x:g} {y:g})"))
    about = f"{heading(meta)}. " + " ".join(m.description() for m in maps.main)
    return standalone(whole, y + HEIGHT, about, *body)


def heading(meta: Meta) -> str:
    """What the page is of."""
    of = f" on {brief(meta.name)}" if meta.name else ""
    by = f" with {brief(meta.optimizer)}" if meta.optimizer else ""
    return f"Weight decay and learning rate{of}{by}"
