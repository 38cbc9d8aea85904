"""Look at every page of the built documentation in Chromium: what is too wide, what is broken.

    python scripts/site_check.py [site] [--chromium PATH]

Opens each page 1280 and 390 pixels wide and lists pages that scroll sideways, boxes that stick out,
code blocks whose lines are wrapped, and names (`halflife.AdamW`, `weight_decay`) that a line end
breaks inside; then opens pages as files, as from disk, and searches. Exit status 1 if there is
anything to list.
"""

from __future__ import annotations

import argparse
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = (1280, 390)
SEARCHES = {"index.html": "cautious", "api/rules.html": "half-life"}
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")

# Every page in a frame of the given width, one after the other; what is found becomes the text.
HARNESS = """<!doctype html><pre id="found"></pre><script>
const pages = PAGES, widths = WIDTHS, found = []
const pause = ms => new Promise(resolve => setTimeout(resolve, ms))
const visible = element => element.checkVisibility({ visibilityProperty: true })
const scrolls = element => {
  for (; element; element = element.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(element).overflowX)) return true
}
function look(page, width, inside) {
  const document = inside.document, root = document.documentElement
  if (root.scrollWidth > width) found.push([page, width, "scrolls sideways", root.scrollWidth])
  for (const element of document.querySelectorAll("article *")) {
    if (!visible(element) || scrolls(element.parentElement)) continue
    const right = element.getBoundingClientRect().right
    if (right > width + 1) found.push([page, width, "sticks out", element.textContent.slice(0, 60)])
  }
  for (const code of document.querySelectorAll("article pre > code")) {
    const lines = code.textContent.trimEnd().split("\\n").length
    const tall = parseFloat(getComputedStyle(code).lineHeight) * (lines + 0.75)
    const range = document.createRange()
    range.selectNodeContents(code)
    if (visible(code) && range.getBoundingClientRect().height > tall)
      found.push([page, width, "wrapped", code.textContent.slice(0, 60)])
  }
  const walker = document.createTreeWalker(document.querySelector(".md-main"), NodeFilter.SHOW_TEXT)
  for (let node; (node = walker.nextNode()); ) {
    if (!visible(node.parentElement) || !/\\S/.test(node.data)) continue
    for (const word of node.data.matchAll(/[A-Za-z_]\\w+/g)) {
      const range = document.createRange()
      range.setStart(node, word.index)
      range.setEnd(node, word.index + word[0].length)
      const boxes = [...range.getClientRects()].filter(box => box.width > 0)
      const lines = new Set(boxes.map(box => Math.round(box.top / 4)))
      if (lines.size > 1) found.push([page, width, "broken", word[0]])
    }
  }
}
(async () => {
  const frame = document.createElement("iframe")
  document.body.append(frame)
  for (const page of pages) {
    frame.style = `width:${widths[0]}px;height:900px;border:0`
    await new Promise(resolve => { frame.onload = resolve; frame.src = page })
    await frame.contentDocument.fonts.ready
    for (const width of widths) { // a page loads once and is then made narrower
      frame.style.width = `${width}px`
      await pause(30)
      look(page, width, frame.contentWindow)
    }
  }
  document.getElementById("found").textContent = JSON.stringify(found)
  document.title = "done"
})()
</script>"""


def dom(chromium: str, address: str, profile: str, budget: int) -> str:
    """The page as it is when its scripts have run."""
    options = (*FLAGS, f"--user-data-dir={profile}", f"--virtual-time-budget={budget}")
    command = [chromium, *options, "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def layout(chromium: str, site: Path, profile: str) -> list[str]:
    """What is too wide or broken, over all pages."""
    every = (path.relative_to(site) for path in site.rglob("*.html"))
    # The page of studies is no page of the theme, and has tests of its own.
    pages = sorted(str(path) for path in every if path.parts[0] != "assets")
    text = HARNESS.replace("PAGES", json.dumps(pages)).replace("WIDTHS", json.dumps(WIDTHS))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/harness":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = dom(chromium, f"http://127.0.0.1:{server.server_port}/harness", profile, 120_000)
        server.shutdown()
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', page, flags=re.S)
    if not found:
        return [f"the {len(pages)} pages were not finished in time"]
    rows = [tuple(map(str, row)) for row in json.loads(html.unescape(found))]
    return [": ".join(row) for row in dict.fromkeys(rows)]


def searches(chromium: str, site: Path, profile: str) -> list[str]:
    """Pages that find nothing when they are opened from disk."""
    failures = []
    for page, words in SEARCHES.items():
        text = dom(chromium, f"{(site / page).as_uri()}?q={words}", profile, 10_000)
        number = re.search(r">(\d+) matching documents?<", text)
        if number is None or int(number[1]) == 0:
            failures.append(f"{page}: search from disk for {words!r} finds nothing")
    return failures


def main() -> int:
    """Print what is wrong; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("site", nargs="?", type=Path, default=ROOT / "site")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    given = parser.parse_args()
    if given.chromium is None:
        sys.exit("no chromium on the PATH: name one with --chromium")
    with tempfile.TemporaryDirectory() as profile:
        site = given.site.resolve()
        found = layout(given.chromium, site, profile) + searches(given.chromium, site, profile)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
