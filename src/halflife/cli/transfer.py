"""``halflife transfer``."""

from __future__ import annotations

from typing import Annotated

import typer

from .mistakes import spoken
from .terminal import print_json, say, show

__all__ = ["transfer"]

Pair = tuple[float, float] | None


@spoken(lr="--lr {} --new-lr {}")
def transfer(
    weight_decay: Annotated[float, typer.Argument(metavar="WEIGHT_DECAY", help="The old number.")],
    lr: Annotated[float, typer.Option(help="Old peak learning rate.")],
    new_lr: Annotated[
        float | None, typer.Option(help="New one. Default: as each rule prescribes.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Convention of the number; see halflife convert.")
    ] = "decoupled",
    batch: Annotated[Pair, typer.Option(help="Samples or tokens per step, old and new.")] = None,
    data: Annotated[Pair, typer.Option(help="Size of the data set, old and new.")] = None,
    epochs: Annotated[Pair, typer.Option(help="Passes over it, old and new.")] = None,
    steps: Annotated[Pair, typer.Option(help="Length of the run, old and new.")] = None,
    parameters: Annotated[Pair, typer.Option(help="Size of the model, old and new.")] = None,
    width: Annotated[Pair, typer.Option(help="Width of its layers, old and new.")] = None,
    optimizer: Annotated[
        tuple[str, str] | None, typer.Option(help="adamw, lion or sgd, old and new.")
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

        halflife transfer 0.1 --lr 3e-4 --new-lr 6e-5 --optimizer adamw lion
    """
    from ..units.transfer import transfer as answers_of
    from ..units.writing import duration

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
    rows = [("rule", "weight_decay", "lr", "timescale")]
    for number, it in enumerate(answers, 1):
        rows.append(
            (f"{it.name} [{number}]", f"{it.value:.4g}", f"{it.lr:.4g}", duration(it.timescale))
        )
    show(rows, title=f"weight_decay {weight_decay:g} ({rule}) at lr {lr:g}, moved", prose=(0,))
    say()
    for number, it in enumerate(answers, 1):
        text = f"[{number}] {it.source}. Tested: {it.validity}."
        say(text + (f" Note: {it.note}." if it.note else ""))
