"""What the commands share: where they print, and tables that fit."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ..checks import finite

__all__ = ["Mistake", "console", "errors", "print_json", "say", "show"]

console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

_GAP = 2  # between columns
_NARROWEST = 16  # of a column that is wrapped


class Mistake(ValueError):
    """Something the user can mend, said in the command line's language."""


def print_json(data: Any) -> None:
    """Print data as JSON; an infinite number, for which JSON has no word, is null."""
    typer.echo(json.dumps(finite(data), indent=2, allow_nan=False))


def say(text: str = "", style: str = "", *, wrap: bool = True, first: int | None = None) -> None:
    """Print text, its brackets no markup; wrapped to the terminal, or as it is, to be copied.

    The style is that of the whole, or of so many characters at first.
    """
    lines = text.split("\n")
    if wrap:
        lines = [part for line in lines for part in _wrapped(line, console.width)]
    shown = Text("\n".join(lines))
    shown.stylize(style, 0, first)
    console.print(shown, soft_wrap=True, highlight=False)


def show(
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    head: bool = True,
    prose: Collection[int] = (),
) -> None:
    """Print a table that fits the terminal, whatever its width: nothing is cut off.

    As it is; else with the prose wrapped; else on its side; else row by row.

    Args:
        rows: the first cell of a row says what it is about.
        title: printed above.
        head: whether the first row is one.
        prose: columns whose text may be wrapped between words.
    """
    if title:
        say(title, "bold")
    turned = list(zip(*rows, strict=True))
    width = console.width
    if _width_of(rows) <= width:
        _table(rows, head)
    elif (narrow := _narrowed(rows, prose, width)) is not None:
        _table(narrow, head)
    elif head and _width_of(turned) <= width:
        _table(turned, head)
    else:
        _row_by_row(rows, head, width)


def _width_of(rows: Sequence[Sequence[str]]) -> int:
    widest = [max(map(_cell_width, column)) for column in zip(*rows, strict=True)]
    return sum(widest) + _GAP * (len(widest) - 1)


def _cell_width(cell: str) -> int:
    return max(map(cell_len, cell.split("\n")))


def _narrowed(
    rows: Sequence[Sequence[str]], prose: Collection[int], width: int
) -> list[list[str]] | None:
    """The rows with their prose wrapped to what room there is; None where there is too little."""
    columns = list(zip(*rows, strict=True))
    words = {
        i: max(cell_len(w) for cell in columns[i] for w in cell.split() or [""]) for i in prose
    }
    fixed = sum(max(map(cell_len, c)) for i, c in enumerate(columns) if i not in prose)
    room = width - fixed - _GAP * (len(columns) - 1)
    if not prose or room // len(prose) < max(_NARROWEST, *words):
        return None
    return [
        [
            "\n".join(_wrapped(cell, room // len(prose))) if i in prose else cell
            for i, cell in enumerate(row)
        ]
        for row in rows
    ]


def _table(rows: Sequence[Sequence[str]], head: bool) -> None:
    widths = [max(map(_cell_width, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        parts = [cell.split("\n") for cell in row]
        for line in range(max(map(len, parts))):
            cells = [part[line] if line < len(part) else "" for part in parts]
            padded = [c + " " * (w - cell_len(c)) for c, w in zip(cells, widths, strict=True)]
            text = (" " * _GAP).join(padded).rstrip()
            say(text, "bold" if head and number == 0 else "", wrap=False)
        if head and number == 0:
            say("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * _width_of(rows), "dim", wrap=False)


def _row_by_row(rows: Sequence[Sequence[str]], head: bool, width: int) -> None:
    names = rows[0] if head else [""] * len(rows[0])
    for row in rows[head:]:
        say(row[0], "bold")
        line = ""
        for name, cell in zip(names[1:], row[1:], strict=True):
            part = f"{name}: {cell}" if name else cell
            if line and cell_len(f"  {line}   {part}") > width:
                say(f"  {line}")
                line = ""
            line = f"{line}   {part}" if line and cell else part if cell else line
        say(f"  {line}")


def _wrapped(line: str, width: int) -> list[str]:
    """A line of text in as many as it takes, those after the first under its text."""
    label = re.match(r" *(?:\S+(?: \S+)* {2,})?", line)
    indent = len(label[0]) if label else 0
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * (indent if indent < width // 2 else 0),
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    ) or [""]
