r"""Decay as a constraint: how much of the ball that it keeps the weights in is used.

If updates are bounded in a norm, ``|u| <= 1``, then ``w <- (1 - lr wd) w - lr u`` never leaves the
ball ``|w| <= 1/wd`` of that norm once it is inside. Where such a run converges, it does so to a
stationary point of the loss *on the ball*: decay acts as a bound and not as a penalty.

    sign updates (Lion; Adam, nearly)    max |w| <= 1/wd
    orthogonal updates (Muon)            sigma_max(w) <= scale/wd

The share of the ball that is used is a diagnostic: where it is near 1, the decay binds; far below,
the weights would not notice the bound.

Sources: Xie & Li, "Implicit bias of AdamW", ICML 2024; Chen et al., "Lion secretly solves
constrained optimization", ICLR 2024; Chen, Li & Liu, "Muon optimizes under spectral norm
constraints", 2025. Adam's updates can exceed 1 while gradients grow (`largest_update`), so for
AdamW the bound describes where a run ends, and is no bound on every step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import require, require_momentum, require_nonnegative, require_positive

__all__ = ["largest_update", "max_norm_use", "spectral_norm_use"]


def max_norm_use(weights: Tensor, weight_decay: float) -> float:
    """``wd max|w|``: the share of the ball that AdamW or Lion keeps the weights in, about 0 to 1.

    Args:
        weights: of any shape.
        weight_decay: wd of `Decoupled`; of another rule its fraction over lr. Unit: 1/lr.

    Raises:
        ValueError: if weight_decay is negative.

    Example:
        >>> max_norm_use(torch.tensor([2.0, -5.0]), weight_decay=0.1)
        0.5
    """
    require_nonnegative("max_norm_use: weight_decay", weight_decay, "pass fraction / lr")
    if not weights.numel():
        return 0.0
    return weight_decay * weights.detach().abs().max().item()


def spectral_norm_use(matrix: Tensor, weight_decay: float, scale: float = 1.0) -> float:
    """``wd sigma_max / scale``: the share of the ball that Muon keeps a matrix in.

    Args:
        matrix: of two dimensions.
        weight_decay: wd of `Decoupled`; of another rule its fraction over lr. Unit: 1/lr.
        scale: by which the implementation multiplies the lr of an update, but not of the decay;
            see `halflife.theory.orthogonal.update_rms`.

    Raises:
        ValueError: if weight_decay is negative, scale not positive, or matrix is none.

    Example:
        >>> spectral_norm_use(torch.diag(torch.tensor([3.0, 4.0])), weight_decay=0.125)
        0.5
    """
    require_nonnegative("spectral_norm_use: weight_decay", weight_decay, "pass fraction / lr")
    require_positive("spectral_norm_use: scale", scale, "pass 1 for plain orthogonal updates")
    shape, remedy = tuple(matrix.shape), "flatten a kernel's last dimensions as the optimizer does"
    require(len(shape) == 2, "spectral_norm_use: matrix", "of two dimensions", shape, remedy)
    if not matrix.numel():
        return 0.0
    sigma = torch.linalg.matrix_norm(matrix.detach().double(), ord=2).item()
    return weight_decay * sigma / scale


def largest_update(beta1: float, beta2: float) -> float:
    """The largest entry that Adam's update direction can have, once bias correction is over.

    ``(1 - beta1) / sqrt((1 - beta2) (1 - beta1^2 / beta2))`` by Cauchy-Schwarz, met by gradients
    that grow by ``beta2 / beta1`` per step; infinite if ``beta1^2 >= beta2``.

    Args:
        beta1: averaging factor of the gradient.
        beta2: of its square.

    Raises:
        ValueError: if a beta is not in [0, 1).

    Example:
        >>> round(largest_update(0.9, 0.999), 2)
        7.27
    """
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        require_momentum(f"largest_update: {name}", value)
    if beta1**2 >= beta2:
        return math.inf if beta1 > 0.0 else 1.0
    return (1.0 - beta1) / math.sqrt((1.0 - beta2) * (1.0 - beta1**2 / beta2))
