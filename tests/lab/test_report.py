"""The report: valid, self-contained HTML that says what the landscape it was built from says."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from synthetic import STEPS, grid, landscape, meta, record

from halflife.lab.ledger import Ledger
from halflife.lab.meta import Meta
from halflife.lab.report import build, charts, write
from halflife.lab.report.colour import contrast, ramp, rule_colour
from halflife.lab.report.legend import Scale
from halflife.lab.report.svg import STYLE, LogAxis
from halflife.lab.statistics.analysis import analyse

RULES = ("l2", "decoupled", "independent", "stable")
SLOPES = {"l2": -0.3, "decoupled": 0.0, "independent": 1.0, "stable": 0.1}
VOID = {"meta", "link", "br", "hr", "img", "input"}
PAGE = {"light": "#ffffff", "dark": "#15181d"}


class Page(HTMLParser):
    """Collects elements, and fails on tags that do not match."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "style" not in self.open:
            assert "nan" not in re.findall(r"[a-z]+", data.lower()), data


@pytest.fixture(scope="module")
def plan():
    return meta(RULES)


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
    assert "http" not in content
    assert "//" not in re.sub(r"<style>.*?</style>", "", content, flags=re.S)
    assert not re.search(r"<(script|link|img|iframe|image|use)\b", content)
    assert not re.search(r"@import|url\((?!#)", content)


