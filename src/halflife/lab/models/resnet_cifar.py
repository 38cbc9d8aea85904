"""The residual networks of He et al. 2016 for CIFAR, with shortcuts that have no parameters.

A first convolution to 16 channels, then three stages of n blocks each, of 16, 32 and 64 channels;
the first block of the second and the third stage halves height and width. A block is

    y = act(BN(W2 * act(BN(W1 * x))) + shortcut(x))

and the shortcut of a block that changes the shape is option A: every second pixel, and channels of
zeros. With the first convolution and the last layer that is a depth of 6n + 2.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import require, require_nonnegative
from .layers import Classifier, batch_norms, convolution, require_images

__all__ = ["cifar_resnet"]


def cifar_resnet(
    depth: int,
    *,
    classes: int = 10,
    channels: int = 3,
    batch_norm: bool = True,
    leak: float = 0.0,
) -> nn.Module:
    """The CIFAR network of He et al. 2016 (section 4.2) with option A shortcuts.

    Structure and initialisation are those of `akamaster/pytorch_resnet_cifar10`, which Zhuang et
    al. 2022 take, and the network without batch norm is theirs (`AdamW-Scale-free`): the
    convolutions have no bias in it either. Weights of convolutions and of the last layer are drawn
    from N(0, 2 / ((1 + leak²) fan_in)); the last bias is torch's.

    Args:
        depth: 6n + 2 for n blocks a stage: 20, 32, 44, 56, 110, 218 (theirs too), 1202.
        classes: of the images.
        channels: of the images.
        batch_norm: normalise after each convolution.
        leak: slope of the activation below zero; 0 is ReLU, the papers' choice.

    Returns:
        A module from images ``[batch, channels, height, width]`` to logits ``[batch, classes]``;
        two stages halve height and width, rounding up.

    Raises:
        ValueError: for another depth, or a negative leak.

    Example:
        >>> sum(p.numel() for p in cifar_resnet(20).parameters())
        269722
    """
    require_images(classes, channels)
    whole = isinstance(depth, int) and depth >= 8 and (depth - 2) % 6 == 0
    require(whole, "depth", "6n + 2 with n blocks a stage", depth, "pass 20, 44, 56, 110 or 218")
    require_nonnegative("leak", leak, "pass the slope below zero, such as 0.1, or 0 for ReLU")
    layers = [convolution(channels, 16, 3), *batch_norms(16, batch_norm), _activation(leak)]
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(_Block(inputs, outputs, batch_norm, leak))
            inputs = outputs
    model = Classifier(nn.Sequential(*layers), 64, classes)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=leak)
    return model


class _Block(nn.Module):
    """Two convolutions beside a shortcut; it halves height and width where it widens."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool, leak: float) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.added = (outputs - inputs) // 2  # channels of zeros on either side
        self.layers = nn.Sequential(
            convolution(inputs, outputs, 3, self.stride),
            *batch_norms(outputs, batch_norm),
            _activation(leak),
            convolution(outputs, outputs, 3),
            *batch_norms(outputs, batch_norm),
        )
        self.activation = _activation(leak)

    def forward(self, inputs: Tensor) -> Tensor:
        shortcut = inputs
        if self.stride != 1:
            thinned = inputs[:, :, :: self.stride, :: self.stride]
            shortcut = F.pad(thinned, (0, 0, 0, 0, self.added, self.added))
        return self.activation(self.layers(inputs) + shortcut)


def _activation(leak: float) -> nn.Module:
    return nn.LeakyReLU(leak, inplace=True) if leak else nn.ReLU(inplace=True)
