"""What the commands share: where they print, how they show progress and explain errors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..checks import finite

__all__ = ["console", "errors", "escaped", "explained", "print_json", "progress"]

console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)


def print_json(data: Any) -> None:
    """Print data as JSON; an infinite number, for which JSON has no word, is null."""
    typer.echo(json.dumps(finite(data), indent=2, allow_nan=False))


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say in one line what was wrong with the input; a traceback would not help there."""
    from ..lab.ledger import LedgerError

    try:
        yield
    except (ValueError, LedgerError) as error:
        errors.print(f"[red]Error:[/red] {escaped(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from error


@contextlib.contextmanager
def progress() -> Iterator[Any]:
    """A live bar with the time left; yields ``show(done, total, what)``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as display:
        bar = display.add_task("starting", total=None)

        def show(done: int, total: int, what: str) -> None:
            if done == 0:
                display.reset(bar, total=total or None, description=what)
            else:
                display.update(bar, completed=done, total=total)

        yield show


def escaped(text: str) -> str:
    """The text, its brackets no markup."""
    return text.replace("[", "\\[")
