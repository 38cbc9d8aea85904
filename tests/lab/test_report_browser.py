"""The report in a browser: large ones open at once, and keys and pointer show a cell's figures."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from browser import CHROMIUM, Browser, asked_and_complained, sticking_out
from synthetic import grid, landscape, meta

from halflife.lab.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
]
RULES = tuple(f"rule {i}" for i in range(8))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_keys_and_pointer_show_the_figures_of_a_cell(browser, tmp_path):
    plan = meta(RULES[:2], lrs=[0.001, 0.01, 0.1], strengths=[1e-3, 1e-2, 1e-1])
    records = landscape(plan, slopes=dict.fromkeys(RULES[:2], 0.0), bottom=1e-2)
    browser.open(write_report(records, plan, tmp_path))
    said = "document.querySelector('output').textContent"
    assert "arrow keys" in browser.js(said)
    assert browser.js("document.querySelectorAll('[tabindex=\"0\"].best').length") == 2  # one a map
    browser.js("document.querySelector('svg.map [tabindex=\"0\"]').focus()")
    home = browser.js(said)
    assert home.startswith("lr 1e-2, ")  # the best setting, in the middle
    for key, starts in (
        ("ArrowUp", "lr 1e-1, "),
        ("ArrowUp", "lr 1e-1, "),  # there is nothing above
        ("ArrowDown", "lr 1e-2, "),
        ("ArrowDown", "lr 1e-3, "),
    ):
        browser.press(key)
        assert browser.js(said).startswith(starts)
    browser.press("ArrowUp")
    assert browser.js(said) == home
    browser.press("Home")
    assert browser.js(said).startswith("lr 1e-2, no decay: ")
    browser.press("End")
    decay = plan.coefficients[RULES[0]][-1]
    assert browser.js(said).startswith(
        f"lr 1e-2, weight_decay {decay:.2g}: ".replace("0.001", "1e-3")
    )
    focused = "document.activeElement.querySelector('title').textContent"
    assert browser.js(focused) == browser.js(said)
    assert browser.js("document.querySelectorAll('svg.map [tabindex=\"0\"]').length") == 2
    browser.press("Tab")  # leaves the map at once, for the next one
    assert browser.js(
        "document.activeElement.closest('svg') === document.querySelectorAll('svg.map')[1]"
    )
    box = browser.js(
        "(() => { const cell = document.querySelector('svg.map .cells > *');"
        "const b = cell.getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2] })()"
    )
    browser("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    first = "document.querySelector('.cells > * > title').textContent"
    assert browser.js(said) == browser.js(first)


def test_ten_thousand_settings_open_without_pause(browser, tmp_path):
    """8 rules x 33 x 40, with no decay: 10,560 settings and 33, three seeds each."""
    plan = meta(RULES, lrs=grid(1e-4, 1e-1, 33), strengths=grid(3e-6, 3e-1, 40))
    records = landscape(plan, slopes=dict.fromkeys(RULES, 0.0), noise=0.2)
    page = write_report(records, plan, tmp_path)
    assert page.stat().st_size < 4e6
    taken = min(browser.open(page) for _ in range(3))
    assert browser.js("document.querySelectorAll('.cells > *').length") == 8 * 33 * 41
    assert taken < 2.5  # 0.6 s on one core
    browser.js("document.querySelector('svg.map [tabindex=\"0\"]').focus()")
    start = time.perf_counter()
    for _ in range(10):
        browser.press("ArrowUp")
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_or_is_fetched_whatever_the_names(browser, tmp_path, width):
    evil = '<script>document.title="run"</script>&"' + "W" * 160
    rules = (evil + "1", evil + "2")
    plan = meta(rules, confirm_seeds=[10000, 10001], default_decay=0.01)
    plan = replace(plan, name=evil, description=evil, command=evil, versions={evil: evil})
    plan = replace(
        plan, report={"name": evil, "unit": evil}, curve_unit=evil, params={evil: [evil]}
    )
    records = [
        dict(
            r,
            params={evil: evil},
            metrics={evil: r["metrics"]["test_error"]},
            curve={"step": [1, 2], evil: [2.0, 1.0]},
        )
        | ({"status": "failed", "error": evil} if r["lr"] == plan.lrs[0] else {})
        for r in landscape(plan, slopes=dict.fromkeys(rules, 0.0), noise=0.2)
    ]
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser("Emulation.setDeviceMetricsOverride", **size)
    browser.open(write_report(records, plan, tmp_path))
    assert browser.js("document.title").startswith("Weight decay")
    assert sticking_out(browser, width) == []
    asked, complaints = asked_and_complained(browser)
    assert len(asked) == 1  # the page itself
    assert complaints == []
    blocked = browser.js(  # what a hostile name could do if it were not escaped
        "(() => { const s = document.createElement('script'); s.textContent = 'document.title = 1';"
        "document.body.append(s); return document.title })()"
    )
    assert blocked != "1"
