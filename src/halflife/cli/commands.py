"""The application: every command, and what stands before them."""

from __future__ import annotations

from typing import Annotated

import torch
import typer

from .. import __version__
from . import (
    audit,
    convert,
    describe,
    landscape,
    probe,
    recipes,
    recommend,
    study,
    sweep,
    sweeping,
    train,
    transfer,
)
from .mistakes import explained
from .terminal import console

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 an audit found errors; 2 it could not be done; 130 interrupted.",
)


def _version(asked: bool) -> None:
    if asked:
        console.print(f"halflife {__version__} (torch {torch.__version__})", highlight=False)
        raise typer.Exit


@app.callback()
def halflife(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Weight decay: what it does, how much of it there is, and how much there should be."""


for command in (
    audit.audit,
    describe.describe,
    convert.convert,
    transfer.transfer,
    recommend.recommend,
    probe.probe,
    landscape.landscape,
    sweep.sweep,
    sweeping.report,
    recipes.recipes,
    train.train,
):
    app.command()(explained(command))
app.add_typer(study.study, name="study")
