"""``halflife recipes``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .mistakes import extra
from .terminal import Mistake, print_json, say, show
from .train import RUNS

if TYPE_CHECKING:
    from ..lab.recipes import Recipe
    from ..lab.recipes.runs import RecipeRun

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
    runs: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder with what halflife train has run. Default: {RUNS}.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the papers' trainings: model, data, optimizer, schedule, result as published, cost.

    And whether they have been run here: as published, or with what changed.

    [b]Examples[/b]

        halflife recipes 000/resnet18

        halflife recipes 003/vit-s16-imagenet-300/adamw
    """  # noqa: DOC501 - this text is the command's help
    with extra("lab", "recipes"):
        from ..lab.recipes import RECIPES, recipe
        from ..lab.recipes.cost import cost
        from ..lab.recipes.runs import runs_of

    if runs is not None and not runs.is_dir():
        raise Mistake(f"--runs {runs}: there is no such folder.")
    where = RUNS if runs is None else runs
    here = runs_of(where)
    if name in RECIPES:
        _one(RECIPES[name], here.get(name, []), where, as_json)
        return
    found = [each for each in RECIPES.values() if name in each.name] or [recipe(name)]
    if as_json:
        print_json([_data(each, here.get(each.name, [])) for each in found])
        return
    rows: list[tuple[str, ...]] = [("recipe", "parameters", "steps", "petaFLOP", "published")]
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
    any_run = any(each.name in here for each in found)
    if any_run:  # else the column would only take room
        column = ["run here", *(_in_short(here.get(each.name, [])) for each in found)]
        rows = [(*row, cell) for row, cell in zip(rows, column, strict=True)]
    show(rows, title=f"{len(found)} recipes")
    say("petaFLOP: of all forward and backward passes.")
    if any_run:
        say(f"run here: in {where}; changed: not with the settings that were published.")
    else:
        say(f"None has been run here (in {where}).")


def _data(each: Recipe, runs: list[RecipeRun]) -> dict[str, Any]:
    from ..lab.recipes.cost import cost

    told = [{**asdict(run), "folder": str(run.folder)} for run in runs]
    return {**asdict(each), "cost": asdict(cost(each)), "runs": told}


def _in_short(runs: list[RecipeRun]) -> str:
    """The run that is nearest to what was published, in a word."""
    if any(run.as_published for run in runs):
        return "yes"
    if any(not run.changed for run in runs):
        return "begun"
    return "changed" if runs else "-"


def _one(each: Recipe, runs: list[RecipeRun], where: Path, as_json: bool) -> None:
    from ..algorithms import algorithm
    from ..lab.recipes.cost import cost

    if as_json:
        print_json(_data(each, runs))
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
    if not runs:
        rows.append(("run here", f"not in {where}"))
    show(rows, title=each.name, head=False, prose=(1,))
    for run in runs:
        say()
        show(_told(run), title=f"Run in {run.folder}", head=False, prose=(1,))


def _told(run: RecipeRun) -> list[tuple[str, str]]:
    rows = [
        ("recipe", f"changed: {', '.join(run.changed)}" if run.changed else "as published"),
        ("options", ", ".join(f"{name} {value}" for name, value in run.options.items())),
        ("device", run.device),
    ]
    of = "" if run.steps is None else f" of {run.steps:,}"
    rows.append(("steps", f"{run.step:,}{of}"))
    return [row for row in rows + _result(run.result) if row[1]]


def _result(result: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if result is None:
        return [("result", "none yet; halflife train --resume goes on")]
    error, loss = result["test_error"], result["test_loss"]
    figures = "no number" if loss is None else f"{error:.2f} %, loss {loss:.4g}"
    return [("test error", figures), ("seconds", f"{result['seconds']:,.0f}")]
