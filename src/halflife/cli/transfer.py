"""``halflife transfer``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from .terminal import console, escaped, explained, print_json

__all__ = ["transfer"]

Pair = tuple[float, float] | None


def transfer(
    weight_decay: Annotated[float, typer.Argument(help="The old number.")],
    lr: Annotated[float, typer.Option(help="Old peak learning rate.")],
    new_lr: Annotated[
        float | None, typer.Option(help="New one. Default: as each rule prescribes.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Convention of the number; see halflife convert.")
    ] = "torch",
    batch: Annotated[Pair, typer.Option(help="Samples or tokens per step, old and new.")] = None,
    data: Annotated[Pair, typer.Option(help="Size of the data set, old and new.")] = None,
    epochs: Annotated[Pair, typer.Option(help="Passes over it, old and new.")] = None,
    steps: Annotated[Pair, typer.Option(help="Length of the run, old and new.")] = None,
    parameters: Annotated[Pair, typer.Option(help="Size of the model, old and new.")] = None,
    width: Annotated[Pair, typer.Option(help="Width of its layers, old and new.")] = None,
    optimizer: Annotated[
        tuple[str, str] | None, typer.Option(help="adam, lion or sgd, old and new.")
    ] = None,
    lr_scaling: Annotated[
        str | None, typer.Option(help="none, sqrt or linear in the batch, mup in the width.")
    ] = None,
    momentum: Annotated[float | None, typer.Option(help="beta1, or SGD's. Default: 0.9.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what published rules make of a weight_decay when the recipe changes.

    [b]Examples[/b]

        halflife transfer 0.1 --lr 3e-4 --batch 256 1024

        halflife transfer 0.1 --lr 3e-4 --width 512 2048

        halflife transfer 0.1 --lr 3e-4 --new-lr 6e-5 --optimizer adam lion
    """
    with explained():
        from ..units.transfer import transfer as answers_of

        answers = answers_of(
            weight_decay,
            lr=lr if new_lr is None else (lr, new_lr),
            rule=rule,
            batch=batch,
            data=data,
            epochs=epochs,
            steps=steps,
            parameters=parameters,
            width=width,
            optimizer=optimizer,
            lr_scaling=lr_scaling,
            momentum=momentum,
        )
    if as_json:
        print_json([answer.as_dict() for answer in answers])
        return
    table = Table(title=f"weight_decay {weight_decay:g} ({escaped(rule)}) at lr {lr:g}, moved")
    for column in ("rule", "weight_decay", "lr", "timescale"):
        table.add_column(column, no_wrap=column != "rule")
    for number, it in enumerate(answers, 1):
        table.add_row(
            f"{it.name} [{number}]".replace("[", "\\["),
            f"{it.value:.4g}",
            f"{it.lr:.4g}",
            f"{it.timescale:,.0f} steps",
        )
    console.print(table)
    for number, it in enumerate(answers, 1):
        text = f"[{number}] {it.source}. Tested: {it.validity}."
        console.print(escaped(text + (f" Note: {it.note}." if it.note else "")), highlight=False)
