"""What a sweep shows while it runs: a bar with the time left, and sentences above it."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Bar", "Display"]


class Display:
    """What a sweep calls as it goes on; this one shows nothing.

    Example:
        >>> with Display() as display:
        ...     display.progress(0, 10, "training")
    """

    def __enter__(self) -> Display:
        """Use as ``with display``."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Be done."""

    def progress(self, done: float, total: int, what: str) -> None:
        """So many of so many are done."""

    def say(self, text: str) -> None:
        """Say a sentence."""


class Bar(Display):
    """A live bar on standard error."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._console = Console(file=sys.stderr, emoji=False)
        self._progress = Progress(*columns, console=self._console)
        self._what = ""
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Bar:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Leave it as it is."""
        self._progress.stop()

    def progress(self, done: float, total: int, what: str) -> None:
        """So many of so many are done."""
        if what != self._what:
            # Another task, as rich keeps the total of one whose total is not known any more.
            self._what = what
            self._progress.remove_task(self._task)
            self._task = self._progress.add_task(what, total=total or None)
        self._progress.update(self._task, completed=done, total=total or None)

    def say(self, text: str) -> None:
        """Say a sentence above the bar."""
        self._console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
