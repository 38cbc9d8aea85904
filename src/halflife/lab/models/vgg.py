"""VGG-16 of Simonyan and Zisserman 2015 (configuration D) in its form for CIFAR.

Thirteen convolutions of size 3, with a maximum over 2x2 after the second, fourth, seventh, tenth
and last, and one linear layer where the network for ImageNet has three.
"""

from __future__ import annotations

from torch import nn

from ...checks import require_count
from .layers import Classifier, batch_norms, convolution, he_fan_out, require_images

__all__ = ["vgg16"]

_STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))  # times the width


def vgg16(
    *, classes: int = 10, channels: int = 3, batch_norm: bool = True, width: int = 64
) -> nn.Module:
    """VGG-16 for images of 32 pixels, with one linear layer, as `kuangliu/pytorch-cifar` has it.

    With batch norm all is initialised as torch has it, as there. Without, signals would fade in the
    depth with that; the initialisation is then that of torchvision's VGG: kernels from
    N(0, 2 / fan_out), the head's weight from N(0, 0.01²), no biases.

    Args:
        classes: of the images.
        channels: of the images.
        batch_norm: normalise after each convolution; the convolutions have biases all the same.
        width: channels of the first stage; 2, 4, 8 and 8 times as many in the others.

    Returns:
        A module from images ``[batch, channels, height, width]`` to logits ``[batch, classes]``;
        it reduces them 32-fold, so 32 pixels are the least.

    Raises:
        ValueError: for a number of classes or channels that is none.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in vgg16().parameters())
        14728266
    """
    require_images(classes, channels)
    require_count("width", width, "pass the channels of the first stage")
    layers: list[nn.Module] = []
    inputs = channels
    for stage in _STAGES:
        for factor in stage:
            outputs = factor * width
            layers += [convolution(inputs, outputs, 3, bias=True)]
            layers += [*batch_norms(outputs, batch_norm), nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    model = Classifier(nn.Sequential(*layers), inputs, classes)
    if not batch_norm:
        he_fan_out(model.modules())
        nn.init.normal_(model.head.weight, std=0.01)
        nn.init.zeros_(model.head.bias)
    return model
