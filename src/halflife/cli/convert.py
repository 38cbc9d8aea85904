"""``halflife convert``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .mistakes import flags_of, in_flags, spoken
from .terminal import print_json, say, show

if TYPE_CHECKING:
    from ..units.convert import Conversion

__all__ = ["convert"]


@spoken(source="--from {}", target="--to {}")
def convert(
    value: Annotated[
        float, typer.Argument(metavar="VALUE", help="The number, in the convention --from.")
    ],
    source: Annotated[
        str,
        typer.Option("--from", help="Convention it is in: decoupled, composer, l2, half_life, ..."),
    ],
    lr: Annotated[float, typer.Option(help="Peak learning rate that belongs to it.")],
    target: Annotated[
        str, typer.Option("--to", help="Convention it is wanted in; [b]all[/b] shows every one.")
    ] = "all",
    schedule: Annotated[
        str | None, typer.Option(help="constant, cosine, linear or wsd, with --steps.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run.")] = None,
    reference: Annotated[
        str, typer.Option(help="Equal at the [b]peak[/b] lr, or in the [b]mean[/b] of the run.")
    ] = "peak",
    optimizer: Annotated[
        str | None, typer.Option(help="adamw, lion or sgd. Default: sgd for l2, else adamw.")
    ] = None,
    momentum: Annotated[float | None, typer.Option(help="beta1, or SGD's momentum.")] = None,
    dampening: Annotated[float, typer.Option(help="SGD's.")] = 0.0,
    effective_rate: Annotated[
        float | None, typer.Option(help="1/sqrt(mean v_hat), for stable decay on Adam.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="For normalized.")] = None,
    dataset_size: Annotated[int | None, typer.Option(help="For normalized.")] = None,
    epochs: Annotated[float | None, typer.Option(help="For normalized.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """State a weight_decay in another convention, so that each step removes the same.

    [b]Examples[/b]

        halflife convert 0.1 --from decoupled --to independent --lr 3e-4

        halflife convert 5e-4 --from l2 --to decoupled --lr 0.1 --momentum 0.9

        halflife convert 1e-5 --from composer --lr 1e-3 --json
    """
    options: dict[str, Any] = {
        "schedule": schedule,
        "steps": steps,
        "reference": reference,
        "optimizer": optimizer,
        "momentum": momentum,
        "dampening": dampening,
        "effective_rate": effective_rate,
        "batch_size": batch_size,
        "dataset_size": dataset_size,
        "epochs": epochs,
    }
    from ..units.convert import conversions
    from ..units.convert import convert as convert_one

    found: dict[str, Conversion | str] = (
        conversions(value, source, lr=lr, **options)
        if target == "all"
        else {target: convert_one(value, source, target, lr=lr, **options)}
    )
    if as_json:
        flags = flags_of(convert)
        plain = {
            name: in_flags(it, flags) if isinstance(it, str) else it.as_dict()
            for name, it in found.items()
        }
        print_json(plain if target == "all" else plain[target])
    elif target == "all":
        _show(value, source, lr, found)
    else:
        (only,) = found.values()
        say(str(only))


def _show(value: float, source: str, lr: float, found: dict[str, Conversion | str]) -> None:
    rows = [("convention", "value", "lr", "agreement", "unit")]
    for name, it in found.items():
        if isinstance(it, str):
            missing = re.match(r"(\w+)=None", it)
            needs = f"needs --{missing[1].replace('_', '-')}" if missing else "none"
            rows.append((name, "-", "", "", needs))
        else:
            new_lr = f"{it.lr:.9g}" if it.changes_lr else ""
            rows.append((name, it.written, new_lr, it.exactness, it.unit))
    show(
        rows,
        title=f"{value:g} ({source}) at lr {lr:g}, in every convention",
        prose=(4,),
    )
    say("An lr is named where it changes with the number.")
