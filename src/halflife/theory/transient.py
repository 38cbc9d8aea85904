r"""Predicted weight RMS along a run of Adam, if its gradients were pure noise.

The equilibrium of `halflife.theory.equilibrium` is where a long run at constant settings ends. A
run of a few hundred steps under a schedule is seldom there, but its mean square follows exactly.
With gradients of unit size, independent from step to step, and bias-corrected momentum

    m' = b m + (1 - b) g        u = m' / (1 - b^t)        w' = (1 - d_t) w - s_t u

the three second moments of ``(w, m)`` close, and start from the measured initial weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mean_square", "mean_square_path"]


def mean_square(fractions: Tensor, sizes: Tensor, beta1: float, initial: Tensor) -> Tensor:
    """Expected mean square of the weights after the run: the last row of `mean_square_path`.

    Args:
        fractions: ``d_t``, share of each weight removed at each step. Shape ``[T, E]``.
        sizes: ``s_t``, the multiple of Adam's direction subtracted. Shape ``[T, E]``.
        beta1: Adam's averaging factor of the gradient, ``b``.
        initial: mean square of the initial weights. Shape ``[E]``.

    Returns:
        Shape ``[E]``, float64.

    Example:
        >>> once = torch.ones(1, 1, dtype=torch.float64)  # one step: (1 - d)^2 w^2 + s^2
        >>> mean_square(0.5 * once, 0.1 * once, beta1=0.9, initial=torch.tensor([4.0]))
        tensor([1.0100], dtype=torch.float64)
    """
    return mean_square_path(fractions, sizes, beta1, initial)[-1]


def mean_square_path(fractions: Tensor, sizes: Tensor, beta1: float, initial: Tensor) -> Tensor:
    """Expected mean square of the weights before the run and after each of its steps.

    Args:
        fractions: as for `mean_square`, as are the others.
        sizes: ``s_t``.
        beta1: ``b``.
        initial: mean square of the initial weights.

    Returns:
        Shape ``[T + 1, E]``, float64.

    Example:
        >>> twice = torch.full((2, 1), 0.5)  # without steps: it shrinks by 1/4 each time
        >>> mean_square_path(twice, 0 * twice, beta1=0.9, initial=torch.tensor([16.0])).T
        tensor([[16.,  4.,  1.]], dtype=torch.float64)
    """
    weight = initial.double()
    momentum = torch.zeros_like(weight)
    product = torch.zeros_like(weight)  # E[w m]; 0 as long as nothing has moved
    correction = 1.0
    path = [weight]
    for d, s in zip(fractions.double(), sizes.double(), strict=True):
        correction *= beta1
        kept, size = 1.0 - d, s / (1.0 - correction)
        momentum = beta1**2 * momentum + (1.0 - beta1) ** 2
        product = beta1 * product  # E[w m'] before the step: the new gradient is independent of w
        weight = kept**2 * weight - 2.0 * kept * size * product + size**2 * momentum
        product = kept * product - size * momentum
        path.append(weight)
    return torch.stack(path)
