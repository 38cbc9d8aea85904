"""The papers' trainings by name, and what trains them."""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Recipe, require_known
from .loshchilov import loshchilov_trainings
from .others import other_trainings
from .own import own_trainings
from .xie import xie_trainings

__all__ = ["RECIPES", "Recipe", "recipe"]

RECIPES: Mapping[str, Recipe] = {
    each.name: each
    for trainings in (xie_trainings, loshchilov_trainings, other_trainings, own_trainings)
    for each in sorted(trainings(), key=lambda each: each.name)
}


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: for another name, with the nearest.

    Example:
        >>> found = recipe("000/resnet18-cifar10/adams")
        >>> found.weight_decay, found.epochs, found.published
        (0.0005, 200, '4.91 %')
    """
    return require_known(name, RECIPES)
