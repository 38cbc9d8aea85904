"""Passes over weights and gradients, for decay that the native step does not take itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..checks import Scalar
from . import rounding
from .reduction import shards
from .rounding import is_half, next_step, seed_at, stochastic

__all__ = ["add_to_gradients", "multiply_weights"]


def multiply_weights(group: dict[str, Any], factor: Scalar, skipped: Any) -> None:
    """Multiply a group's weights that have a gradient.

    Args:
        group: the parameter group.
        factor: what remains of each weight.
        skipped: a gradient scaler's tensor, positive where this step is not to be taken, or None.
    """
    if skipped is not None:
        keep = torch.ones((), dtype=torch.float64, device=skipped.device)
        factor = torch.where(skipped > 0, keep, keep * factor)
    if not isinstance(factor, Tensor) and factor == 1.0:
        return
    positions = [i for i, p in enumerate(group["params"]) if p.grad is not None]
    # By shard: foreach takes no mixture of DTensors and plain tensors.
    weights = shards([group["params"][i] for i in positions])
    with torch.set_grad_enabled(bool(group.get("differentiable"))):
        if full := [w for w in weights if not is_half(w)]:
            torch._foreach_mul_(full, factor)
        if len(full) < len(weights):
            numbered = zip(positions, weights, strict=True)
            rounding.multiply(group, {i: w.detach() for i, w in numbered if is_half(w)}, factor)


def add_to_gradients(
    group: dict[str, Any], coefficient: Scalar, scale: Tensor | None = None
) -> list[tuple[Tensor, Tensor | None]]:
    """What to put back, after a multiple of the weights has been added to the gradients.

    Args:
        group: the parameter group.
        coefficient: the multiple.
        scale: what the native step will divide the gradients by, under a gradient scaler.
    """
    amount = -coefficient if group.get("maximize") else coefficient
    amount = amount if scale is None else amount * scale
    saved: list[tuple[Tensor, Tensor | None]] = []
    step = next_step(group)
    differentiable = bool(group.get("differentiable"))
    with torch.set_grad_enabled(differentiable):
        for number, p in enumerate(group["params"]):
            if p.grad is None:
                continue
            saved.append((p, p.grad))
            if is_half(p):
                exact = p.grad.float() + amount * p.float()
                p.grad = stochastic(exact, p.dtype, seed_at(step, number))
            else:
                # The derivative by the amount is a weight, as it is before the step writes it.
                w = p.clone() if differentiable else p
                p.grad = (p.grad + amount * w).to(p.dtype)  # a tensor's may be wider
    return saved
