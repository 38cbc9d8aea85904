"""MkDocs hook: a long name or call may be broken after a dot, so that it need not be in a word.

A short one stays whole.
"""

from __future__ import annotations

import re
from typing import Any

_BLOCKS = re.compile(r"(<pre\b.*?</pre>)", re.DOTALL)  # code blocks keep their lines, and scroll
_TEXT = re.compile(r"(?<=>)[^<>]+(?=<)")
_WHOLE = re.compile(r"<code>(?=[^<\s]{1,24}</code>)")
_LONG = re.compile(r"[^\s<>]{25,}")  # what may be wider than a telephone


def on_page_content(html: str, **_: Any) -> str:
    """The page with places for a break after the dots of what is long, none in what is short."""
    parts = _BLOCKS.split(html)
    parts[::2] = [
        _WHOLE.sub('<code class="whole">', _TEXT.sub(_broken, part)) for part in parts[::2]
    ]
    return "".join(parts)


def _broken(text: re.Match[str]) -> str:
    return _LONG.sub(_breakable, text[0])


def _breakable(name: re.Match[str]) -> str:
    return re.sub(r"([.(\[=,/])(?=\w)", r"\1<wbr>", name[0])
