"""The report: valid, self-contained HTML that says what the landscape it was built from says."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import math
import re
from dataclasses import replace

import pytest
from report_page import Page
from synthetic import grid, landscape, meta, record

from halflife.lab.meta import Meta
from halflife.lab.report import build, write_report
from halflife.lab.report.colour import contrast, ramp, rule_colour
from halflife.lab.report.svg import STYLE
from halflife.lab.statistics.analysis import analyse

RULES = ("l2", "decoupled", "independent", "stable")
SLOPES = {"l2": -0.3, "decoupled": 0.0, "independent": 1.0, "stable": 0.1}
PAGE = {"light": "#ffffff", "dark": "#15181d"}


@pytest.fixture(scope="module")
def plan():
    size = {"lrs": grid(1e-4, 1e-1, 7), "strengths": grid(3e-6, 3e-1, 9)}
    return meta(RULES, **size, confirm_seeds=[10_000, 10_001, 10_002], default_decay=0.01)


@pytest.fixture(scope="module")
def records(plan):
    return landscape(plan, slopes=SLOPES, noise=0.15)


@pytest.fixture(scope="module")
def report(records, plan):
    return build(records, plan)


@pytest.fixture(scope="module")
def page(report):
    return Page(report.html)


# --- the page -----------------------------------------------------------------------------------


def test_tags_balance_and_ids_are_unique(page):
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-label"):
        for _, attributes in page.elements:
            if name == "aria-labelledby" and name in attributes:
                assert attributes[name] in ids
    urls = re.findall(r"url\(#([^)]+)\)", str(page.elements))
    assert set(urls) <= set(ids)


@pytest.mark.parametrize("part", ["html", "picture"])
def test_nothing_is_fetched(report, part):
    content = getattr(report, part).replace("http://www.w3.org/2000/svg", "")
    assert "http" not in content.replace("http-equiv", "")
    assert "//" not in re.sub(r"<(style|script)>.*?</\1>", "", content, flags=re.S)
    assert not re.search(r"<(link|img|iframe|image|use)\b|<script [^>]*src|\bon[a-z]+=", content)
    assert not re.search(r"@import|url\((?!#)", content)
    assert content.count("<script") == (part == "html")


def test_the_policy_allows_one_script_and_no_network(page, report):
    (policy,) = [a["content"] for _, a in page.elements if "http-equiv" in a]
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    script = re.search(r"<script>(.*?)</script>", report.html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert allowed["default-src"] == "'none'"
    assert allowed["script-src"] == f"'sha256-{digest}'"
    assert not {"connect-src", "img-src", "font-src", "frame-src"} & set(allowed)


def test_language_headings_tables_and_pictures_are_accessible(page):
    tags = [tag for tag, _ in page.elements]
    assert dict(page.elements)["html"]["lang"] == "en"
    levels = [int(t[1]) for t in tags if re.fullmatch(r"h[1-6]", t)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert tags.count("svg") == len(RULES) + 4  # legend, two metrics over training, weight RMS
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-labelledby"]
            assert "viewBox" in attributes or "viewbox" in attributes
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    assert tags.count("figure") == tags.count("figcaption") == 3
    assert tags.count("table") == tags.count("caption") == len(RULES) + 2


def test_order_of_the_sections(page):
    ids = [a["id"] for tag, a in page.elements if tag == "h2"]
    assert ids == ["summary", "maps", "learning", "weights", "rules", "again", "terms"]
    assert "".join(page.text).index("weight decay helps") < "".join(page.text).index("leads")


# --- colours ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_lines_contrast_with_the_page(report, mode):
    blocks = re.findall(r":root \{([^}]*)\}", report.html)
    colours = dict(re.findall(r"(--[a-z]+): (#[0-9a-f]{6})", blocks[mode == "dark"]))
    assert colours["--page"] == PAGE[mode]
    for name in ("--ink", "--soft"):
        assert contrast(colours[name], colours["--page"]) >= 4.5
        assert contrast(colours[name], colours["--note"]) >= 4.5
    assert contrast(colours["--fault"], colours["--faulty"]) >= 3.0
    for index in (None, *range(8)):
        assert contrast(rule_colour(index), colours["--page"]) >= 3.0


def test_the_ramp_rises_in_luminance():
    """So that the order survives colour blindness and a grey printer."""
    values = [contrast(ramp(i / 40), "#000000") for i in range(41)]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert values[-1] / values[0] > 8.0


def test_the_picture_has_its_own_background_and_no_variables(report):
    assert "var(" not in report.picture
    assert 'fill="#ffffff"' in report.picture
    assert report.picture.count("<svg") == 1
    Page(report.picture)
    assert "var(--ink)" in STYLE


# --- what it says -------------------------------------------------------------------------------


def words(report):
    return " ".join("".join(Page(report.html).text).split())


def test_the_verdict_is_the_same_on_the_page_and_in_the_numbers(report, plan, records):
    sentence = analyse(records, plan).sentence
    assert report.numbers["sentence"] == sentence
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', report.html)
    assert html.unescape(lead) == sentence


def test_separability_is_said_of_this_sweep_only(report):
    text = words(report)
    assert "one at a time in this sweep" in text
    assert "they can under decoupled" in text
    assert "they cannot under independent" in text
    assert not re.search(r"paper|Loshchilov|published", text)


def test_a_best_setting_on_the_border_is_no_optimum():
    plan = meta(("decoupled",))
    records = landscape(plan, slopes={"decoupled": 0.0}, bottom=1e3)
    report = build(records, plan)
    assert "it is no optimum" in report.html
    assert "highest weight decay" in report.html
    assert "(border)" in report.html
    stopped = [
        {"rule": "decoupled", "axis": "lr", "side": "high", "reason": "4 extensions, the limit"}
    ]
    assert "grew no further: 4 ext" in build(records, replace(plan, unresolved=stopped)).html
    assert "not allowed to grow" in build(records, replace(plan, extend=False)).html


def test_extensions_are_told(plan, records):
    extensions = [{"rule": "l2", "axis": "strength", "side": "high", "value": 1.0}] * 2
    page = build(records, replace(plan, extensions=extensions)).html
    assert "l2 (2 to the high side of weight decay)" in page


@pytest.mark.parametrize("keep", [0, 1, 40, 700])
def test_an_unfinished_ledger_has_a_report(plan, records, keep):
    report = build(records[:keep], plan)
    Page(report.html)
    Page(report.picture)
    json.dumps(report.numbers, allow_nan=False)
    assert "are not in the ledger" in report.html


def test_diverged_cells_are_marked_and_counted(plan, records):
    broken = [
        dict(r, diverged=True, metrics={"test_error": math.nan}, weight_rms=math.inf)
        if r["rule"] == "stable" and r["lr"] == plan.lrs[-1]
        else r
        for r in records
    ]
    report = build(broken, plan)
    Page(report.html)
    assert report.html.count("url(#map-3-diverged)") == len(plan.strengths["stable"])
    assert f"{len(plan.strengths['stable'])} of stable" in report.html
    json.dumps(report.numbers, allow_nan=False)


def test_a_minimal_ledger():
    """One rule, one cell, one seed, and only the keys that analysis needs."""
    plan = Meta(
        name="t", optimizer="o", rules=["decoupled"], seeds=[0], report={"name": "test_error"}
    )
    run = record("decoupled", 1e-3, 1e-4, 0.1, 0, 5.0, fraction=1e-4)
    page = build([run], plan).html
    Page(page)
    assert "6,900" in page


@pytest.mark.parametrize("rules", [("decoupled",), ("a", "b", "c", "d", "e", "f", "g")])
def test_any_number_of_rules(rules):
    plan = meta(rules, lrs=grid(1e-3, 1e-1, 5), strengths=grid(1e-4, 1e-1, 13))
    report = build(landscape(plan, slopes=dict.fromkeys(rules, 0.0), noise=0.1), plan)
    assert sum(tag == "svg" for tag, _ in Page(report.html).elements) >= len(rules) + 2
    Page(report.picture)


# --- files --------------------------------------------------------------------------------------


def test_write_replaces_three_files_and_leaves_no_other(tmp_path, records, plan):
    (tmp_path / "report.html").write_text("old")
    assert write_report(records[:60], plan, tmp_path) == tmp_path / "report.html"
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "landscape.svg", "summary.json"}
    first = (tmp_path / "report.html").read_bytes()
    Page(first.decode())
    numbers = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert [r["rule"] for r in numbers["rules"]] == list(RULES)
    write_report(records[:60], plan, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == first  # nothing random, no date


def test_a_write_that_fails_leaves_the_old_report(tmp_path, records, plan, monkeypatch):
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_report(records[:60], plan, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"report.html"}
    assert (tmp_path / "report.html").read_text() == "old"


def test_there_is_a_page_for_paper(report):
    style = report.html[report.html.index("<style>") : report.html.index("</style>")]
    paper = style[style.index("@media print") :]
    for rule in ("details::details-content", "break-inside: avoid", "overflow: visible", "--page"):
        assert rule in paper
