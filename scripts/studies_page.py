"""Write docs/studies.md's table of verdicts, and docs/assets/studies.html, from studies/.

    halflife study run all --out studies    # hours, where a ledger is not there or is not whole
    python scripts/studies_page.py

studies/ has the committed ledgers, one a study; a study without one is told as not run. The table
stands between <!-- table: verdicts --> and <!-- end -->.
"""

from __future__ import annotations

import re
from pathlib import Path

from halflife.lab.studies import words
from halflife.lab.studies.page import NONE, SIGNS, page_id, page_of
from halflife.lab.studies.results import ClaimResult, StudyResult, read_results

ROOT = Path(__file__).resolve().parent.parent
LEDGERS = ROOT / "studies"
PAGE = ROOT / "docs" / "studies.md"
HTML = ROOT / "docs" / "assets" / "studies.html"

HEAD = (
    "| claim | study | verdict | measured here | least | published |",
    "|---|---|---|---|---|---|",
)


def verdicts(results: list[StudyResult]) -> list[str]:
    """The lead, and of each paper a table of its claims."""
    lines = [words.lead(results)]
    for paper in dict.fromkeys(each.design.paper for each in results):
        lines += ["", f"### {words.PAPERS.get(paper, paper)}", "", *HEAD]
        for each in results:
            if each.design.paper == paper:
                lines += [row(each, claim) for claim in each.claims]
    return lines


def row(study: StudyResult, result: ClaimResult) -> str:
    """A claim in a line of the table."""
    claim, state = result.claim, words.outcome_of(study, result)
    name = study.design.name
    verdict = f"{SIGNS[state]} {state}"
    run = study.findings is not None
    if run and result.scope:
        verdict += f", {result.scope}"
    if run and not result.trusted:
        verdict += "; **a control failed**"
    said = claim.words + (f" ({claim.label})" if claim.label else "")
    cells = (
        f"[{plain(said)}](assets/studies.html#{page_id(name, claim.name)})",
        f"`{name}`",
        verdict,
        plain(words.measured_text(claim, result.verdict) if run else "") or NONE,
        f"{claim.effect:g}",
        plain(claim.published) or NONE,
    )
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Text that Markdown leaves as it is, in a cell of a table."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


def written(page: str, results: list[StudyResult]) -> str:
    """The page with its table written again."""
    table = "\n".join(verdicts(results))
    block = f"<!-- table: verdicts -->\n\n{table}\n\n<!-- end -->"
    return re.sub(r"<!-- table: verdicts -->\n.*?<!-- end -->", lambda _: block, page, flags=re.S)


if __name__ == "__main__":
    found = read_results(LEDGERS)
    PAGE.write_text(written(PAGE.read_text("utf-8"), found), "utf-8")
    HTML.write_text(page_of(found, words.family_of()), "utf-8")
