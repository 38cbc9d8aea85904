"""``halflife describe``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from .terminal import console, explained

if TYPE_CHECKING:
    from ..units.describe import GroupDescription

__all__ = ["describe"]


def describe(
    lr: Annotated[float, typer.Option(help="Peak learning rate.")],
    wd: Annotated[float, typer.Option(help="The weight_decay, in the rule's own unit.")],
    rule: Annotated[
        str,
        typer.Option(
            help="The decay rule that reads it. torch's AdamW is [b]decoupled[/b], the AdamW "
            "paper's [b]independent[/b], torch's SGD and Adam [b]l2[/b]."
        ),
    ] = "decoupled",
    optimizer: Annotated[str, typer.Option(help="[b]adam[/b] or [b]sgd[/b].")] = "adam",
    momentum: Annotated[float | None, typer.Option(help="beta1 or momentum. Default: 0.9.")] = None,
    steps_per_epoch: Annotated[
        float | None, typer.Option(help="States durations in epochs too.")
    ] = None,
) -> None:
    """Say what a weight_decay means, in every unit and under every other rule.

    [b]Examples[/b]

        halflife describe --lr 3e-4 --wd 0.1 --steps-per-epoch 391

        halflife describe --lr 0.1 --wd 5e-4 --rule l2 --optimizer sgd
    """
    with explained():
        row, equal = _described(lr, wd, rule, optimizer, momentum, steps_per_epoch)
    epochs = "" if row.half_life_epochs is None else f" = {row.half_life_epochs:.4g} epochs"
    average = "" if row.timescale_epochs is None else f" = {row.timescale_epochs:.4g} epochs"
    table = Table(title=f"{row.rule}, peak lr {lr:g}, weight_decay {wd:g}", show_header=False)
    table.caption = row.note or "At the peak lr; the schedule scales it as the rule says."
    for name, value in (
        ("fraction removed per step", f"{row.fraction:.4g}"),
        ("half-life", f"{row.half_life:,.4g} steps{epochs}"),
        ("timescale", f"{row.timescale:,.4g} steps{average}"),
        ("predicted weight RMS", "-" if row.rms is None else f"{row.rms:.4g}"),
        ("rotation per step", "-" if row.rotation is None else f"{row.rotation:.4g} radians"),
        *((f"the same as {name}", f"weight_decay {value:.4g}") for name, value in equal.items()),
    ):
        table.add_row(name, value)
    console.print(table)


def _described(
    lr: float, wd: float, rule: str, optimizer: str, momentum: float | None, per_epoch: float | None
) -> tuple[GroupDescription, dict[str, float]]:
    import torch

    from .. import SGD, AdamW
    from .. import describe as described
    from ..rules import DecayMap
    from ..rules.contract import as_rule, rule_names
    from ..rules.step import Step

    if optimizer not in ("adam", "sgd"):
        raise ValueError(f"optimizer={optimizer!r}: must be 'adam' or 'sgd'.")
    b = 0.9 if momentum is None else momentum
    weight = [torch.nn.Parameter(torch.zeros(1))]
    made: Any = (
        AdamW(weight, lr, (b, 0.999), weight_decay=wd, decay=as_rule(rule))
        if optimizer == "adam"
        else SGD(weight, lr, b, weight_decay=wd, decay=as_rule(rule))
    )
    row = described(made, steps_per_epoch=per_epoch).groups[0]
    if row.fraction is None:
        raise ValueError(
            f"rule={rule!r} on {optimizer}: {row.note} Use a rule with a fraction, such as "
            "--rule decoupled."
        )
    equal: dict[str, float] = {}
    if isinstance(as_rule(rule), DecayMap):  # a fraction of its own for each weight
        return row, equal
    for name in rule_names():
        with contextlib.suppress(ValueError):  # L2 and, on Adam, stable have no such number
            other = as_rule(name)
            if name != rule and row.fraction < 1.0 and not isinstance(other, DecayMap):
                equal[name] = float(other.coefficient(row.fraction, Step(lr, lr)))
    return row, equal
