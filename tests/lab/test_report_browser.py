"""The report in a browser: large ones open at once, and keys and pointer show a cell's figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import replace

import pytest
from synthetic import grid, landscape, meta

from halflife.lab.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
]
RULES = tuple(f"rule {i}" for i in range(8))


class Browser:
    """One tab of Chromium, spoken to over a pipe in its DevTools protocol."""

    def __init__(self, folder):
        (out, self._write), (self._read, into) = os.pipe(), os.pipe()

        def places():
            spare = os.dup(into)  # 3 may be `into` itself
            os.dup2(out, 3)
            os.dup2(spare, 4)

        command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "--remote-debugging-pipe"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, preexec_fn=places, close_fds=False, stdout=quiet, stderr=quiet
        )
        os.close(out)
        os.close(into)
        self._number, self._rest, self._session, self.events = 0, b"", None, []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            piece = os.read(self._read, 1 << 16)
            assert piece, "Chromium has ended"
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def js(self, expression):
        result = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, path):
        """Load a page; returns the seconds until it is loaded, laid out and its script has run."""
        start = time.perf_counter()
        self.events.clear()
        self("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())
        self.js("document.documentElement.getBoundingClientRect().height")
        return time.perf_counter() - start

    def press(self, key):
        for kind in ("rawKeyDown", "keyUp"):
            code = {"Tab": 9, "End": 35, "Home": 36}.get(key, 0)
            self("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def close(self):
        self._session = None
        self("Browser.close")
        self._process.wait(30)
        os.close(self._write)
        os.close(self._read)


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
    assert browser.js("document.documentElement.scrollWidth") <= width
    wide = browser.js(
        "[...document.querySelectorAll('svg text')].filter(t => {"
        "const b = t.getBoundingClientRect();"
        "const s = t.closest('svg').getBoundingClientRect();"
        "return b.right > s.right + 1 || b.left < s.left - 1 })"
        ".map(t => t.textContent.slice(0, 40))"
    )
    assert wide == []
    asked = [e for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert len(asked) == 1  # the page itself
    complaints = [
        e
        for e in browser.events
        if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")
    ]
    assert complaints == []
    blocked = browser.js(  # what a hostile name could do if it were not escaped
        "(() => { const s = document.createElement('script'); s.textContent = 'document.title = 1';"
        "document.body.append(s); return document.title })()"
    )
    assert blocked != "1"
