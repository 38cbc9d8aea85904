"""The report of a landscape: one self-contained HTML page, a picture, and the numbers.

Everything is rebuilt from the ledger alone. The page needs no network and no script; it is read on
a phone, in dark mode, without colours and by a screen reader.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ...units.writing import counted
from ..meta import Meta
from ..ridge import SEPARABLE
from ..statistics.analysis import Analysis, RuleAnalysis, analyse, plain
from ..statistics.sentence import differences, separability, slope_text
from ..statistics.surface import BASELINE, Record
from ..wording import in_digits, interval, scientific, short, signed, spread, steps, with_unit
from . import charts, heatmap, legend, summary, svg

__all__ = ["Page", "build", "separability", "write_report"]

_VERDICTS = {
    "separable": "can be tuned separately",
    "coupled": "cannot be tuned separately",
    "undecided": "cannot be told",
}
_NONE = "\N{EN DASH}"  # stands where there is no value
_COLUMNS = (
    "rule",
    "lr",
    "weight_decay",
    "half-life, steps (epochs)",
    "timescale, steps",
    "by the seeds that chose",
    "on fresh seeds",
    "leader's gain over it",
    "ridge slope",
    "settings within the noise",
    "noise between seeds",
)


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
    _replace(directory / "landscape.svg", report.picture)
    _replace(directory / "summary.json", json.dumps(report.numbers, indent=1, allow_nan=False))
    page = directory / "report.html"
    _replace(page, report.html)
    return page


def build(records: Sequence[Record], meta: Meta) -> Page:
    """The report of a landscape, finished or not.

    Args:
        records: one mapping per run, as the ledger holds them.
        meta: what was to be run.
    """
    analysis = analyse(records, meta)
    scale = legend.Scale.of(analysis, meta.reported)
    points = charts.rms_points(records, meta)
    names = [rule.rule for rule in analysis.rules]
    page = _template().render(
        title=f"Weight decay and learning rate on {meta.name} with {meta.optimizer}",
        style=Markup(_resource("style.css") + svg.STYLE),
        what_ran=summary.what_ran(analysis, meta),
        task_description=(meta.description or "").rstrip("."),
        lead=analysis.sentence,
        separability=[(r.rule, _VERDICTS[r.ridge.verdict], slope_text(r)) for r in analysis.rules],
        differences=differences(analysis, meta),
        caveats=summary.caveats(analysis, meta),
        legend=Markup(legend.legend(scale, "legend")),
        maps=[
            Markup(heatmap.heat_map(rule, meta, scale, f"map-{index}"))
            for index, rule in enumerate(analysis.rules)
        ],
        metric=meta.reported.title,
        grids=[_grid(rule) for rule in analysis.rules],
        curves=_markup(charts.learning_curves(analysis, records, meta)),
        examples=charts.examples(meta),
        rms=_markup(charts.rms_scatter(points, names)),
        rms_text=summary.rms_text(points, meta),
        columns=_COLUMNS,
        table=_table(analysis, meta),
        command=meta.command,
        facts=_facts(meta),
        band=SEPARABLE,
    )
    numbers = {"meta": meta.as_dict()} | analysis.as_dict()
    return Page(page, heatmap.landscape_picture(analysis, meta), plain(numbers))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("template.html"))


def _resource(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _markup(drawing: str | None) -> Markup | None:
    return Markup(drawing) if drawing else None


def _table(analysis: Analysis, meta: Meta) -> list[list[str]]:
    """One row per rule, the runs without decay last."""
    baseline = [analysis.baseline] if analysis.baseline else []
    return [_row(rule, analysis, meta) for rule in [*analysis.rules, *baseline]]


def _row(rule: RuleAnalysis, analysis: Analysis, meta: Meta) -> list[str]:
    best, ridge, unit = rule.best, rule.ridge, meta.reported.unit
    is_baseline = rule.rule == BASELINE
    name = "no decay" if is_baseline else rule.rule
    if best is None:
        return [name, *[_NONE] * (len(_COLUMNS) - 1)]
    gain = slope = life = on_fresh = chosen = _NONE
    if best.half_life is not None:
        life = steps(best.half_life)
        if per_epoch := meta.steps_per_epoch:
            life += f" ({steps(best.half_life / per_epoch)})"
    if best.value is not None:
        chosen = with_unit(best.value, unit, best.standard_error)
    if rule.fresh and rule.fresh.value is not None and rule.fresh.interval:
        low, high = rule.fresh.interval
        value = with_unit(rule.fresh.value, unit, 0.25 * (high - low))
        on_fresh = f"{value} {spread(low, high)}"
    against = next((c for c in analysis.comparisons if c.other == rule.rule), None)
    if against and against.interval:
        low, high = against.interval
        gain = f"{in_digits(against.gain, 0.25 * (high - low))} {spread(low, high)}"
    if ridge.slope is not None and not is_baseline:
        slope = f"{signed(ridge.slope)} {interval(ridge.low, ridge.high) or '(no interval)'}"
    return [
        name,
        scientific(best.lr),
        short(best.weight_decay),
        life,
        steps(best.timescale) if best.timescale else _NONE,
        chosen + (" (border)" if rule.border else ""),
        on_fresh,
        gain,
        slope,
        f"{rule.within.count} ({rule.within.share:.0%})" if rule.within else _NONE,
        with_unit(rule.noise.total, unit, rule.noise.total) if rule.noise else _NONE,
    ]


def _grid(rule: RuleAnalysis) -> dict[str, Any]:
    """One rule's errors as a table, lr from high to low as in the picture."""
    grid = rule.surface
    rows, noise = [], rule.noise.total if rule.noise else None
    for i in reversed(range(len(grid.lrs))):
        cells = zip(grid.mean[i], grid.unusable[i], strict=True)
        shown = [
            ("unusable" if bad else "missing") if math.isnan(e) else in_digits(e, noise)
            for e, bad in cells
        ]
        rows.append((scientific(grid.lrs[i]), shown))
    return {"rule": rule.rule, "columns": [short(c) for c in grid.coefficients], "rows": rows}


def _facts(meta: Meta) -> list[tuple[str, str]]:
    facts = {
        "task": meta.name,
        "optimizer": meta.optimizer,
        "metric": meta.reported.title,
        "seeds": ", ".join(str(s) for s in meta.seeds),
        "training": f"{counted(meta.epochs or 0, 'epoch')}, {counted(meta.steps or 0, 'step')}, "
        f"batch size {meta.batch_size}, {meta.schedule} schedule",
        "grid extension": "on" if meta.extend else "off",
    } | dict(meta.versions)
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _replace(path: Path, content: str) -> None:
    """Write a file beside the target and move it there: readers see the old one or the new."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
