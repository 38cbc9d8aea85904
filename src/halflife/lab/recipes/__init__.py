"""The papers' trainings by name, and what trains them."""

from __future__ import annotations

from collections.abc import Mapping

from . import loshchilov, others, xie
from .recipe import Recipe, require_known

__all__ = ["RECIPES", "Recipe", "recipe"]

RECIPES: Mapping[str, Recipe] = {
    each.name: each
    for module in (xie, loshchilov, others)
    for each in sorted(module.recipes(), key=lambda each: each.name)
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
