"""Gradient clipping that hands its norms over to the optimizer.

The global norm of the gradients is exactly what `Stable` needs. A clip that has just computed it
need not be followed by a second pass over the gradients.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.effective_rate import HandedSquares
from ..bases.wrappers import unwrapped
from ..checks import is_number
from ..tensors.reduction import WholeModel, like, plus, shards
from .decayed import Decayed

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
        optimizer: any optimizer; those whose rules read the gradients' norm, or Adam's effective
            rate, use the norms.
        max_norm: the bound, in units of the gradient; ``inf`` only measures.
        error_if_nonfinite: raise if the norm is infinite or NaN, before anything is scaled.

    Returns:
        The norm before clipping, shape ``[]``, in float64 where the device has it.

    Raises:
        TypeError: if ``optimizer`` is none.
        ValueError: if ``max_norm`` is negative, NaN or no number.
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
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer={optimizer!r}: must be a torch Optimizer; for a list of parameters use "
            "torch.nn.utils.clip_grad_norm_."
        )
    if not is_number(max_norm) or not max_norm >= 0.0:
        raise ValueError(
            f"max_norm={max_norm!r}: must be a number >= 0; pass math.inf to measure only."
        )
    optimizer = unwrapped(optimizer)
    reduction = WholeModel()
    present = {
        index: grads
        for index, group in enumerate(optimizer.param_groups)
        if (grads := [p.grad for p in group["params"] if p.grad is not None])
    }
    if not present:
        return torch.zeros((), dtype=torch.float64)
    squares = dict(zip(present, reduction.squares_of(list(present.values())), strict=True))
    total = functools.reduce(plus, map(reduction.total, squares.values()))
    on_host = not isinstance(total, Tensor)
    norm: Any = math.sqrt(total) if on_host else total.sqrt()
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"clip_grad_norm_: the gradient norm is {float(norm)}, so it cannot be scaled to "
            f"max_norm={max_norm}; look for the first non-finite loss, or lower the lr."
        )
    scale = max_norm / (norm + 1e-6)
    if math.isinf(max_norm) or (on_host and scale >= 1.0):  # on a device, to look is to wait
        scale = 1.0
    else:
        scale = scale if on_host else scale.clamp(max=1.0)
        for grads in map(shards, present.values()):
            torch._foreach_mul_(grads, scale if on_host else scale.to(grads[0].device))
    measures = optimizer._measures() if isinstance(optimizer, Decayed) else None
    if measures is not None and measures.reads_gradients and (not on_host or math.isfinite(norm)):
        measures.hand(
            {
                index: HandedSquares(grads, squares[index] * like(squares[index], scale) ** 2)
                for index, grads in present.items()
            }
        )
    return torch.as_tensor(norm, dtype=torch.float64) if on_host else norm
