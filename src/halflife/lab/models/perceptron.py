"""Multi-layer perceptrons; those of the built-in tasks fit in a cache, a landscape of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

__all__ = ["mlp"]


def mlp(widths: Sequence[int], *, batch_norm: bool = False, slope: float = 0.0) -> nn.Sequential:
    """Linear layers with (leaky) ReLU between them, and batch norm before each ReLU if asked for.

    Batch norm has no affine parameters, and the layers before it no bias: what it would cancel
    has a gradient of pure rounding noise, which Adam would scale up to full-sized steps. Its
    momentum of 1 makes the running statistics those of the last batch seen in training mode, so
    that one pass over the whole training set sets them for evaluation.

    Args:
        widths: features of the input, of each hidden layer, and of the output.
        batch_norm: normalise before each ReLU.
        slope: of the ReLU below 0.

    Example:
        >>> sum(p.numel() for p in mlp([64, 64, 64, 10]).parameters())
        8970
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers.append(nn.Linear(inputs, outputs, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(outputs, affine=False, momentum=1.0))
        layers.append(nn.LeakyReLU(slope) if slope else nn.ReLU())
    layers.append(nn.Linear(widths[-2], widths[-1]))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, slope, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
