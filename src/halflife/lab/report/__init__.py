"""The report of a sweep: one self-contained HTML page, a picture, and the numbers.

Everything is rebuilt from the ledger alone. The page needs no network, and its few lines of script
only repeat what tooltips say; it is read on a phone, in dark mode, without colours, on paper and by
a screen reader.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...checks import finite
from ..meta import Meta
from ..statistics.analysis import RuleAnalysis, analyse
from ..statistics.ridge import SEPARABLE
from ..statistics.sentence import differences, slope_text
from ..statistics.surface import Record
from ..wording import listed
from . import failures, legend, summary, svg, tables, weights
from .curves import Curves, examples, learning_curves
from .document import part_of, policy_of, replaced_file, template_of
from .heatmap import scattered
from .maps import heading, maps_of, picture

__all__ = ["Page", "build", "write_report"]

_VERDICTS = {"separable": "they can", "coupled": "they cannot", "undecided": "not told"}
_CELLS = 4000  # of all maps that are shown as tables too


@dataclass(frozen=True)
class Page:
    """A report before it is written.

    Attributes:
        html: the page.
        picture: the heat maps alone, as SVG.
        numbers: the analysis as plain data.
    """

    html: str
    picture: str
    numbers: dict[str, Any]


def write_report(records: Sequence[Record], meta: Meta, directory: Path) -> Path:
    """The page of a sweep's report, written in a directory.

    Args:
        records: one mapping per training, as the ledger holds them.
        meta: what was to be run.
        directory: ``report.html``, ``landscape.svg`` and ``summary.json`` are replaced there, each
            at once; made if missing.

    Returns:
        Path of ``report.html``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    report = build(records, meta)
    replaced_file(directory / "landscape.svg", report.picture)
    replaced_file(directory / "summary.json", json.dumps(report.numbers, indent=1, allow_nan=False))
    page = directory / "report.html"
    replaced_file(page, report.html)
    return page


def build(records: Sequence[Record], meta: Meta) -> Page:
    """The report of a sweep, finished or not.

    Args:
        records: one mapping per run, as the ledger holds them.
        meta: what was to be run.
    """
    analysis = analyse(records, meta)
    maps = maps_of(analysis, records, meta)
    points = weights.rms_points(records, meta)
    names = [rule.rule for rule in analysis.rules]
    failed, more_failed = failures.failures(records)
    curves = learning_curves(analysis, records, meta)
    tabled, left_out = _tabled(analysis.rules)
    script = part_of(__name__, "page.js")
    page = template_of(__name__, "template.html").render(
        title=heading(meta),
        full=meta.name or "",
        policy=policy_of(script),
        style=Markup(part_of(__name__, "style.css") + svg.STYLE),
        script=Markup(script),
        what_ran=summary.what_ran(analysis, meta),
        description=(meta.description or "").rstrip("."),
        lead=analysis.sentence,
        finalists=tables.finalists_table(analysis, meta),
        separability=[(r.rule, _VERDICTS[r.ridge.verdict], slope_text(r)) for r in analysis.rules],
        differences=differences(analysis, meta),
        caveats=summary.caveats(analysis, meta, records),
        map_notes=summary.map_notes(analysis),
        legend=Markup(legend.legend(maps.scale, "legend")),
        maps=[Markup(m.drawn(f"map-{index}")) for index, m in enumerate(maps.main)],
        beside=[
            (name, [Markup(m.drawn(f"map-{at}-{index}")) for index, m in enumerate(drawings)])
            for at, (name, drawings) in enumerate(maps.beside)
        ],
        equal_strength=bool(meta.strengths) and len(names) > 1,
        metric=meta.reported.title,
        choose=meta.chosen_by.title,
        grids=[tables.grid_table(rule) for rule in tabled],
        grids_left_out=listed([svg.brief(name) for name in left_out]) if left_out else "",
        lost=failures.lost(records),
        failures=failed,
        more_failures=more_failed,
        curves=curves and Curves([Markup(figure) for figure in curves.figures], curves.notes),
        examples=examples(meta),
        rms=_markup(weights.rms_scatter(points, names)),
        rms_text=summary.rms_text(points, meta),
        rules=tables.rules_table(analysis, meta),
        has_half_life=any(r.best and r.best.half_life for r in analysis.rules),
        has_l2="l2" in names,
        command=meta.command,
        facts=summary.facts(records, meta),
        band=SEPARABLE,
    )
    numbers = {"meta": meta.as_dict()} | analysis.as_dict()
    return Page(page, picture(maps, meta), finite(numbers))


def _tabled(rules: Sequence[RuleAnalysis]) -> tuple[list[RuleAnalysis], list[str]]:
    """The rules whose maps are shown as tables too, and the names of those left out for size."""
    kept, left_out, cells = [], [], 0
    for rule in rules:
        cells += 0 if scattered(rule.surface) else rule.surface.failed.size
        if cells <= _CELLS and not scattered(rule.surface):
            kept.append(rule)
        else:
            left_out.append(rule.rule)
    return kept, left_out


def _markup(drawing: str | None) -> Markup | None:
    return Markup(drawing) if drawing else None
