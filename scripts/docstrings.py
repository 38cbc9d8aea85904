"""Griffe extension: read the docstrings of this project the way its authors write them.

"Example:" opens a section like Google's "Examples:" (otherwise its doctests are taken for prose),
and cross-reference roles such as :class:`Decoupled` are shown as code.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
            obj.docstring.value = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", text)
