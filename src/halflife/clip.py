"""Gradient clipping that hands its norms over to the optimizer.

The global norm of the gradients is exactly what `Stable` needs. A clip that has just computed it
need not be followed by a second pass over the gradients.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from .effective_rate import HandedSquares
from .reduction import WholeModel, like, plus

__all__ = ["clip_grad_norm_"]


@torch.no_grad()
def clip_grad_norm_(
    optimizer: Optimizer, max_norm: float, *, error_if_nonfinite: bool = False
) -> Tensor:
    r"""Scale the gradients of all the optimizer's parameters so that their norm is at most a bound.

    ``g <- g * min(1, max_norm / (||g|| + 1e-6))``, with ``||g||`` the Euclidean norm of all
    gradients as one vector: `torch.nn.utils.clip_grad_norm_` over every group. The norms of this
    call serve the next ``step()`` as long as nobody writes to the gradients in between.

    Args:
        optimizer: any optimizer; only a `halflife.Decayed` one makes use of the norms.
        max_norm: the bound, in units of the gradient; ``inf`` only measures.
        error_if_nonfinite: raise if the norm is infinite or NaN, before anything is scaled.

    Returns:
        The norm before clipping, shape ``[]``.

    Raises:
        ValueError: if ``max_norm`` is negative or NaN.
        RuntimeError: if the norm is not finite and ``error_if_nonfinite`` is set.

    Example:
        >>> from halflife import SGD
        >>> w = torch.zeros(2, requires_grad=True)
        >>> w.grad = torch.tensor([3.0, 4.0])
        >>> clip_grad_norm_(SGD([w]), max_norm=1.0).item()
        5.0
        >>> w.grad
        tensor([0.6000, 0.8000])
    """
    if not max_norm >= 0.0:
        raise ValueError(
            f"max_norm={max_norm}: must be a number >= 0; pass math.inf to measure only."
        )
    reduction = WholeModel()
    grads = [
        [p.grad for p in group["params"] if p.grad is not None] for group in optimizer.param_groups
    ]
    squares = [reduction.squares(group) if group else None for group in grads]
    present = [terms for terms in squares if terms is not None]
    if not present:
        return torch.zeros(())
    norm = torch.as_tensor(functools.reduce(plus, map(reduction.total, present))).sqrt()
    if error_if_nonfinite and not torch.isfinite(norm):
        raise RuntimeError(
            f"clip_grad_norm_: the gradient norm is {norm.item()}, so it cannot be scaled to "
            f"max_norm={max_norm}; look for the first non-finite loss, or lower the lr."
        )
    # On the host the comparison is free, and most steps clip nothing.
    if math.isfinite(max_norm) and not (norm.is_cpu and norm <= max_norm):
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for group in grads:
            if group:
                torch._foreach_mul_(group, scale.to(group[0].device))
        squares = [None if s is None else s * like(s, scale) ** 2 for s in squares]
    optimizer._handed_squares = {  # type: ignore[attr-defined]
        index: HandedSquares(group, terms)
        for index, (group, terms) in enumerate(zip(grads, squares, strict=True))
        if terms is not None
    }
    return norm
