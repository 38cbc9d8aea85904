"""``halflife train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .mistakes import extra
from .terminal import print_json, say, show

__all__ = ["train"]

RUN, WHERE, SMALL = "The run", "Where it is trained", "A smaller one"


def train(
    name: Annotated[
        str, typer.Argument(metavar="RECIPE", help="One of those that halflife recipes lists.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.", rich_help_panel=RUN)],
    root: Annotated[
        str | None,
        typer.Option("--data-root", help="Where the data lies.", rich_help_panel=RUN),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on with the run in --out.", rich_help_panel=RUN)
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all that is random.", rich_help_panel=RUN)] = 0,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(help="Steps between checkpoints. Default: an epoch.", rich_help_panel=RUN),
    ] = None,
    log_every: Annotated[
        int, typer.Option(help="Steps between lines of metrics.", rich_help_panel=RUN)
    ] = 50,
    data: Annotated[
        str | None,
        typer.Option(
            help="Other data, such as fashion-mnist: a trial on what is here.",
            rich_help_panel=SMALL,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Fewer epochs.", rich_help_panel=SMALL)] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Another batch size.", rich_help_panel=SMALL)
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(help="Step after which it stops, to go on later.", rich_help_panel=SMALL),
    ] = None,
    devices: Annotated[int, typer.Option(help="Processes.", rich_help_panel=WHERE)] = 1,
    accelerator: Annotated[
        str, typer.Option(help="auto, cpu, cuda, ...", rich_help_panel=WHERE)
    ] = "auto",
    strategy: Annotated[
        str, typer.Option(help="auto, ddp or fsdp2.", rich_help_panel=WHERE)
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="32-true, bf16-mixed, 16-mixed or bf16-true.", rich_help_panel=WHERE),
    ] = "32-true",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the model.", rich_help_panel=WHERE)
    ] = False,
    accumulate: Annotated[
        int, typer.Option(help="Pieces of a batch, one after the other.", rich_help_panel=WHERE)
    ] = 1,
    ema: Annotated[
        float | None,
        typer.Option(help="Decay of an average of the weights.", rich_help_panel=WHERE),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a recipe of the papers, at its size or smaller, and go on with it bit for bit.

    [b]Examples[/b]

    At its size, from the official archive, on two GPUs:

        halflife train 000/resnet18-cifar10/adams --out runs/r18 --devices 2

    Some steps of it on Fashion-MNIST:

        halflife train 000/resnet18-cifar10/adams --data fashion-mnist --until 2

    """
    with extra("lab", "train"):
        from ..lab.recipes import recipe
        from ..lab.recipes.building import scaled
        from ..lab.recipes.running import Options
        from ..lab.recipes.running import train as run
        from ..lab.sweeping.display import Bar, Display

    chosen = scaled(recipe(name), data=data, epochs=epochs, batch_size=batch_size)
    options = Options(
        root, seed, devices, accelerator, precision, strategy, compiled, accumulate, ema,
        checkpoint_every, log_every, until,
    )  # fmt: skip
    # Fabric starts the other processes by this same command: they are silent.
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    with Bar() if first else Display() as display:
        result: dict[str, Any] = run(chosen, out, options, resume=resume, display=display)
    if not first:
        return
    if as_json:
        print_json(result)
        return
    show([(key, f"{value:.4g}") for key, value in result.items()], title=name, head=False)
    say(f"In {out}; --resume goes on with it.")
