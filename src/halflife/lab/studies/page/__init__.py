"""The page of the studies: every registered claim with its verdict, from the ledgers alone.

One self-contained HTML file. It needs no network, and its few lines of script only narrow the
table down; it is read on a phone, in dark mode, without colours, on paper and by a screen reader.
The same ledgers make the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...report import __name__ as report_package
from ...report.document import part_of, policy_of, replaced_file, template_of
from ...report.svg import STYLE
from ...wording import in_digits
from .. import words
from ..record import facts_of
from ..results import ClaimResult, StudyResult, read_results
from .forests import forest
from .lines import drawn_curve, points_of

__all__ = ["page_id", "page_of", "write_page"]

_SHOWN = 60  # values of a claim that are written out
_POINTS = 200  # of a figure
NONE = "\N{EN DASH}"
SIGNS = {
    "replicates": "\N{CHECK MARK}",
    "contradicts": "\N{MULTIPLICATION X}",
    "undecided": "?",
    "not run": NONE,
}


def write_page(folder: Path, out: Path) -> Path:
    """The page of all registered studies, with what a folder of ledgers says of them.

    Args:
        folder: of the ledgers, one a study; what has none is told as not run.
        out: the HTML file, replaced at once; its folder is made if missing.

    Returns:
        ``out``.

    Raises:
        StudyError: for a ledger that another design began or that is damaged.
    """
    content = page_of(read_results(folder), words.family_of())
    out.parent.mkdir(parents=True, exist_ok=True)
    return replaced_file(out, content)


def page_of(results: Sequence[StudyResult], family: int) -> str:
    """The page as HTML.

    Args:
        results: of every registered study, in their order.
        family: how many primaries the verdicts are corrected for.
    """
    script = part_of(__name__, "page.js")
    known: dict[str, int] = {}
    studies = [_study(each, family, known) for each in results]
    papers = list(dict.fromkeys(each["paper"] for each in studies))
    return template_of(__name__, "template.html").render(
        policy=policy_of(script),
        style=Markup(part_of(report_package, "style.css") + STYLE + part_of(__name__, "style.css")),
        script=Markup(script),
        lead=words.lead(results),
        family=family,
        states=words.STATES,
        signs=SIGNS,
        papers=[
            {
                "key": paper,
                "title": words.PAPERS.get(paper, paper),
                "studies": [each for each in studies if each["paper"] == paper],
            }
            for paper in papers
        ],
        alarmed=[c for each in studies for c in each["claims"] if c["alarms"]],
        nothing=NONE,
    )


def _study(study: StudyResult, family: int, known: dict[str, int]) -> dict[str, Any]:
    """What the template says of a study."""
    design, findings = study.design, study.findings
    anchor = _anchor(known, design.name)
    curves = []
    for number, curve in enumerate(findings.curves if findings else ()):
        if drawn := drawn_curve(curve, f"{anchor}-figure-{number}"):
            rows = points_of(curve)
            curves.append(
                {
                    "title": curve.title,
                    "drawn": Markup(drawn),
                    "columns": ["line", curve.x_label, curve.y_label, "low", "high"][
                        : max(map(len, rows))
                    ],
                    "rows": rows[:_POINTS],
                    "more": max(len(rows) - _POINTS, 0),
                }
            )
    return {
        "anchor": anchor,
        "name": design.name,
        "paper": design.paper,
        "item": design.name.partition("/")[2],
        "title": design.title,
        "source": design.source,
        "published": design.published,
        "small": design.small,
        "confounds": design.confounds,
        "cannot_say": design.cannot_say,
        "notes": list(findings.notes) if findings else [],
        "run": findings is not None,
        "claims": [_claim(study, claim, family, known) for claim in study.claims],
        "curves": curves,
        "recipes": list(design.recipes),
        "sha256": design.sha256,
        **facts_of(study),
    }


def _claim(
    study: StudyResult, result: ClaimResult, family: int, known: dict[str, int]
) -> dict[str, Any]:
    """What the template says of a claim."""
    claim, verdict = result.claim, result.verdict
    own = _anchor(known, study.design.name, claim.name)
    findings = study.findings
    every: Mapping[str, Sequence[float]] = findings.values if findings else {}
    state = words.outcome_of(study, result)
    drawn = forest(result, every, f"{own}-forest") if findings else ""
    run = findings is not None
    return {
        "anchor": own,
        "study": study.design.name,
        "state": state,
        "class": state.replace(" ", "-"),
        "words": claim.words,
        "statement": claim.statement,
        "kind": claim.kind,
        "unit": claim.unit,
        "effect": f"{claim.effect:g}",
        "label": claim.label,
        "published": claim.published,
        "measured": words.measured_text(claim, verdict, unit=False) if run else "",
        "sentence": words.verdict_text(study, result, family),
        "scope": words.scope_text(result) if run else "",
        "short_scope": result.scope if run else "",
        "alarms": words.alarms(result) if run else [],
        "forest": Markup(drawn) if drawn else "",
        "null": claim.null,
        "planted": claim.planted,
        "matched": list(claim.matched),
        "controls": [
            (key, control.outcome, words.measured_text(claim, control, unit=False) or NONE)
            for key, control in result.controls.items()
        ],
        "written": _written(result),
        "count": len(result.values),
    }


def _written(result: ClaimResult) -> str:
    """The values as text, one a seed; of many the largest."""
    shown = list(result.values)
    if len(shown) > _SHOWN:
        shown = sorted(shown, key=lambda v: (v == v, -abs(v)))[:_SHOWN]  # no numbers come first
    said = "; ".join("no number" if v != v else in_digits(v) for v in shown)
    return f"The largest: {said}" if len(shown) < len(result.values) else said


def page_id(*parts: str) -> str:
    """The id of a study, or of a claim of it, in the page.

    Args:
        *parts: the study's name, and the claim's.

    Example:
        >>> page_id("000/figure-1", "error")
        'study-000-figure-1-error'
    """
    return re.sub(r"[^a-z0-9]+", "-", " ".join(("study", *parts)).lower()).strip("-")


def _anchor(known: dict[str, int], *parts: str) -> str:
    """An id, with a number where it is taken."""
    base = page_id(*parts)
    known[base] = known.get(base, 0) + 1
    return base if known[base] == 1 else _anchor(known, *parts, str(known[base]))