def test_language_headings_tables_and_pictures_are_accessible(page):
    tags = [tag for tag, _ in page.elements]
    assert dict(page.elements)["html"]["lang"] == "en"
    levels = [int(t[1]) for t in tags if re.fullmatch(r"h[1-6]", t)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert tags.count("svg") == len(RULES) + 3  # legend, curves, weight RMS
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-labelledby"]
            assert "viewBox" in attributes or "viewbox" in attributes
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    assert tags.count("figure") == tags.count("figcaption") == 3
    assert tags.count("table") == tags.count("caption") == len(RULES) + 1


def test_order_of_the_sections(page):
    ids = [a["id"] for tag, a in page.elements if tag == "h2"]
    assert ids == ["summary", "maps", "learning", "weights", "rules", "again", "terms"]


def test_names_from_the_ledger_are_escaped(plan, records):
    evil = "<script>alert('x')</script> & \"co\""
    html = build(records, replace(plan, name=evil, command=evil, description=evil)).html
    assert "<script" not in html
    Page(html)


# --- colours ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_lines_contrast_with_the_page(report, mode):
    blocks = re.findall(r":root \{([^}]*)\}", report.html)
    colours = dict(re.findall(r"(--[a-z]+): (#[0-9a-f]{6})", blocks[mode == "dark"]))
    assert colours["--page"] == PAGE[mode]
    for name in ("--ink", "--soft"):
        assert contrast(colours[name], colours["--page"]) >= 4.5
        assert contrast(colours[name], colours["--note"]) >= 4.5
    for index in (None, *range(8)):
        assert contrast(rule_colour(index), colours["--page"]) >= 3.0


def test_the_ramp_rises_in_luminance():
    """So that the order survives colour blindness and a grey printer."""
    values = [contrast(ramp(i / 40), "#000000") for i in range(41)]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert values[-1] / values[0] > 8.0


def test_one_colour_scale_for_all_rules(plan, records):
    scale = Scale.of(analyse(records, plan), plan.reported)
    means = [m for r in analyse(records, plan).rules for m in r.surface.mean.ravel()]
    assert (scale.best, scale.worst) == (min(means), max(means))
    assert scale.colour(scale.best) == ramp(1.0)
    assert scale.colour(scale.worst) == ramp(0.0)


def test_the_picture_has_its_own_background_and_no_variables(report):
    assert "var(" not in report.picture
    assert 'fill="#ffffff"' in report.picture
    assert report.picture.count("<svg") == 1
    Page(report.picture)
    assert "var(--ink)" in STYLE


# --- what it says -------------------------------------------------------------------------------


def test_the_page_says_the_verdict_as_the_summary_does(report, page, plan, records):
    sentence = analyse(records, plan).sentence
    assert report.numbers["sentence"] == sentence
    assert sentence in "".join(page.text)


def test_separability_is_said_of_this_task_only(report, page):
    text = " ".join("".join(page.text).split())
    assert "On this task, decay strength and learning rate" in text
    assert "can be tuned separately under decoupled" in text
    assert "cannot be tuned separately under independent" in text
    assert not re.search(r"paper|Loshchilov|published", text)
    verdicts = {r["rule"]: r["ridge"]["verdict"] for r in report.numbers["rules"]}
    assert verdicts["decoupled"] == "separable"
    assert verdicts["independent"] == "coupled"


def test_what_fresh_seeds_say_of_the_other_rules_is_told():
    plan = meta(RULES, confirm_seeds=[10_000, 10_001, 10_002, 10_003])
    made = landscape(plan, slopes=SLOPES, noise=0.15)
    worse = [
        r | {"metrics": {"test_error": r["metrics"]["test_error"] + 5.0 * (r["rule"] == "l2")}}
        for r in made
    ]
    said = " ".join(build(worse, plan).html.split())
    assert re.search(r"is better than that of l2 \(", said)
    assert "is not told from that of" in said


def test_a_best_cell_on_the_border_is_no_optimum():
    plan = meta(("decoupled",))
    records = landscape(plan, slopes={"decoupled": 0.0}, bottom=1e3)
    report = build(records, plan)
    assert "it is no optimum" in report.numbers["sentence"]
    assert "highest weight decay" in report.html
    assert "(border)" in report.html
    stopped = [
        {"rule": "decoupled", "axis": "lr", "side": "high", "reason": "4 extensions, the limit"}
    ]
    assert "grew no further: 4 ext" in build(records, replace(plan, unresolved=stopped)).html
    assert "not allowed to grow" in build(records, replace(plan, extend=False)).html


def test_extensions_are_told(plan, records):
    extensions = [{"rule": "l2", "axis": "strength", "side": "high", "value": 1.0}] * 2
    html = build(records, replace(plan, extensions=extensions)).html
    assert "l2 (2 to the high side of weight decay)" in html


@pytest.mark.parametrize("keep", [0, 1, 40, 700])
def test_an_unfinished_ledger_has_a_report(plan, records, keep):
    report = build(records[:keep], plan)
    Page(report.html)
    Page(report.picture)
    json.dumps(report.numbers, allow_nan=False)
    assert "The ledger is incomplete" in report.html
    assert "missing" in report.html


def test_diverged_cells_are_marked_and_counted(plan, records):
    broken = [
        dict(r, diverged=True, metrics={"test_error": math.nan}, weight_rms=math.nan)
        if r["rule"] == "stable" and r["lr"] == plan.lrs[-1]
        else r
        for r in records
    ]
    report = build(broken, plan)
    Page(report.html)
    assert report.html.count("url(#map-3-diverged)") == len(plan.strengths["stable"])
    assert "11 of stable" in report.html
    json.dumps(report.numbers, allow_nan=False)


def test_a_minimal_ledger():
    """One rule, one setting, one seed, and only the keys that analysis needs."""
    plan = Meta(
        name="t", optimizer="o", rules=["decoupled"], seeds=[0], report={"name": "test_error"}
    )
    run = record("decoupled", 1e-3, 1e-4, 0.1, 0, 5.0, fraction=1e-4)
    html = build([run], plan).html
    Page(html)
    assert "6,900 steps" in html


@pytest.mark.parametrize("rules", [("decoupled",), ("a", "b", "c", "d", "e", "f", "g")])
def test_any_number_of_rules(rules):
    plan = meta(rules, lrs=grid(1e-3, 1e-1, 5), strengths=grid(1e-4, 1e-1, 13))
    report = build(landscape(plan, slopes=dict.fromkeys(rules, 0.0), noise=0.1), plan)
    assert sum(tag == "svg" for tag, _ in Page(report.html).elements) >= len(rules) + 2
    Page(report.picture)


# --- figures ------------------------------------------------------------------------------------


def test_equal_half_life_is_diagonal_when_decoupled_and_upright_when_independent(report):
    """In torch's coefficient d = lr wd; in the published one d = lambda."""

    def lines(rule):
        at = RULES.index(rule)
        drawing = report.html.split(f'id="map-{at}-title"')[1].split("</svg>")[0]
        found = re.findall(r'<path d="M([^"]+)" class="bright" [^>]*dasharray', drawing)
        return [[tuple(map(float, p.split())) for p in line.split("L")] for line in found]

    assert len(lines("decoupled")) >= 3
    assert len(lines("independent")) >= 3
    for points in lines("independent"):
        assert len({x for x, _ in points}) == 1
    for points in lines("decoupled"):
        (x0, y0), (x1, y1) = points[0], points[-1]
        rows, columns = (y1 - y0) / 22.0, (x1 - x0) / (318.0 / 11)
        # one row is a factor 10^(3/8) of lr, one column 10^(5/10) of wd
        assert columns * 5 / 10 == pytest.approx(rows * 3 / 8, abs=0.02)
    assert lines("l2") == []


def test_weight_rms_settled_by_the_length_of_the_run(plan):
    fast = record("stable", 1e-2, 0.1, 1.0, 0, 5.0, fraction=1.6 / STEPS, predicted=0.1)
    slow = record("stable", 1e-2, 0.1, 2.0, 0, 5.0, fraction=1.4 / STEPS, predicted=0.1)
    l2 = record("l2", 1e-2, 0.1, 2.0, 0, 5.0)
    points = charts.rms_points([fast, slow, l2], plan)
    assert [p.settled for p in points] == [True, False]
    assert [(p.predicted, p.measured) for p in points] == [(0.1, 0.12)] * 2


def test_a_log_axis_is_logarithmic():
    axis = LogAxis(1e-3, 10.0, 0.0, 100.0)
    assert [axis(v) for v in (1e-3, 1e-1, 10.0)] == pytest.approx([0.0, 50.0, 100.0])
    assert axis.ticks() == pytest.approx([1e-3, 1e-2, 1e-1, 1.0, 10.0])


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path, plan, records):
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure({"rules": list(RULES)}, resume=False)
        ledger.set_meta(plan)
        for r in records[:60]:
            ledger.add({**r, "test_error": r["metrics"]["test_error"]})
    return tmp_path


