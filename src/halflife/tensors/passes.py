"""Passes over weights and gradients, for decay that the native step does not take itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..checks import Scalar
from .elementwise import multiply_halves, sweep
from .packs import Packs
from .reduction import is_sharded, part_like, shards
from .rounding import Seed, is_half, next_step

__all__ = ["add_to_gradients", "multiply_weights"]


def multiply_weights(
    group: dict[str, Any], factor: Scalar, skipped: Any, packs: Packs | None = None
) -> None:
    """Multiply a group's weights that have a gradient.

    Args:
        group: the parameter group.
        factor: what remains of each weight.
        skipped: a gradient scaler's tensor, positive where this step is not to be taken, or None.
        packs: for small tensors on an accelerator.
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
            torch._foreach_mul_(full, _beside(factor, full))
        if len(full) < len(weights):
            numbered = zip(positions, weights, strict=True)
            halves = {i: w for i, w in numbered if is_half(w)}
            with torch.no_grad():
                multiply_halves(group, halves, factor, packs)


def add_to_gradients(
    group: dict[str, Any],
    coefficient: Scalar,
    scale: Tensor | None = None,
    packs: Packs | None = None,
) -> list[tuple[Tensor, Tensor | None]]:
    """What to put back, after a multiple of the weights has been added to the gradients.

    Args:
        group: the parameter group.
        coefficient: the multiple.
        scale: what the native step will divide the gradients by, under a gradient scaler.
        packs: for small tensors on an accelerator.

    Raises:
        ValueError: if a gradient is sparse, as the sum is not.
    """
    amount = -coefficient if group.get("maximize") else coefficient
    amount = amount if scale is None else amount * scale
    step = next_step(group)
    places = [i for i, p in enumerate(group["params"]) if p.grad is not None]
    params = [group["params"][i] for i in places]
    saved: list[tuple[Tensor, Tensor | None]] = [(p, p.grad) for p in params]
    if any(g is not None and g.is_sparse for _, g in saved):
        raise ValueError(
            f"decay={group.get('decay')!r}: a gradient is sparse, and with a multiple of the "
            "weights it is no longer; use sparse=False in the embedding, or decay='decoupled'."
        )
    halves = {i: p for i, p in zip(places, params, strict=True) if is_half(p)}
    full = [p for p in params if not is_half(p)]
    if group.get("differentiable"):
        for p in full:  # the derivative by the amount is a weight, as it is before the step writes
            p.grad = (p.grad + amount * p.clone()).to(p.dtype)  # a tensor's may be wider
        return saved
    with torch.no_grad():
        if full:
            _add(full, amount)
        if halves:
            _add_rounded(halves, amount, step, packs)
    return saved


def _add(params: list[Tensor], amount: Scalar) -> None:
    grads: list[Any] = [p.grad for p in params]
    # foreach takes no mixture of DTensors and plain tensors; in a graph, which makes one of several
    # operations by itself, its result would have the precision of the amount.
    wide = torch.compiler.is_compiling() or (isinstance(amount, Tensor) and amount.dim() > 0)
    if wide or any(map(is_sharded, params)):
        sums = [(g + amount * p).to(p.dtype) for p, g in zip(params, grads, strict=True)]
    else:
        sums = list(torch._foreach_mul(params, _beside(amount, params)))
        torch._foreach_add_(sums, grads)
    for p, total in zip(params, sums, strict=True):
        p.grad = total


def _beside(amount: Scalar, tensors: list[Tensor]) -> Scalar:
    """The amount where the tensors are: foreach takes no tensor of the host beside a device's."""
    if isinstance(amount, Tensor) and amount.is_cpu and not tensors[0].is_cpu:
        return amount.to(tensors[0].device, non_blocking=True)
    return amount


def _add_rounded(
    params: dict[int, Tensor], amount: Scalar, step: Seed, packs: Packs | None
) -> None:
    weights = list(params.values())
    given: list[Any] = [p.grad for p in weights]
    given = shards([g.to_dense() if g.is_sparse else g for g in given], like=weights)
    sums = list(torch._foreach_mul(given, 1.0))
    rows = dict(zip(params, map(list, zip(sums, shards(weights), strict=True)), strict=True))

    def add(g: Tensor, w: Tensor) -> None:
        if isinstance(amount, Tensor):
            g.add_(w * amount)
        else:
            g.add_(w, alpha=amount)

    sweep(add, rows, step, packs)
    for p, total in zip(weights, sums, strict=True):
        p.grad = part_like(p, total)
