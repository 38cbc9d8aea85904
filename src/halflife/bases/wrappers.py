"""Optimizers that hold another one and pass some calls on: accelerate's, Fabric's, Lightning's."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

__all__ = ["unwrapped"]


def unwrapped(optimizer: Any) -> Any:
    """The optimizer that takes the steps: of a wrapper the innermost ``.optimizer``, else itself.

    A wrapper shares the groups. Its class is another one, it may not have the hooks, and its
    ``step`` need not be one: those that only accumulate gradients are left out.
    """
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer
