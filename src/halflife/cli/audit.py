"""``halflife audit``."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from .terminal import console, errors, escaped, explained, print_json

if TYPE_CHECKING:
    from ..diagnostics.auditing import Audit

__all__ = ["audit"]

_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
_KEYS = ("model", "optimizer", "schedule", "steps", "steps_per_epoch", "interval", "ignore")


def audit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="A function without arguments that returns (model, optimizer), (model, optimizer, "
            "schedule), or a dict with the arguments of halflife.diagnostics.audit. Modules in the "
            "current folder are found.",
        ),
    ],
    steps: Annotated[int | None, typer.Option(help="Optimizer steps of the training.")] = None,
    steps_per_epoch: Annotated[
        float | None, typer.Option(help="States durations in epochs too.")
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(help="What the schedule counts: [b]step[/b] (default) or [b]epoch[/b]."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Leave out a kind of finding; may be repeated."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail as errors do.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Check the weight decay of a training before it runs.

    Exit code 0: no errors. 1: errors, or with --strict warnings. 2: it could not be run.

    [b]Examples[/b]

        halflife audit train:build --steps 50000 --steps-per-epoch 391

        halflife audit project.train:build --strict --ignore decayed-bias

        halflife audit train:build --json > audit.json
    """  # noqa: DOC501 - this text is the command's help
    given = {"steps": steps, "steps_per_epoch": steps_per_epoch, "interval": interval}
    with explained():
        from ..diagnostics.auditing import audit as run

        arguments = {**_built(target), **{k: v for k, v in given.items() if v is not None}}
        arguments["ignore"] = [*arguments.get("ignore", ()), *(ignore or ())]
        try:
            result = run(arguments.pop("model"), arguments.pop("optimizer"), **arguments)
        except TypeError as error:
            raise ValueError(str(error)) from error
    if as_json:
        print_json(result.as_dict())
    else:
        _show(result)
    raise typer.Exit(int(bool(result.errors or (strict and result.warnings))))


def _built(target: str) -> dict[str, Any]:
    """What the user's function returns, as arguments."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise ValueError(
            f"MODULE:FUNCTION={target!r}: must name a module and its function, as train:build does."
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result
            returned = getattr(importlib.import_module(module), name)()
    except Exception as error:  # the user's own code: they need its traceback
        errors.print(traceback.format_exc(), markup=False, highlight=False)
        raise ValueError(f"{target}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if isinstance(returned, Mapping):
        values = {"schedule" if k == "scheduler" else k: v for k, v in returned.items()}
    elif isinstance(returned, tuple) and len(returned) in (2, 3):
        values = dict(zip(_KEYS, returned, strict=False))
    else:
        values = {}
    unknown = sorted(set(values) - set(_KEYS))
    if unknown or not {"model", "optimizer"} <= set(values):
        raise ValueError(
            f"{target}: must return (model, optimizer), (model, optimizer, schedule) or a dict "
            f"with keys among {', '.join(_KEYS)}, got "
            f"{f'the key {unknown[0]!r}' if unknown else type(returned).__name__}."
        )
    return values


def _show(result: Audit) -> None:
    for rows, title in zip(result.tables(), (result.title(), None), strict=True):
        table = Table(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*map(escaped, row))
        console.print(table)
    for finding in result.findings:
        colour = _COLOURS[finding.severity]
        text = escaped(f"{finding.code}: {finding.message}")
        console.print(f"[{colour}]{finding.severity}[/{colour}] {text}", highlight=False)
    console.print(result.summary(), highlight=False)
