"""``halflife probe``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .terminal import console, escaped, explained, print_json

if TYPE_CHECKING:
    from ..diagnostics.probing import Probe

__all__ = ["probe"]


def probe(
    names: Annotated[
        list[str],
        typer.Argument(help="Optimizer classes, as package.Class; without a package, torch's."),
    ],
    arg: Annotated[
        list[str] | None,
        typer.Option(help="An argument of the constructor, as name=value; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the measurements.")] = False,
) -> None:
    """Find out by experiment what weight_decay does in any optimizer.

    [b]Examples[/b]

        halflife probe torch.optim.AdamW

        halflife probe SGD Adam AdamW Adafactor

        halflife probe lion_pytorch.Lion --arg decoupled_weight_decay=True --json
    """
    from ..diagnostics.probing import parse
    from ..diagnostics.probing import probe as run

    with explained():
        others = parse(arg or [])
        found = [run(name, **others) for name in names]
    if as_json:
        print_json([p.as_dict() for p in found])
    elif len(found) == 1:
        console.print(escaped(found[0].explain()), soft_wrap=True, highlight=False)
    else:
        console.print(_table(found))


def _table(found: list[Probe]) -> Table:
    from ..diagnostics.probing import COLUMNS

    table = Table(title="What weight_decay does")
    for column in ("optimizer", *COLUMNS):
        table.add_column(column, overflow="fold")  # a name cut short could be anything
    for p in found:
        table.add_row(escaped(p.name), *(escaped(cell) for cell in p.cells()))
    return table
