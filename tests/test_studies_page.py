"""docs/studies.md and the page of studies are what the committed ledgers say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "studies_page.py"))


@pytest.fixture(scope="module")
def results():
    return SCRIPT["read_results"](SCRIPT["LEDGERS"])


def test_the_pages_are_what_the_script_makes(results):
    page = SCRIPT["PAGE"].read_text("utf-8")
    assert SCRIPT["written"](page, results) == page, "run python scripts/studies_page.py"
    html = SCRIPT["page_of"](results, SCRIPT["words"].family_of())
    assert SCRIPT["HTML"].read_text("utf-8") == html, "run python scripts/studies_page.py"


def test_links_of_the_table_lead_to_a_claim(results):
    page, html = SCRIPT["PAGE"].read_text("utf-8"), SCRIPT["HTML"].read_text("utf-8")
    links = re.findall(r"\(assets/studies\.html#([^)]+)\)", page)
    assert len(links) == len(set(links)) == sum(len(each.claims) for each in results)
    assert set(links) <= set(re.findall(r' id="([^"]+)"', html))


def test_a_row_tells_scope_failed_controls_and_what_was_measured():
    import sys

    sys.path.insert(0, str(ROOT / "tests" / "lab"))
    try:
        from studies_made import a_page_of_results
    finally:
        sys.path.pop(0)
    rows = SCRIPT["verdicts"](a_page_of_results())
    assert rows[0].startswith("Of 9 published claims, 5 replicate")
    (scoped,) = [row for row in rows if "Claim scoped" in row]
    assert "replicates, not at equal total decay | 1.50 \\[1.18, 1.82\\] points of test" in scoped
    (untrusted,) = [row for row in rows if "Claim untrusted" in row]
    assert "; **a control failed** |" in untrusted
    assert "| {0} not run | {0} |".format(SCRIPT["NONE"]) in rows[-1]
