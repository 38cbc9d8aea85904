"""``halflife describe``."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .mistakes import spoken
from .terminal import print_json, say, show

if TYPE_CHECKING:
    from ..units.describe import GroupDescription

__all__ = ["describe"]


@spoken(decay="--rule {}")
def describe(
    lr: Annotated[float, typer.Option(help="Peak learning rate.")],
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", "--wd", help="The number, in the rule's own unit.")
    ],
    rule: Annotated[
        str,
        typer.Option(
            help="The decay rule that reads it. torch's AdamW is [b]decoupled[/b], the AdamW "
            "paper's [b]independent[/b], torch's SGD and Adam [b]l2[/b]."
        ),
    ] = "decoupled",
    optimizer: Annotated[str, typer.Option(help="[b]adamw[/b] or [b]sgd[/b].")] = "adamw",
    momentum: Annotated[float | None, typer.Option(help="beta1 or momentum. Default: 0.9.")] = None,
    steps_per_epoch: Annotated[
        float | None, typer.Option(help="States durations in epochs too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a weight_decay means, in every unit and under every other rule.

    [b]Examples[/b]

        halflife describe --lr 3e-4 --weight-decay 0.1 --steps-per-epoch 391

        halflife describe --lr 0.1 --wd 5e-4 --rule l2 --optimizer sgd --json
    """
    from ..units.writing import duration, number

    row, equal = _described(lr, weight_decay, rule, optimizer, momentum, steps_per_epoch)
    if as_json:
        print_json({**asdict(row), "same_as": equal})
        return
    rows = [
        ("fraction removed per step", number(row.fraction)),
        ("half-life", duration(row.half_life, row.half_life_epochs)),
        ("timescale", duration(row.timescale, row.timescale_epochs)),
        ("predicted weight RMS", number(row.rms)),
        ("rotation per step", "-" if row.rotation is None else f"{number(row.rotation)} radians"),
        *((f"the same as {name}", f"weight_decay {value:.4g}") for name, value in equal.items()),
    ]
    title = f"{row.rule}, peak lr {number(lr)}, weight_decay {number(weight_decay)}"
    show(rows, title=title, head=False)
    say(row.note or "At the peak lr; the schedule scales it as the rule says.")


def _described(
    lr: float, wd: float, rule: str, optimizer: str, momentum: float | None, per_epoch: float | None
) -> tuple[GroupDescription, dict[str, float]]:
    import torch

    from .. import SGD, AdamW
    from .. import describe as described
    from ..checks import require_momentum, require_nonnegative, require_positive
    from ..rules import DecayMap
    from ..rules.contract import as_rule, rule_names
    from ..rules.step import Step
    from ..units.convert import optimizer_named

    base = optimizer_named(optimizer, ("adamw", "sgd"))
    b = 0.9 if momentum is None else momentum
    require_positive("lr", lr, "pass the schedule's highest")
    require_nonnegative("weight_decay", wd, "pass the number that the optimizer is given")
    require_momentum("momentum", b)
    weight = [torch.nn.Parameter(torch.zeros(1))]
    made: Any = (
        AdamW(weight, lr, (b, 0.999), weight_decay=wd, decay=as_rule(rule))
        if base == "adamw"
        else SGD(weight, lr, b, weight_decay=wd, decay=as_rule(rule))
    )
    row = described(made, steps_per_epoch=per_epoch).groups[0]
    if row.fraction is None:
        raise ValueError(
            f"rule={rule!r} on {base}: {row.note} Use a rule with a fraction, such as "
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
