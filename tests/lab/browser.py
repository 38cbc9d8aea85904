"""Chromium, for the tests that look at a page as its readers do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")


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


def sticking_out(browser, width):
    """What is wider than the page, or than the figure that it stands in."""
    found = [browser.js("document.documentElement.scrollWidth")]
    found = [f"the page: {found[0]}"] if found[0] > width else []
    return found + browser.js(
        "[...document.querySelectorAll('svg text')].filter(t => {"
        "const b = t.getBoundingClientRect();"
        "const s = t.closest('svg').getBoundingClientRect();"
        "return b.right > s.right + 1 || b.left < s.left - 1 })"
        ".map(t => t.textContent.slice(0, 40))"
    )


def asked_and_complained(browser):
    """Addresses that were asked for, and what the console says."""
    asked = [e for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    complaints = [
        e
        for e in browser.events
        if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")
    ]
    return [e["params"]["request"]["url"] for e in asked], complaints
