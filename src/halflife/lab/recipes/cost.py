"""What a recipe would cost: steps, parameters, and the arithmetic of all of its epochs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..models import build
from .entry import Recipe
from .fitting import fitted

__all__ = ["Cost", "cost", "network"]

# Rows of the official training set, side of its images, classes; tokens and vocabulary of text.
_IMAGES = {
    "cifar10": (50_000, 32, 10),
    "cifar100": (50_000, 32, 100),
    "imagenet32": (1_281_167, 32, 1000),
    "imagenet": (1_281_167, 224, 1000),
}
_TEXTS = {"ptb": (929_589, 10_000), "text": (1_000_000, 100)}  # of a text, a million characters


@dataclass(frozen=True)
class Cost:
    """What a recipe would cost.

    Attributes:
        parameters: of the model.
        steps: of the optimizer.
        petaflop: of forward and backward passes, three times those of a forward pass; additions
            and multiplications counted apart, convolutions, matrix products and attention alone.
    """

    parameters: int
    steps: int
    petaflop: float


def cost(recipe: Recipe) -> Cost:
    """What a recipe would cost, from its model's shapes alone.

    Raises:
        ValueError: for data of which no official size is known.

    Example:
        >>> from . import recipe
        >>> found = cost(recipe("004/resnet20-nobn-cifar10/adamw"))
        >>> found.parameters, found.steps, round(found.petaflop, 1)
        (268346, 117000, 3.6)
    """
    if recipe.data not in {**_IMAGES, **_TEXTS}:
        raise ValueError(
            f"data={recipe.data!r}: the cost is known of {', '.join({**_IMAGES, **_TEXTS})}; ask "
            "it of the published recipe."
        )
    flops, parameters = _of_a_row(
        recipe.model, recipe.data, recipe.time, tuple(sorted(recipe.model_settings.items()))
    )
    if recipe.time is None:
        rows = _IMAGES[recipe.data][0]
        steps = recipe.epochs * (rows // recipe.batch_size)
        seen = steps * recipe.batch_size
    else:
        rows = _TEXTS[recipe.data][0] // recipe.batch_size
        steps = recipe.epochs * -(-rows // recipe.time)
        seen = recipe.epochs * rows * recipe.batch_size
    return Cost(parameters, steps, 3.0 * flops * seen / 1e15)


def network(recipe: Recipe) -> nn.Module:
    """The recipe's model for the official data, with weights from torch's generator."""
    return build(
        recipe.model, **_settings(recipe.model, recipe.data, recipe.time), **recipe.model_settings
    )


def _settings(model: str, data: str, time: int | None) -> Mapping[str, Any]:
    if data in _TEXTS:
        return fitted(model, classes=_TEXTS[data][1], context=time)
    _, side, classes = _IMAGES[data]
    return fitted(model, classes=classes, side=side)


@functools.cache
def _of_a_row(
    model: str, data: str, time: int | None, own: tuple[tuple[str, Any], ...]
) -> tuple[float, int]:
    """Operations of a forward pass of one image, or one token, and the parameters."""
    with torch.device("meta"):
        module = build(model, **_settings(model, data, time), **dict(own)).eval()
        if time is None:
            side = _IMAGES[data][1]
            row, count = torch.empty(1, 3, side, side), 1
        else:
            row, count = torch.zeros(1, time, dtype=torch.long), time
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(row)
    parameters = sum(p.numel() for p in module.parameters())
    return counter.get_total_flops() / count, parameters
