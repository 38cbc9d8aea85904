"""The built pages in a browser: nothing is too wide or broken, and search works from disk."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
CHECK = runpy.run_path(str(ROOT / "scripts" / "site_check.py"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    path = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    return path


def test_pages_fetch_nothing(site: Path) -> None:
    tags = r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?(https?://[^\s\">]+)"
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    assert [(p.name, url) for p in pages for url in re.findall(tags, p.read_text("utf-8"))] == []


def test_what_a_page_includes_is_in_it(site: Path) -> None:
    """A formatter takes the marks of an include within a block of Python for an expression."""
    text = {p: " ".join(p.read_text("utf-8").split()) for p in site.rglob("*.html")}
    assert [p.name for p, words in text.items() if re.search(r"-{2}\s*8", words)] == []
    assert "What weight decay does to your own training loop" in text[site / "lab.html"]


@needs_chromium
def test_pages_fit_and_search_works_from_disk(site: Path, tmp_path: Path) -> None:
    assert CHECK["layout"](CHROMIUM, site, str(tmp_path)) == []
    assert CHECK["searches"](CHROMIUM, site, str(tmp_path)) == []


@needs_chromium
def test_what_does_not_fit_is_found(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "api").mkdir(parents=True)
    wide = '<p style="width:700px">wide</p>'
    narrow = '<p style="width:3em;word-break:break-all">some_long_name</p>'
    scrolling = f'<div style="overflow-x:auto">{wide}</div>'
    code = '<pre style="font:12px/15px monospace"><code>{}</code></pre>'
    bodies = {
        "wide": wide,
        "narrow": narrow,
        "scrolling": scrolling,
        "code": code.format("one\ntwo\n"),
        "wrapped": code.format("one<br>\ntwo<br>\n"),
    }
    for name, body in bodies.items():
        page = f'<body style="margin:0"><div class="md-main"><article>{body}</article></div></body>'
        (site / f"{name}.html").write_text(page, "utf-8")
    for name in CHECK["SEARCHES"]:
        # As in the theme's configuration, which stands in every page.
        said = '{"search.result.one": "1 matching document"}'
        page = f'<div class="md-main"></div><script type="application/json">{said}</script>'
        (site / name).write_text(page, "utf-8")
    profile = str(tmp_path / "profile")
    assert sorted(CHECK["layout"](CHROMIUM, site, profile)) == [
        "narrow.html: 1280: broken: some_long_name",
        "narrow.html: 390: broken: some_long_name",
        "wide.html: 390: scrolls sideways: 700",
        "wide.html: 390: sticks out: wide",
        "wrapped.html: 1280: wrapped: one\ntwo\n",
        "wrapped.html: 390: wrapped: one\ntwo\n",
    ]
    assert len(CHECK["searches"](CHROMIUM, site, profile)) == 2
