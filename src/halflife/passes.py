"""Passes over weights and gradients, for decay that the native step does not take itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .decay import Scalar
from .reduction import shards
from .rounding import change, is_half, next_step, seed_at, stochastic

__all__ = ["add_to_gradients", "multiply_weights"]


def multiply_weights(group: dict[str, Any], factor: Scalar, skipped: Any) -> None:
    """Multiply a group's weights that have a gradient.

    Args:
        group: the parameter group.
        factor: what remains of each weight.
        skipped: a gradient scaler's tensor, positive where this step is not to be taken, or None.
    """
    # By shard: foreach takes no mixture of DTensors and plain tensors.
    params = shards([p for p in group["params"] if p.grad is not None])
    if skipped is not None:
        keep = torch.ones((), dtype=torch.float64, device=skipped.device)
        factor = torch.where(skipped > 0, keep, keep * factor)
    if not params or (not isinstance(factor, Tensor) and factor == 1.0):
        return
    with torch.set_grad_enabled(bool(group.get("differentiable"))):
        if whole := [p for p in params if not is_half(p)]:
            torch._foreach_mul_(whole, factor)
        step = next_step(group)
        for number, p in enumerate(params):
            if is_half(p):
                change(p.detach(), seed_at(step, number), lambda w: w.mul_(factor))


def add_to_gradients(
    group: dict[str, Any], coefficient: Scalar
) -> list[tuple[Tensor, Tensor | None]]:
    """Add a multiple of the weights to the gradients; returns what to put back."""
    amount = -coefficient if group.get("maximize") else coefficient
    saved: list[tuple[Tensor, Tensor | None]] = []
    step = next_step(group)
    with torch.no_grad():
        for number, p in enumerate(group["params"]):
            if p.grad is None:
                continue
            saved.append((p, p.grad))
            if is_half(p):
                exact = p.grad.float() + amount * p.float()
                p.grad = stochastic(exact, p.dtype, seed_at(step, number))
            else:
                p.grad = p.grad + amount * p
    return saved
