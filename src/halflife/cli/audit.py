"""``halflife audit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .terminal import Mistake, print_json, say, show
from .user_code import called, load

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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the weight decay of a training before it runs.

    Exit code 0: no errors. 1: errors, or with --strict warnings. 2: it could not be run.

    [b]Example[/b]: in train.py, where your training is,

        import torch

        def build():
            model = torch.nn.Linear(8, 8)
            return model, torch.optim.AdamW(model.parameters(), lr=1e-3)

    and then

        halflife audit train:build --steps 50000 --steps-per-epoch 391

        halflife audit train:build --strict --ignore decayed-bias

        halflife audit train:build --json
    """  # noqa: DOC501 - this text is the command's help
    given = {"steps": steps, "steps_per_epoch": steps_per_epoch, "interval": interval}
    from ..diagnostics.auditing import audit as run

    arguments = {**_built(target), **{k: v for k, v in given.items() if v is not None}}
    arguments["ignore"] = [*arguments.get("ignore", ()), *(ignore or ())]
    try:
        result = run(arguments.pop("model"), arguments.pop("optimizer"), **arguments)
    except TypeError as error:
        raise Mistake(f"{target}: {str(error).removeprefix('audit: ')}") from error
    if as_json:
        print_json(result.as_dict())
    else:
        _show(result)
    raise typer.Exit(int(bool(result.errors or (strict and result.warnings))))


def _built(target: str) -> dict[str, Any]:
    """What the user's function returns, as arguments."""
    returned = called(target, load(target))
    if isinstance(returned, Mapping):
        values = {"schedule" if k == "scheduler" else k: v for k, v in returned.items()}
    elif isinstance(returned, tuple) and len(returned) in (2, 3):
        values = dict(zip(_KEYS, returned, strict=False))
    else:
        values = {}
    unknown = sorted(set(values) - set(_KEYS))
    if unknown or not {"model", "optimizer"} <= set(values):
        raise Mistake(
            f"{target}: must return (model, optimizer), (model, optimizer, schedule) or a dict "
            f"with keys among {', '.join(_KEYS)}, got "
            f"{f'the key {unknown[0]!r}' if unknown else type(returned).__name__}."
        )
    return values


def _show(result: Audit) -> None:
    about, parameters = result.tables()
    show(about, title=result.title())
    say()
    show(parameters, prose=(5,))
    for finding in result.findings:
        say()
        text = f"{finding.severity} {finding.code}: {finding.message}"
        say(text, _COLOURS[finding.severity], first=len(finding.severity))
    say()
    say(result.summary())
