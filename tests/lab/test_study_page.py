"""The page of studies: valid, self-contained, and it says what the verdicts say."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import re
from dataclasses import replace
from html import unescape

import pytest
from report_page import Page
from studies_made import a_page_of_results, claim, design, normal, results_of, values_of

from halflife.lab.report.colour import contrast
from halflife.lab.studies import words
from halflife.lab.studies.calls import Curve
from halflife.lab.studies.page import page_of
from halflife.lab.studies.page.forests import forest
from halflife.lab.studies.page.lines import drawn_curve

EVIL = '<script>document.title="run"</script>&"\'' + "W" * 160


@pytest.fixture(scope="module")
def results():
    return a_page_of_results()


@pytest.fixture(scope="module")
def html(results):
    return page_of(results, 7)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def text_of(html):
    """What is read, without tags and line ends."""
    body = re.sub(r"<(style|script|title)\b.*?</\1>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", body)))


def article_of(html, name):
    (own,) = re.findall(rf'<article [^>]*aria-labelledby="[^"]*-{name}">.*?</article>', html, re.S)
    return own


# --- a page ---------------------------------------------------------------------------------------


def test_tags_balance_ids_are_unique_and_links_lead_somewhere(page):
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert len(links) > 30
    assert {link[1:] for link in links} <= set(ids)
    named = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert set(named) <= set(ids)


def test_nothing_is_fetched_and_one_script_is_allowed(page, html):
    content = html.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "http" not in content
    assert not re.search(r"<(link|img|iframe|image|use)\b|<script [^>]*src|\bon[a-z]+=", content)
    assert not re.search(r"@import|url\(", content)
    (policy,) = [a["content"] for _, a in page.elements if "http-equiv" in a]
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


def test_headings_tables_and_figures_are_accessible(page):
    tags = [tag for tag, _ in page.elements]
    levels = [int(t[1]) for t in tags if re.fullmatch(r"h[1-6]", t)]
    assert levels[0] == levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert tags.count("table") == tags.count("caption")
    assert tags.count("figure") == tags.count("figcaption") == tags.count("svg")
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-labelledby"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col", "rowgroup")


def test_the_same_results_make_the_same_page(results, html):
    assert page_of(a_page_of_results(), 7) == html


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_verdicts_contrast_with_their_ground(html, mode):
    colours = {}
    for block in re.findall(r":root \{([^}]*)\}", html.partition("@media print")[0]):
        found = dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6})", block))
        dark = found.get("--page", "#ffffff") == "#15181d" or found.get("--zone") == "#1b2a3c"
        colours |= found if dark == (mode == "dark") else {}
    later = re.findall(r":root \{([^}]*)\}", html)
    for block in later:
        found = dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6})", block))
        if (found.get("--zone") == "#1b2a3c") == (mode == "dark") and "--zone" in found:
            colours |= found
    for name in ("yes", "no", "open"):
        assert contrast(colours[f"--{name}"], colours[f"--{name}-ground"]) >= 4.5
        assert contrast(colours[f"--{name}"], colours["--page"]) >= 4.5
    assert contrast(colours["--fault"], colours["--faulty"]) >= 4.5


# --- what it says ---------------------------------------------------------------------------------


def test_the_lead_counts_each_standing_and_names_what_is_not_to_be_trusted(results, html):
    said = words.lead(results)
    assert said == (
        "Of 9 published claims, 5 replicate, 2 are contradicted, 1 stays undecided and 1 has not "
        "been run. Of 1 exploratory one, 1 replicates, none is contradicted and none stays "
        "undecided. 1 of these verdicts is not to be trusted, as a control failed."
    )
    assert said in text_of(html)
    assert words.lead(results[3:]) == (
        "Of 1 published claim, none replicates, none is contradicted, none stays undecided and "
        "1 has not been run."
    )


def test_every_claim_stands_in_the_table_and_in_its_study(results, html):
    table = html[html.index('<table class="verdicts"') :].partition("</table>")[0]
    rows = re.findall(r'<tr role="row" data-verdict="([^"]*)">(.*?)</tr>', table, re.S)
    claims = [(study, each) for study in results for each in study.claims]
    assert len(rows) == len(claims) == 10
    for (state, row), (study, each) in zip(rows, claims, strict=True):
        said = text_of(row.replace("<wbr>", ""))
        assert state == words.outcome_of(study, each)
        assert each.claim.words in said
        assert study.design.name in said
        assert each.claim.published in said
        own = text_of(article_of(html, each.claim.name))
        for part in (each.claim.statement, each.claim.null, each.claim.planted):
            assert part in own
        assert words.verdict_text(study, each, 7) in own


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("holds", ["Replicates: 1.20 [0.88, 1.52] points of test error on 12 fresh seeds",
                   "p < 0.001, after Holm's correction over 7 registered primaries",
                   "It holds at equal total decay and equal final norm too."]),
        ("fails", ["Contradicts: ", "the effect is below the smallest of interest, 0.5"]),
        ("open", ["Undecided: ", "it is not told that the effect is below 0, nor that",
                  "so many seeds tell an effect of 0.5 with probability 14 %; 80 % would take"]),
        ("scoped", ["Replicates: ",
                    "It holds in the primary comparison only, not at equal total decay."]),
        ("untrusted", ["Not to be trusted", "The null was taken for the claim",
                       "What was planted was not seen, it is contradicted"]),
        ("equal", ["the difference is within the margin, 0.5 (p < 0.001"]),
        ("told", ["not corrected: the claim is exploratory"]),
        ("exact", ["Replicates: in 3 cases the worst deviation is 1e-13, and 1e-12 is allowed"]),
        ("broken", ["Contradicts: in 3 cases the worst deviation is 1e-9, more than the 1e-12"]),
        ("later", ["Not run: there is no ledger of this study."]),
    ],
)  # fmt: skip
def test_a_verdict_in_words(html, name, parts):
    own = text_of(article_of(html, name))
    for part in parts:
        assert part in own


def test_a_study_says_how_it_was_run_and_how_to_run_it_again(html):
    said = text_of(html)
    for part in (
        "halflife study run 000/figure-1",
        "halflife train 000/resnet18/adams",
        "12 min 34 s, all measurements together",
        "halflife 0.1.0, torch 2.13.0",
        "Linux x86_64, 2 cores",
        "ab" * 32,
        "cd" * 32,
        "2026-01-02T03:04:05+00:00",
        "The confounds of 000/figure-1.",
        "The cannot_say of 000/figure-1.",
        "adamw: lr 0.1, on the border (lr 0.1)",
        "seeds8",  # a setting and its value
        "Values of the claim, one a seed (12): 1.29; 1.68; 1.28; ",
    ):
        assert part in said, part
    assert "halflife study run 004/figure-2" in said  # has not been run


def test_a_study_that_was_begun_says_how_far_it_is():
    (study,) = results_of((design(claims=[claim()]), values_of(claim(), 1.0)))
    begun = replace(study, findings=None)
    said = "Not run to its end: its ledger has 24 measurements, and the plan asks for more."
    assert words.verdict_text(begun, begun.claims[0], 1) == said
    assert said in text_of(page_of([begun], 1))
    assert "1 has not been run" in words.lead([begun])


def test_what_an_undecided_verdict_lacks():
    def said(own, values):
        found = {own.name: values, f"{own.name}/null": [0.0] * 3, f"{own.name}/planted": [9.0] * 3}
        (study,) = results_of((design(claims=[own]), found))
        return words.verdict_text(study, study.claims[0], 1)

    assert said(claim(), [1.0, math.nan, 2.0]) == "Undecided: 1 of 3 values are no numbers."
    assert said(claim(), []) == "Undecided: nothing was measured."
    assert "an effect is told, and whether it is as large" in said(claim(), normal(0.45, 0.3))
    assert "more than 1,024 seeds" in said(claim(effect=0.01), normal(0.0, 0.6))
    exact = claim(kind="exact")
    assert "came to no number" in said(exact, [math.nan])
    assert said(exact, []) == "Undecided: nothing was measured."


def test_whatever_names_and_texts_are_the_page_is_whole():
    names = ("name", "words", "statement", "unit", "published", "null", "planted")
    own = claim(**dict.fromkeys(names, EVIL), matched=(EVIL,))
    texts = ("title", "source", "published", "small", "confounds", "cannot_say")
    study = design(
        EVIL, [own, replace(own, name="!")], **dict.fromkeys(texts, EVIL),
        minutes={EVIL: [EVIL]}, recipes=(EVIL,),
    )  # fmt: skip
    curve = Curve(EVIL, EVIL, EVIL, {EVIL: [(0.0, 1.0), (1.0, math.inf), (2.0, -1.0)]})
    found = values_of(own, 1.0) | values_of(study.claims[1], math.nan)
    html = page_of(results_of((study, found, [curve], [EVIL])), 2)
    parsed = Page(html)
    assert "no number; no number" in html
    assert html.count("<script") == 1
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))


# --- figures --------------------------------------------------------------------------------------


def figure_of(own, found):
    (study,) = results_of((design(claims=[own]), found))
    return forest(study.claims[0], found, "x")


def test_a_forest_has_a_dot_a_seed_and_a_row_a_control():
    own = claim(matched=("equal K",))
    svg = figure_of(own, values_of(own, 1.0, planted=2.0))
    assert len(re.findall(r'<circle [^>]*class="seed claim"', svg)) == 12
    assert len(re.findall(r'<circle [^>]*class="seed control"', svg)) == 36
    assert svg.count('class="mean') == 4
    for row in ("the claim", "at equal K", "null, which must not hold", "planted, which must be"):
        assert f">{row}" in svg
    numbers = map(float, re.findall(r'\bc?[xy]="([^"]*)"', svg))
    assert all(0.0 <= v <= 440.0 for v in numbers)


def test_a_planted_effect_far_away_is_an_arrow_and_takes_no_room():
    own = claim()
    svg = figure_of(own, values_of(own, 1.0, planted=500.0))
    assert "far beyond the axis" in svg
    assert "500" not in "".join(re.findall(r'text-anchor="middle">([^<]*)<', svg))


def test_a_forest_of_an_exact_claim_is_logarithmic_and_thinned():
    own = claim(kind="exact", effect=1e-12)
    values = [0.0] * 5 + [1e-15 * k for k in range(1000)]
    svg = figure_of(own, {"gain": values, "gain/null": [1.0]})
    assert 100 < svg.count('class="seed claim"') <= 160
    assert ", log scale" in svg
    assert figure_of(claim(kind="exact", effect=0.0), {"gain": [0.0], "gain/null": [1.0]}) == ""


def test_curves_leave_out_what_has_no_place_and_mark_few_points():
    few = Curve("t", "x", "y", {"a": [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan)]}, log_x=True)
    svg = drawn_curve(few, "x")
    assert svg.count("<circle") == 2  # one point, and one in the legend
    banded = {"a": [(k, k, k - 1, k + 1) for k in range(1, 40)], "b": [(k, 3) for k in (1, 2)]}
    svg = drawn_curve(Curve("t", "x", "y", banded, log_y=True), "x")
    assert svg.count("opacity") == 1
    assert "NaN" not in svg
    assert "nan" not in svg
    assert drawn_curve(Curve("t", "x", "y", {"a": [(1.0, -1.0)]}, log_y=True), "x") == ""
