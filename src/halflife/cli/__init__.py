"""The command line: ``halflife``, or ``python -m halflife``.

Commands only read options, show progress and explain errors; what they do is in the library, and
for landscapes in `halflife.lab`, imported when a command runs, so that ``--help`` is quick.

    0    done; an audit without errors
    1    an audit that found errors, or with --strict warnings
    2    it could not be done: an option, a name, your own code, a package that is missing
    130  interrupted
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["main"]


class MissingExtraError(ImportError):
    """The command line is installed without what it needs."""


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: always, with the exit code.
    """
    try:
        app = _app()
    except MissingExtraError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    app(prog_name="halflife")


def _app() -> Any:
    try:
        from .commands import app
    except ModuleNotFoundError as error:
        package = (error.name or "halflife").partition(".")[0]
        if package == "halflife":
            raise
        raise MissingExtraError(
            f"halflife: the command line needs {package}, which is not installed: "
            'pip install "torch-halflife[cli]"'
        ) from None
    return app


def __getattr__(name: str) -> Any:
    """``app``, the typer application, made when it is asked for: it needs the extra."""
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
