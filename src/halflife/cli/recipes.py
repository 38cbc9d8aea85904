"""``halflife recipes``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .mistakes import extra
from .terminal import print_json, say, show

if TYPE_CHECKING:
    from ..lab.recipes import Recipe

__all__ = ["recipes"]


def recipes(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="A recipe, of which everything is told, or what names begin with or contain.",
            show_default=False,
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the papers' trainings: model, data, optimizer, schedule, result as published, cost.

    None of them has been run here at its size; the cost says why.

    [b]Examples[/b]

        halflife recipes 000/resnet18

        halflife recipes 003/vit-s16-imagenet-300/adamw
    """
    with extra("lab", "recipes"):
        from ..lab.recipes import RECIPES, recipe
        from ..lab.recipes.cost import cost

    if name in RECIPES:
        _one(RECIPES[name], as_json)
        return
    found = [each for each in RECIPES.values() if name in each.name] or [recipe(name)]
    if as_json:
        print_json([_data(each) for each in found])
        return
    rows = [("recipe", "parameters", "steps", "petaFLOP", "published")]
    for each in found:
        spent = cost(each)
        rows.append(
            (
                each.name,
                f"{spent.parameters / 1e6:.2f} M",
                f"{spent.steps:,}",
                f"{spent.petaflop:,.0f}",
                each.published or "-",
            )
        )
    show(rows, title=f"{len(found)} recipes")
    say("petaFLOP: of all forward and backward passes. None has been run here at its size.")


def _data(each: Recipe) -> dict[str, Any]:
    from ..lab.recipes.cost import cost

    return {**asdict(each), "cost": asdict(cost(each))}


def _one(each: Recipe, as_json: bool) -> None:
    from ..algorithms import algorithm
    from ..lab.recipes.cost import cost

    if as_json:
        print_json(_data(each))
        return
    spent, chosen = cost(each), algorithm(each.algorithm)
    rule = f" under {chosen.rule}" if chosen.rule is not None else ""
    normalized = ", normalized" if each.normalized else ""
    rows = [
        ("model", f"{each.model}, {spent.parameters:,} parameters"),
        ("data", each.data + (f", {each.augment}" if each.augment else "")),
        ("algorithm", f"{each.algorithm}: {chosen.optimizer_name}{rule}"),
        ("lr", f"{each.lr:g}, {each.schedule}"),
        ("weight_decay", f"{each.weight_decay:g}{normalized}"),
        ("length", f"{each.epochs:,} epochs of batches of {each.batch_size}"),
        ("cost", f"{spent.steps:,} steps, {spent.petaflop:,.0f} petaFLOP"),
        ("published", each.published or "-"),
        ("source", each.source),
        ("run here", "no"),
    ]
    more = {
        "decay schedule": each.decay_schedule,
        "loss times": "" if each.loss_scale == 1.0 else f"{each.loss_scale:g}",
        "label smoothing": f"{each.label_smoothing:g}" if each.label_smoothing else "",
        "clip": "" if each.clip is None else f"{each.clip:g}",
        "window": "" if each.time is None else f"{each.time} tokens",
        "note": each.note,
    }
    rows += [(key, value) for key, value in more.items() if value]
    show(rows, title=each.name, head=False, prose=(1,))
