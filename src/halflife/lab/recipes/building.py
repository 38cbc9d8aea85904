"""From a recipe to what is trained: data, model, optimizer and schedulers."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...algorithms import algorithm
from ...algorithms.schedule import exponential_decay
from ...checks import near
from ...groups import param_groups
from ...schedules import Curve, CurveLR, JointScheduler, normalized_decay, schedule_named
from ...schedules.named import stretched
from ...schedules.restarts import cosine_warm_restarts
from ...units.strength import Normalized
from ..data import DATASETS, Dataset, Split, load
from ..models import build
from .cost import cost
from .entry import Recipe
from .feed import Feed, Images, Streams, Windows
from .fitting import LEAST, fitted, image_shape, narrowed
from .options import Options

__all__ = [
    "changed",
    "data_of",
    "feed_of",
    "identity_of",
    "model_of",
    "optimizer_of",
    "schedulers_of",
    "small",
    "snapshot_steps",
]  # fmt: skip

_SMALL_BATCH = 128
_RATE = 0.99999  # Zhou et al., section 6: of the weight decay, at each step
_TEXTS = ("ptb", "text")


def changed(recipe: Recipe, *, epochs: int | None = None, **fields: Any) -> Recipe:
    """A recipe with other fields, where they are not None.

    In another number of epochs the moments of the recipe's schedule keep their shares of the run.

    Raises:
        ValueError: for data or an algorithm that there is not, or a text in the place of images.
    """
    new = replace(recipe, **{name: value for name, value in fields.items() if value is not None})
    if new.data not in DATASETS:
        raise ValueError(
            f"data={new.data!r}: must be one of {', '.join(DATASETS)}{near(new.data, DATASETS)}"
        )
    if (new.data in _TEXTS) != (recipe.data in _TEXTS):
        kind = "a text" if recipe.data in _TEXTS else "images"
        raise ValueError(f"data={new.data!r}: {recipe.model} reads {kind}; name such data.")
    try:
        algorithm(new.algorithm)
    except ValueError as error:
        raise ValueError(str(error).replace("name=", "algorithm=", 1)) from None
    if epochs is None:
        return new
    return replace(new, epochs=epochs, schedule=stretched(new.schedule, new.epochs, epochs))


def small(recipe: Recipe) -> Recipe:
    """A recipe for minutes on a CPU: other data, one epoch, fewer or narrower layers.

    Algorithm, lr, weight decay and the shape of the schedule stay as they are; what the decay does
    in one epoch is not what it does in hundreds.
    """
    new = changed(
        recipe, data="fashion-mnist" if recipe.time is None else "text", epochs=1,
        batch_size=min(recipe.batch_size, _SMALL_BATCH),
    )  # fmt: skip
    return replace(new, model_settings={**recipe.model_settings, **narrowed(recipe.model)})


def data_of(recipe: Recipe, options: Options) -> Dataset:
    """The recipe's data, read from where it lies, and as large as its model needs."""
    given: dict[str, Any] = {}
    images = recipe.time is None
    if "validation" in inspect.signature(DATASETS[recipe.data]).parameters:
        held = options.validation
        given["validation"] = 0.0 if held is None and images else held
    elif options.validation is not None:
        raise ValueError(
            f"validation={options.validation}: {recipe.data} has a validation part of its own; "
            "leave it out."
        )
    data = load(recipe.data, options.root, **given)
    return _padded(data, LEAST.get(recipe.model, 0)) if images else data


def identity_of(data: Dataset) -> dict[str, Any]:
    """What tells data from other data of the same name: of the rows' targets, or of a text."""
    targets = data.train.targets
    digest = hashlib.sha256(targets.contiguous().numpy().tobytes()).hexdigest()
    return {"rows": len(targets), "classes": len(data.classes), "digest": digest[:16]}


def _padded(data: Dataset, least: int) -> Dataset:
    """Images with black around them where a model needs more pixels."""
    _, side = image_shape(data.train)
    if side >= least:
        return data
    before = (least - side) // 2
    after = least - side - before
    frame = (before, after, before, after)

    def framed(split: Split | None) -> Split | None:
        return None if split is None else replace(split, inputs=F.pad(split.inputs, frame))

    parts: dict[str, Any] = {
        name: framed(getattr(data, name)) for name in ("train", "validation", "test")
    }
    return replace(data, **parts)


def feed_of(
    recipe: Recipe, data: Dataset, options: Options, *, rank: int, world: int,
    device: torch.device,
) -> Feed:  # fmt: skip
    """What is read at each step.

    Raises:
        ValueError: if the training set does not fill one batch.
    """
    shared: dict[str, Any] = {"rank": rank, "world": world, "device": device}
    feed: Feed
    if recipe.time is None:
        feed = Images(
            data, recipe.batch_size, options.seed, recipe.augment, workers=options.workers, **shared
        )
    elif recipe.model.startswith("lstm"):
        feed = Streams(data, recipe.batch_size, recipe.time, **shared)
    else:
        feed = Windows(data, recipe.batch_size, recipe.time, seed=options.seed, **shared)
    if feed.steps_per_epoch < 1:
        what = "rows" if recipe.time is None else "tokens"
        raise ValueError(
            f"batch_size={recipe.batch_size}: the training set of {recipe.data} has "
            f"{len(data.train)} {what}, which fill no batch; pass a smaller one."
        )
    return feed


def model_of(recipe: Recipe, data: Dataset, options: Options) -> nn.Module:
    """The recipe's model for its data, with weights from torch's generator."""
    classes = len(data.classes)
    if recipe.time is not None:
        given = fitted(recipe.model, classes=classes, context=recipe.time)
    else:
        channels, side = image_shape(data.train)
        given = fitted(recipe.model, classes=classes, channels=channels, side=side)
    return build(recipe.model, **{**given, **recipe.model_settings, **options.model})


def optimizer_of(recipe: Recipe, model: nn.Module, steps_per_epoch: int) -> Any:
    """The algorithm on the model's parameters: of transformers matrices decay, of others all."""
    decay: Any = recipe.weight_decay
    if recipe.normalized and not recipe.schedule.startswith("restarts"):
        decay = Normalized(
            decay, batch_size=1, dataset_size=steps_per_epoch, epochs=recipe.epochs
        )  # fmt: skip
    chosen = algorithm(recipe.algorithm)
    transformer = recipe.model.startswith(("vit", "gpt"))
    parameters = param_groups(model) if transformer else model.parameters()
    return chosen.create(parameters, lr=recipe.lr, weight_decay=decay, **recipe.settings)


def schedulers_of(recipe: Recipe, optimizer: Any, steps_per_epoch: int) -> list[Any]:
    """What is stepped after each step of the optimizer."""
    total = recipe.epochs * steps_per_epoch
    curve = _curve(recipe, steps_per_epoch)
    if recipe.normalized and isinstance(curve, cosine_warm_restarts):
        return [JointScheduler(optimizer, lr=curve, weight_decay=normalized_decay(curve))]
    schedulers: list[Any] = [CurveLR(optimizer, curve)]
    if recipe.decay_schedule:
        schedulers.append(exponential_decay(optimizer, rate=_rate(recipe, total)))
    return schedulers


def _rate(recipe: Recipe, total: int) -> float:
    """The paper's factor of the weight decay in a step; in a shorter run it ends at the same."""
    from . import RECIPES

    published = RECIPES.get(recipe.name)
    if published is None or _length(published) == _length(recipe):
        return _RATE
    return float(_RATE ** (cost(published).steps / total))


def _length(recipe: Recipe) -> tuple[object, ...]:
    return recipe.data, recipe.epochs, recipe.batch_size


def snapshot_steps(recipe: Recipe, steps_per_epoch: int) -> frozenset[int]:
    """Steps after which a cycle of a schedule with restarts has ended."""
    curve = _curve(recipe, steps_per_epoch)
    if not isinstance(curve, cosine_warm_restarts):
        return frozenset()
    unit = curve.steps_per_epoch
    ends = curve.snapshot_epochs(recipe.epochs * steps_per_epoch // unit)
    return frozenset(unit * end for end in ends)


def _curve(recipe: Recipe, steps_per_epoch: int) -> Curve:
    return schedule_named(recipe.schedule, recipe.epochs * steps_per_epoch, steps_per_epoch)
