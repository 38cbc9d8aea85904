"""What has been run of the recipes in a folder, and how far each run is from what was published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...schedules.named import stretched
from . import RECIPES
from .entry import Recipe
from .folder import RunFolder, runs_below
from .options import Options

__all__ = ["RecipeRun", "departures", "runs_of"]

# What a recipe says besides how it is trained.
_ABOUT = ("name", "source", "published", "note")
_SETTINGS = ("settings", "model_settings")


@dataclass(frozen=True)
class RecipeRun:
    """A run of a recipe, ended or not.

    Args:
        folder: where it is.
        recipe: name of what it trains.
        changed: how it differs from what was published, in words; empty if it does not.
        options: how it was run, as far as it is not the default; and its seed.
        device: what it was begun on.
        step: steps that are safe in its folder.
        steps: of the whole; None where the folder does not say.
        result: what it came to; None if it has not ended.
    """

    folder: Path
    recipe: str
    changed: tuple[str, ...]
    options: Mapping[str, Any]
    device: str
    step: int
    steps: int | None
    result: Mapping[str, Any] | None

    @property
    def as_published(self) -> bool:
        """Whether the recipe was trained as it is written, to its end."""
        return self.result is not None and not self.changed


def runs_of(root: str | Path) -> dict[str, list[RecipeRun]]:
    """The runs in a folder and those below it, by recipe; of recipes that are none, nothing.

    Example:
        >>> runs_of("nowhere")
        {}
    """
    found: dict[str, list[RecipeRun]] = {}
    for path, run, result in runs_below(Path(root)):
        if run["recipe"].get("name") in RECIPES:
            each = _run(path, run, result)
            found.setdefault(each.recipe, []).append(each)
    return found


def departures(recipe: Recipe, options: Options | None = None) -> list[str]:
    """How what is trained differs from the recipe of its name, in words.

    Args:
        recipe: as it is trained.
        options: with which it is: settings of the model, and rows that are held out.

    Example:
        >>> from halflife.lab.recipes.building import small
        >>> print(*departures(small(RECIPES["004/resnet20-cifar10/adamw"])), sep=", ")
        data fashion-mnist instead of cifar10, epochs 1 instead of 300
    """
    return _departures(asdict(recipe), asdict(options or Options()))


def _departures(chosen: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    if chosen["name"] not in RECIPES:  # of one's own
        return []
    published, chosen = _plain(asdict(RECIPES[chosen["name"]])), _plain(chosen)
    model = {**chosen.get("model_settings", {}), **options.get("model", {})}
    chosen = {**chosen, "model_settings": model}
    told = []
    for name, before in published.items():
        now = chosen.get(name)
        if name == "schedule":
            # Where the length is another one its moments are stretched, which is no more to tell.
            before = stretched(before, published["epochs"], chosen["epochs"])
        if name in _ABOUT or now == before:
            continue
        if name in _SETTINGS:
            what = chosen["model"] if name == "model_settings" else "optimizer"
            told += [f"{what} with {each}" for each in _settings(before, now or {})]
        else:
            told.append(f"{name} {_written(now)} instead of {_written(before)}")
    if options.get("validation"):
        told.append(f"validation {options['validation']:g} held out of the training set")
    return told


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys([*before, *now])
    return [
        f"{name}={now[name]}" if name in now else f"{name} as by default"
        for name in names
        if name not in now or name not in before or now[name] != before[name]
    ]


def _written(value: Any) -> str:
    return "none" if value in (None, "") else str(value)


def _run(path: Path, run: Mapping[str, Any], result: Mapping[str, Any] | None) -> RecipeRun:
    recipe, options = run["recipe"], run["options"]
    usual = Options().binding()
    told = {
        name: value
        for name, value in options.items()
        if name == "seed" or (name in usual and value != usual[name])
    }
    return RecipeRun(
        folder=path,
        recipe=recipe["name"],
        changed=tuple(_departures(recipe, options)),
        options={name: v for name, v in told.items() if name not in ("model", "validation")},
        device=run.get("machine", {}).get("device", ""),
        step=RunFolder(path).step if result is None else result["step"],
        steps=run.get("steps"),
        result=result,
    )


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """As it is after it was written and read: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain
