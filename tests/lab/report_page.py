"""A report's page, parsed, for the tests that look at it."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


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
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text.append(data)
        assert "nan" not in re.findall(r"[a-z]+", data.lower()), data


def tables(html):
    """Rows of texts of each table, by its caption."""
    out = {}
    for table in re.findall(r"<table.*?</table>", html, re.S):
        caption = unescape(re.search(r"<caption>(.*?)</caption>", table, re.S)[1])
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
        out[caption] = [
            [unescape(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
            for row in rows
        ]
    return out


def cells(svg):
    """Fill and figures of each cell of a map."""
    group = svg[svg.index('<g class="cells"') :].split("</g>")[0]
    found = re.findall(
        r'<(?:rect|circle) [^>]*fill="([^"]*)"[^>]*>(?:<title>(.*?)</title>)?', group
    )
    return [(fill, unescape(title)) for fill, title in found]


def maps(html):
    """The maps of a page as SVG, by id."""
    found = re.findall(r'<svg [^>]*class="figure map".*?</svg>', html, re.S)
    return {re.search(r'id="(map-[^"]*)-title"', svg)[1]: svg for svg in found}
