"""The page of studies in a browser: it narrows down, fits a telephone, and asks for nothing."""

from __future__ import annotations

import pytest
from browser import CHROMIUM, Browser, asked_and_complained, sticking_out
from studies_made import a_page_of_results, claim, design, results_of, values_of

from halflife.lab.studies.page import page_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
]
LONG = "W" * 160


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page_of(a_page_of_results(), 7), "utf-8")
    return path


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_nothing_sticks_out_or_is_fetched(browser, page, width, mode):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser("Emulation.setDeviceMetricsOverride", **size)
    scheme = [{"name": "prefers-color-scheme", "value": mode}]
    browser("Emulation.setEmulatedMedia", features=scheme)
    browser.open(page)
    assert sticking_out(browser, width) == []
    assert asked_and_complained(browser) == ([page.as_uri()], [])
    ground = browser.js("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[mode]


@pytest.mark.parametrize("width", [390, 1280])
def test_long_words_break(browser, tmp_path, width):
    own = claim(words=LONG, statement=LONG, unit=LONG, published=LONG, null=LONG, planted=LONG)
    texts = dict.fromkeys(("title", "source", "published", "small", "confounds"), LONG)
    study = design("000/" + LONG, [own], minutes={LONG: LONG}, **texts)
    path = tmp_path / "page.html"
    path.write_text(page_of(results_of((study, values_of(own, 1.0), (), [LONG])), 1), "utf-8")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser("Emulation.setDeviceMetricsOverride", **size)
    browser.open(path)
    browser.js("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert sticking_out(browser, width) == []


def test_the_table_is_narrowed_down_by_paper_and_verdict(browser, page):
    browser.open(page)

    def shown(paper, verdict):
        browser.js(
            f"for (const [id, value] of [['by-paper', '{paper}'], ['by-verdict', '{verdict}']]) {{"
            "const own = document.getElementById(id); own.value = value;"
            "own.dispatchEvent(new Event('change')) }"
        )
        rows = "[...document.querySelectorAll('.verdicts [data-verdict]')]"
        seen = browser.js(f"{rows}.filter(row => row.getClientRects().length).length")
        heads = "[...document.querySelectorAll('.verdicts .paper')]"
        papers = browser.js(f"{heads}.filter(row => row.getClientRects().length).length")
        return seen, papers, browser.js("document.querySelector('.filter output').textContent")

    assert shown("", "") == (10, 3, "10 claims")
    assert shown("003", "") == (2, 1, "2 of 10 claims")
    assert shown("", "contradicts") == (2, 2, "2 of 10 claims")
    assert shown("004", "contradicts") == (0, 0, "0 of 10 claims")
    assert shown("", "") == (10, 3, "10 claims")


def test_a_chip_leads_to_its_claim_by_keyboard(browser, page):
    browser.open(page)
    browser.js("document.querySelector('a.chip').focus()")
    assert browser.js("document.activeElement.getAttribute('aria-label')").endswith("Replicates.")
    browser.js("document.activeElement.click()")
    assert browser.js("location.hash") == "#study-000-figure-1-holds"
    top = browser.js("document.getElementById(location.hash.slice(1)).getBoundingClientRect().top")
    assert 0 <= top < 200
