"""``halflife probe``."""

from __future__ import annotations

from typing import Annotated

import typer

from .mistakes import in_flags
from .terminal import print_json, say, show

__all__ = ["probe"]


def probe(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAMES...",
            help="Optimizer classes, as package.Class; without a package, torch's.",
        ),
    ],
    arg: Annotated[
        list[str] | None,
        typer.Option(help="An argument of the constructor, as name=value; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find out by experiment what weight_decay does in any optimizer.

    [b]Examples[/b]

        halflife probe torch.optim.AdamW

        halflife probe SGD Adam AdamW Adafactor

        halflife probe SGD --arg momentum=0.9 --arg nesterov=True --json
    """  # noqa: DOC501 - this text is the command's help
    from ..diagnostics.probing import COLUMNS, parse
    from ..diagnostics.probing import probe as run

    others = parse(arg or [])
    try:
        found = [run(name, **others) for name in names]
    except ValueError as error:
        raise ValueError(in_flags(str(error), {n: f"--arg {n}={{}}" for n in others})) from error
    if as_json:
        print_json([p.as_dict() for p in found])
    elif len(found) == 1:
        say(found[0].explain())
    else:
        rows = [("optimizer", *COLUMNS), *((p.name, *p.cells()) for p in found)]
        show(rows, title="What weight_decay does")
        say()
        for p in found:
            say(p.sentence)
