"""DenseNet-121 and DenseNet-BC-100 of Huang et al. 2017.

In a dense block each layer sees what all layers before it gave, side by side:

    x <- [x, W3 * relu(BN(W1 * relu(BN(x))))]

with W1 of size 1 to four times as many channels as are added (the growth), and W3 of size 3.
Between blocks a transition of size 1 halves the channels, and a mean over 2x2 height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import require_count
from .layers import Classifier, batch_norms, convolution, he_fan_out, require_images, require_stem

__all__ = ["densenet121", "densenet_bc100"]


def densenet121(
    *, classes: int = 100, channels: int = 3, stem: str = "cifar", growth: int = 32
) -> nn.Module:
    """DenseNet-121 of Huang et al. 2017, Table 1: growth 32; 6, 12, 24 and 16 layers in the blocks.

    With the stem ``"imagenet"`` (a convolution of size 7 and stride 2, batch norm, ReLU, a maximum
    over 3x3 at stride 2) structure and initialisation are torchvision's: kernels from
    N(0, 2 / fan_in), the head's weight as torch has it and no bias at first. With ``"cifar"`` (a
    convolution of size 3) they are those of `kuangliu/pytorch-cifar`, where all is initialised as
    torch has it.

    Args:
        classes: of the images.
        channels: of the images.
        stem: first layers, ``"imagenet"`` or ``"cifar"``.
        growth: channels that a layer adds; the first has twice as many.

    Returns:
        A module from images ``[batch, channels, height, width]`` to logits ``[batch, classes]``;
        it reduces them 32-fold with the first stem, 8-fold with the second.

    Raises:
        ValueError: for another stem.

    Example:
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in densenet121(classes=10).parameters())
        6956298
    """
    require_images(classes, channels)
    require_stem(stem)
    require_count("growth", growth, "pass the channels that a layer adds")
    first: list[nn.Module] = [
        convolution(channels, 2 * growth, *((7, 2) if stem == "imagenet" else (3, 1)))
    ]
    if stem == "imagenet":
        first += [nn.BatchNorm2d(2 * growth), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    model = _densenet(first, 2 * growth, growth, (6, 12, 24, 16), True, classes)
    if stem == "imagenet":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(model.head.bias)
    return model


def densenet_bc100(
    *, classes: int = 10, channels: int = 3, growth: int = 12, batch_norm: bool = True
) -> nn.Module:
    """DenseNet-BC of depth 100 for CIFAR: three dense blocks of 16 layers (Huang et al. 2017, 3).

    Structure and initialisation are those of `bearpaw/pytorch-classification`, which Zhuang et al.
    2022 take, and the network without batch norm is theirs (`AdamW-Scale-free`): kernels from
    N(0, 2 / fan_out), the head as torch has it.

    Args:
        classes: of the images.
        channels: of the images.
        growth: channels that a layer adds; the papers' is 12.
        batch_norm: normalise before each ReLU.

    Returns:
        A module from images ``[batch, channels, height, width]`` to logits ``[batch, classes]``;
        it reduces them 4-fold.

    Raises:
        ValueError: for a growth that is no count.

    Example:
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in densenet_bc100().parameters())
        769162
    """
    require_images(classes, channels)
    require_count("growth", growth, "pass the channels that a layer adds, such as 12")
    first: list[nn.Module] = [convolution(channels, 2 * growth, 3)]
    model = _densenet(first, 2 * growth, growth, (16, 16, 16), batch_norm, classes)
    he_fan_out(model.modules())
    return model


def _densenet(
    layers: list[nn.Module],
    width: int,
    growth: int,
    depths: Sequence[int],
    batch_norm: bool,
    classes: int,
) -> Classifier:
    for block, depth in enumerate(depths):
        if block:
            half = width // 2
            layers += [_Activated(width, batch_norm), convolution(width, half, 1), nn.AvgPool2d(2)]
            width = half
        for _ in range(depth):
            layers.append(_Dense(width, growth, batch_norm))
            width += growth
    return Classifier(nn.Sequential(*layers, _Activated(width, batch_norm)), width, classes)


class _Activated(nn.Module):
    """ReLU, after batch norm if there is to be one."""

    def __init__(self, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.normalization = nn.BatchNorm2d(width) if batch_norm else None

    def forward(self, inputs: Tensor) -> Tensor:
        if self.normalization is None:
            return F.relu(inputs)  # those of others too: not in place
        return F.relu(self.normalization(inputs), inplace=True)


class _Dense(nn.Module):
    """What came in, and beside it the channels that this layer adds.

    One `torch.cat` a layer: the layers get the whole from the one before them, and do not put it
    together from its parts again. Backward it adds one slice a layer, not one a pair of layers.
    """

    def __init__(self, inputs: int, growth: int, batch_norm: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Activated(inputs, batch_norm),
            convolution(inputs, 4 * growth, 1),
            *batch_norms(4 * growth, batch_norm),
            nn.ReLU(inplace=True),
            convolution(4 * growth, growth, 3),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat((inputs, self.layers(inputs)), 1)
