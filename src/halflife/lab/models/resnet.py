"""ResNet-18, -34 and -50 of He et al. 2016 for ImageNet, and their form for images of 32 pixels.

Four stages of blocks, 64, 128, 256 and 512 channels wide; the first block of the later three halves
height and width. A basic block has two convolutions of size 3, a bottleneck one of size 1, one of
size 3 and one of size 1 to four times as many channels. A shortcut that changes the shape is option
B, a convolution of size 1 with batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...checks import require_count
from .layers import Classifier, convolution, he_fan_out, require_images, require_stem

__all__ = ["resnet18", "resnet34", "resnet50"]


def resnet18(
    *, classes: int = 1000, channels: int = 3, stem: str = "imagenet", width: int = 64
) -> nn.Module:
    """ResNet-18 of He et al. 2016, Table 1: basic blocks, 2 a stage.

    With the stem ``"imagenet"`` (a convolution of size 7 and stride 2, a maximum over 3x3 at stride
    2) structure and initialisation are torchvision's: kernels from N(0, 2 / fan_out), the head as
    torch has it. With ``"cifar"`` (a convolution of size 3) they are those of
    `kuangliu/pytorch-cifar`, where all is initialised as torch has it.

    Args:
        classes: of the images.
        channels: of the images.
        stem: first layers, ``"imagenet"`` or ``"cifar"``.
        width: channels of the first stage; the later ones double them.

    Returns:
        A module from images ``[batch, channels, height, width]`` to logits ``[batch, classes]``;
        it reduces them 32-fold with the first stem, 8-fold with the second.

    Raises:
        ValueError: for another stem.

    Example:
        >>> sum(p.numel() for p in resnet18(classes=10, stem="cifar").parameters())
        11173962
    """
    return _resnet((2, 2, 2, 2), False, classes, channels, stem, width)


def resnet34(
    *, classes: int = 1000, channels: int = 3, stem: str = "imagenet", width: int = 64
) -> nn.Module:
    """ResNet-34 of He et al. 2016, Table 1: basic blocks, 3, 4, 6 and 3 in the stages.

    All else as in `resnet18`.

    Args:
        classes: of the images.
        channels: of the images.
        stem: first layers, ``"imagenet"`` or ``"cifar"``.
        width: channels of the first stage; the later ones double them.

    Returns:
        A module as that of `resnet18`.

    Raises:
        ValueError: for another stem.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in resnet34().parameters())
        21797672
    """
    return _resnet((3, 4, 6, 3), False, classes, channels, stem, width)


def resnet50(
    *, classes: int = 1000, channels: int = 3, stem: str = "imagenet", width: int = 64
) -> nn.Module:
    """ResNet-50 of He et al. 2016, Table 1: bottlenecks, 3, 4, 6 and 3 in the stages.

    As in torchvision it is the convolution of size 3 that has the stride ("version 1.5"); all else
    as in `resnet18`.

    Args:
        classes: of the images.
        channels: of the images.
        stem: first layers, ``"imagenet"`` or ``"cifar"``.
        width: channels of the first stage; the later ones double them.

    Returns:
        A module as that of `resnet18`.

    Raises:
        ValueError: for another stem.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in resnet50().parameters())
        25557032
    """
    return _resnet((3, 4, 6, 3), True, classes, channels, stem, width)


def _resnet(
    depths: Sequence[int], bottleneck: bool, classes: int, channels: int, stem: str, first: int
) -> nn.Module:
    require_images(classes, channels)
    require_stem(stem)
    require_count("width", first, "pass the channels of the first stage")
    entry = convolution(channels, first, *((7, 2) if stem == "imagenet" else (3, 1)))
    layers = [entry, nn.BatchNorm2d(first), nn.ReLU(inplace=True)]
    if stem == "imagenet":
        layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = first
    for stage, depth in enumerate(depths):
        width = first << stage
        outputs = 4 * width if bottleneck else width
        for block in range(depth):
            stride = 2 if stage and not block else 1
            between = _bottleneck if bottleneck else _basic
            layers.append(_Residual(inputs, outputs, stride, between(inputs, width, stride)))
            inputs = outputs
    model = Classifier(nn.Sequential(*layers), inputs, classes)
    if stem == "imagenet":
        he_fan_out(model.modules())
    return model


class _Residual(nn.Module):
    """Layers beside a shortcut, and a ReLU of their sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.shortcut = nn.Sequential()  # changes nothing
        if stride != 1 or inputs != outputs:
            self.shortcut.append(convolution(inputs, outputs, 1, stride))
            self.shortcut.append(nn.BatchNorm2d(outputs))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.activation(self.layers(inputs) + self.shortcut(inputs))


def _basic(inputs: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, width, 3, stride),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        convolution(width, width, 3),
        nn.BatchNorm2d(width),
    )


def _bottleneck(inputs: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, width, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        convolution(width, width, 3, stride),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        convolution(width, 4 * width, 1),
        nn.BatchNorm2d(4 * width),
    )