def test_write_replaces_three_files_and_leaves_no_other(directory):
    before = {p.name for p in directory.iterdir()}
    (directory / "report.html").write_text("old")
    assert write(directory) == directory / "report.html"
    written = {p.name for p in directory.iterdir()} - before
    assert written == {"report.html", "landscape.svg", "summary.json"}
    first = (directory / "report.html").read_bytes()
    Page(first.decode())
    numbers = json.loads((directory / "summary.json").read_text())
    assert [r["rule"] for r in numbers["rules"]] == list(RULES)
    write(directory)
    assert (directory / "report.html").read_bytes() == first  # nothing random, no date


def test_a_write_that_fails_leaves_the_old_report(directory, monkeypatch):
    (directory / "report.html").write_text("old")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
    before = {p.name for p in directory.iterdir()}
    with pytest.raises(OSError, match="full"):
        write(directory)
    assert {p.name for p in directory.iterdir()} == before
    assert (directory / "report.html").read_text() == "old"


# --- what the axes and curves are of, and paper ---------------------------------------------------


def test_curves_say_of_how_many_examples_they_are(plan, records):
    for known, text in (
        ({"curve_examples": 300, "test_examples": 1397}, "the first 300 of 1,397 test examples"),
        ({"curve_examples": 90, "test_examples": 90}, "all 90 test examples"),
        ({}, "at most the first 300 test examples"),  # an earlier ledger
    ):
        html = build(records, replace(plan, **known)).html
        assert html.count(f"test error (%) (log scale), {text}") == 1
        assert f"They are of {text}." in " ".join(html.split())


def test_what_is_logarithmic_is_labelled(report, plan, records):
    for label in ("measured RMS (log scale)", "predicted RMS (log scale)", "lr (log)"):
        assert label in report.html
    assert "weight_decay (log)" in report.html
    uneven = replace(plan, lrs=[*plan.lrs[:-1], 3.0 * plan.lrs[-1]])
    moved = [{**r, "lr": 3.0 * r["lr"]} if r["lr"] == plan.lrs[-1] else r for r in records]
    assert ">lr (log)<" not in build(moved, uneven).html  # cells, but no scale


@pytest.mark.parametrize("high", [7.3, 7.9, 9.0, 20.0, 90.0, 1e4])
def test_a_log_axis_has_labels_however_short_it_is(high):
    labels = LogAxis(7.2, high, 0.0, 1.0).labels()
    assert 3 <= len(labels) <= 9
    assert all(7.2 <= value <= high for value in labels)


def test_there_is_a_page_for_paper(report):
    style = report.html[report.html.index("<style>") : report.html.index("</style>")]
    paper = style[style.index("@media print") :]
    for rule in ("details::details-content", "break-inside: avoid", "overflow: visible", "--page"):
        assert rule in paper
