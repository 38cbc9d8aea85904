"""A page as a file of its own: its template, what it may do, and how it takes its place."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from . import svg

__all__ = ["part_of", "policy_of", "replaced_file", "template_of"]

_LONG = 24  # characters of a table's cell, from which on its whole text is a tooltip


def part_of(package: str, name: str) -> str:
    """The text of a file beside a package's modules."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def template_of(package: str, name: str) -> jinja2.Template:
    """A template that escapes all that is not markup, and knows ``titled`` and ``brief``."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe,
    )
    environment.globals.update(titled=_titled, brief=svg.brief)
    return environment.from_string(part_of(package, name))


def policy_of(script: str) -> str:
    """What a page may do: no network, its own style, and this script alone.

    Example:
        >>> policy_of("")[:18]
        "default-src 'none'"
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def replaced_file(path: Path, content: str) -> Path:
    """The path, at which the content stands now: readers see the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _safe(value: Any) -> Any:
    """A value as the page may hold it; what is markup has been cleaned before."""
    return svg.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _titled(content: str) -> Markup:
    """A tooltip for what may be cut for its length."""
    return Markup(' title="{}"').format(svg.clean(content)) if len(content) > _LONG else Markup("")
