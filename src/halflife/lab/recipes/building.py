"""From a recipe to what is trained: data, model, optimizer and schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...algorithms import algorithm
from ...algorithms.schedule import exponential_decay, restarts_with_normalized_decay
from ...groups import param_groups
from ...schedules import CurveLR, schedule_named
from ...units.strength import Normalized
from ..data import Dataset, load
from ..models import MODELS, build
from .entry import Recipe
from .feed import Feed, Images, Streams, Windows

__all__ = ["data_of", "feed_of", "model_of", "optimizer_of", "scaled", "schedulers_of"]

_SMALL = 64  # pixels: below it a network has the stem of CIFAR


def data_of(recipe: Recipe, root: str | None = None, **settings: Any) -> Dataset:
    """The recipe's data, read from where it lies."""
    return load(recipe.data, root, **settings)


def feed_of(
    recipe: Recipe, data: Dataset, *, seed: int, rank: int, world: int, device: torch.device,
    workers: int = 0,
) -> Feed:  # fmt: skip
    """What is read at each step."""
    shared: dict[str, Any] = {"rank": rank, "world": world, "device": device}
    if recipe.time is None:
        return Images(
            data, recipe.batch_size, seed, recipe.augment, workers=workers, **shared
        )  # fmt: skip
    if recipe.model.startswith("lstm"):
        return Streams(data, recipe.batch_size, recipe.time, **shared)
    return Windows(data, recipe.batch_size, recipe.time, seed=seed, **shared)


def model_of(recipe: Recipe, data: Dataset, **settings: Any) -> nn.Module:
    """The recipe's model for its data, with weights from torch's generator.

    Args:
        recipe: names it.
        data: decides classes, channels and the stem, or the vocabulary.
        **settings: over those of the recipe.
    """
    import inspect

    known = inspect.signature(MODELS[recipe.model]).parameters
    given: dict[str, Any] = {}
    if recipe.time is not None:
        given = {"vocabulary": len(data.classes), "context": recipe.time}
    else:
        channels, side = data.train.inputs.shape[1:3]
        small = side <= _SMALL
        given = {"classes": len(data.classes), "channels": channels}
        given |= {"stem": "cifar", "image": side, "patch": 4} if small else {}
    own: Mapping[str, Any] = {k: v for k, v in given.items() if k in known}
    return build(recipe.model, **{**own, **recipe.model_settings, **settings})


def optimizer_of(recipe: Recipe, model: nn.Module, steps_per_epoch: int) -> Any:
    """The algorithm on the model's parameters, all of which decay but in transformers."""
    decay: Any = recipe.weight_decay
    restarts = recipe.schedule.startswith("restarts")
    if recipe.normalized and not restarts:
        decay = Normalized(
            decay, batch_size=1, dataset_size=steps_per_epoch, epochs=recipe.epochs
        )  # fmt: skip
    chosen = algorithm(recipe.algorithm)
    parameters = param_groups(model) if recipe.model.startswith("vit") else model.parameters()
    return chosen.create(parameters, lr=recipe.lr, weight_decay=decay, **recipe.settings)


def schedulers_of(recipe: Recipe, optimizer: Any, steps_per_epoch: int) -> list[Any]:
    """What is stepped after each step of the optimizer."""
    total = recipe.epochs * steps_per_epoch
    if recipe.normalized and recipe.schedule.startswith("restarts"):
        first, _, factor = recipe.schedule.partition(":")[2].partition("*")
        return [
            restarts_with_normalized_decay(
                optimizer, steps_per_epoch=steps_per_epoch, T_0=int(first), T_mult=int(factor or 1)
            )
        ]
    schedulers: list[Any] = [
        CurveLR(optimizer, schedule_named(recipe.schedule, total, steps_per_epoch))
    ]
    if recipe.decay_schedule:
        schedulers.append(exponential_decay(optimizer, total=total))
    return schedulers


def scaled(recipe: Recipe, **changes: Any) -> Recipe:
    """A recipe with other data, epochs or batch size; None leaves a field as it is."""
    return replace(recipe, **{k: v for k, v in changes.items() if v is not None})
