"""MkDocs hook: a long dotted name may be broken after its dots, so that it need not be inside a word."""

from __future__ import annotations

import re
from typing import Any

_TEXT = re.compile(r"(?<=>)[^<>]+(?=<)")
_LONG = re.compile(r"[A-Za-z_][\w.]{24,}")  # what may be wider than a telephone


def on_page_content(html: str, **_: Any) -> str:
    """The page with a place for a break after each dot of a long name, outside of tags."""
    return _TEXT.sub(lambda text: _LONG.sub(_breakable, text[0]), html)


def _breakable(name: re.Match[str]) -> str:
    return re.sub(r"\.(?=\w)", ".<wbr>", name[0])
