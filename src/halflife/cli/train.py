"""``halflife train``."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .mistakes import extra, spoken
from .terminal import Mistake, errors, print_json, say, show

__all__ = ["RUNS", "train"]

RUN, WHERE, CHANGED = "The run", "Where it is trained", "What is changed of the recipe"
RUNS = Path("runs")  # where runs are, if nothing is said


class Scale(str, Enum):
    """How large a recipe is trained."""

    paper = "paper"
    small = "small"


@spoken(compiled="--compile", resume="--resume", recipe="RECIPE {}")
def train(
    name: Annotated[
        str, typer.Argument(metavar="RECIPE", help="One of those that halflife recipes lists.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run. Default: runs/RECIPE.", rich_help_panel=RUN),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--data-root",
            help="Where the data lies; a text's file. Default: $HALFLIFE_DATA.",
            rich_help_panel=RUN,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the last checkpoint.", rich_help_panel=RUN),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all that is random.", rich_help_panel=RUN)] = 0,
    until: Annotated[
        int | None,
        typer.Option(help="Step after which it stops, to go on later.", rich_help_panel=RUN),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(help="Steps between checkpoints. Default: an epoch.", rich_help_panel=RUN),
    ] = None,
    log_every: Annotated[
        int, typer.Option(help="Steps between writes of the metrics.", rich_help_panel=RUN)
    ] = 50,
    monitor_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between samples of a Monitor, into monitor.jsonl.",
            rich_help_panel=RUN,
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Rows to hold out, or their share.", rich_help_panel=RUN),
    ] = None,
    scale: Annotated[
        Scale,
        typer.Option(
            help="small: Fashion-MNIST or a text, one epoch, narrow: minutes on a CPU.",
            rich_help_panel=CHANGED,
        ),
    ] = Scale.paper,
    data: Annotated[
        str | None, typer.Option(help="Other data, such as digits.", rich_help_panel=CHANGED)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="The schedule keeps its shares of the run.", rich_help_panel=CHANGED),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows of a step.", rich_help_panel=CHANGED)
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(help="Another of halflife.algorithms.", rich_help_panel=CHANGED),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate.", rich_help_panel=CHANGED)
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(help="In the algorithm's unit.", rich_help_panel=CHANGED),
    ] = None,
    devices: Annotated[
        int, typer.Option(help="Processes, each on a device.", rich_help_panel=WHERE)
    ] = 1,
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
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="On a GPU: the same bits each time.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(help="Processes that decode image files.", rich_help_panel=WHERE)
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a recipe of the papers, at its size or smaller, and go on with it bit for bit.

    [b]Examples[/b]

    At its size, on two GPUs:

        halflife train 004/resnet20-cifar10/adamw --devices 2

    In minutes on a CPU, and on from where it was cut:

        halflife train 000/resnet18-cifar10/adams --scale small

        halflife train 000/resnet18-cifar10/adams --scale small --resume
    """  # noqa: DOC501 - this text is the command's help
    with extra("lab", "train"):
        from ..lab.recipes import recipe
        from ..lab.recipes.building import changed, small
        from ..lab.recipes.options import Options
        from ..lab.recipes.running import train as run
        from ..lab.recipes.runs import departures
        from ..lab.sweeping.display import Bar, Display
        from ..lab.sweeping.signals import Terminated, terminable

    chosen = recipe(name)
    if scale is Scale.small:
        chosen = small(chosen)
    chosen = changed(
        chosen, data=data, epochs=epochs, batch_size=batch_size, algorithm=algorithm, lr=lr,
        weight_decay=weight_decay,
    )  # fmt: skip
    options = Options(
        root=root, seed=seed, devices=devices, accelerator=accelerator, precision=precision,
        strategy=strategy, compiled=compiled, accumulate=accumulate, ema=ema,
        validation=validation, monitor_every=monitor_every, checkpoint_every=checkpoint_every,
        log_every=log_every, until=until, deterministic=deterministic, workers=workers,
    )  # fmt: skip
    folder = RUNS / name if out is None else out
    # Fabric starts the other processes by this same command: they are silent.
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    display = Bar() if first else Display()
    try:
        with terminable():
            result: dict[str, Any] = run(chosen, folder, options, resume=resume, display=display)
    except KeyboardInterrupt as error:
        if first:
            why = "Terminated" if isinstance(error, Terminated) else "Interrupted"
            _tell(f"{why}. {_going_on(folder)}")
        raise typer.Exit(130) from None
    except ImportError as error:
        raise Mistake(str(error)) from error
    if not first:
        return
    if as_json:
        print_json({"folder": str(folder), "changed": departures(chosen, options), **result})
        return
    rows = [(key, f"{value:.6g}") for key, value in result.items() if value is not None]
    show(rows, title=name, head=False)
    more = "" if "test_loss" in result else "; --resume goes on with it"
    say(f"In {folder}{more}.")


def _tell(text: str) -> None:
    errors.print(text, soft_wrap=True, highlight=False, markup=False)


def _going_on(folder: Path) -> str:
    """From where a run goes on that was cut."""
    from ..lab.recipes.folder import RunFolder

    if step := RunFolder(folder).step:
        return f"--resume goes on from step {step:,} in {folder}."
    return f"There is no checkpoint in {folder} yet: --resume begins at step 0."
