"""GoogLeNet of Szegedy et al. 2015 in its form for CIFAR: nine inception modules with batch norm.

A module puts side by side four branches of the same input: a convolution of size 1; one of size 1
and one of size 3; one of size 1 and two of size 3 in the place of one of size 5; a maximum over 3x3
and one of size 1. A maximum over 3x3 at stride 2 follows the second and the seventh module.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...checks import require_count
from .layers import Classifier, convolution, require_images

__all__ = ["googlenet"]

# Channels: of the first branch; of the second, reduced and then; of the third, likewise; of the
# fourth. Table 1 of the paper; None is the maximum that halves height and width.
_MODULES = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def googlenet(*, classes: int = 100, channels: int = 3, width: int = 192) -> nn.Module:
    """GoogLeNet for images of 32 pixels, as `kuangliu/pytorch-cifar` has it.

    One convolution of size 3 to 192 channels in the place of the first layers, batch norm after
    every convolution, no auxiliary classifiers, no dropout. All is initialised as torch has it.

    Args:
        classes: of the images.
        channels: of the images.
        width: channels of the first convolution; those of the modules are in proportion.

    Returns:
        A module from images ``[batch, channels, height, width]`` to logits ``[batch, classes]``;
        it halves height and width twice, rounding up.

    Raises:
        ValueError: for a number of classes or channels that is none.

    Example:
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in googlenet(classes=10).parameters())
        6166250
    """
    require_images(classes, channels)
    require_count("width", width, "pass the channels of the first convolution")
    layers: list[nn.Module] = [_normalized(channels, width, 3)]
    inputs = width
    for module in _MODULES:
        if module is None:
            layers.append(nn.MaxPool2d(3, 2, 1))
            continue
        one, reduced3, three, reduced5, five, pooled = (
            max(1, count * width // 192) for count in module
        )
        layers.append(
            _Branches(
                _normalized(inputs, one, 1),
                nn.Sequential(_normalized(inputs, reduced3, 1), _normalized(reduced3, three, 3)),
                nn.Sequential(
                    _normalized(inputs, reduced5, 1),
                    _normalized(reduced5, five, 3),
                    _normalized(five, five, 3),
                ),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), _normalized(inputs, pooled, 1)),
            )
        )
        inputs = one + three + five + pooled
    return Classifier(nn.Sequential(*layers), inputs, classes)


class _Branches(nn.Module):
    """What branches make of the same input, side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([branch(inputs) for branch in self.branches], 1)


def _normalized(inputs: int, outputs: int, size: int) -> nn.Sequential:
    layer = convolution(inputs, outputs, size, bias=True)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
