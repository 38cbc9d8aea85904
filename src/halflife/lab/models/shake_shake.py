"""Shake-Shake networks of Gastaldi 2017: two branches, mixed at random for each image.

    forward   y = shortcut(x) + a B1(x) + (1 - a) B2(x)
    backward  dB1 = b dy,  dB2 = (1 - b) dy

with a and b drawn from U[0, 1] for each image and each block, independently of each other; b is not
a, so the gradient is not that of the output. At evaluation both are 1/2. This is Shake-Shake-Image,
"Shake" forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import require
from .layers import Classifier, convolution, he_fan_out, require_images

__all__ = ["ShakeShake", "shake_shake26"]


class ShakeShake(torch.autograd.Function):
    """The mixture ``a x1 + (1 - a) x2``, whose gradients are those of ``b x1 + (1 - b) x2``.

    Example:
        >>> first, second = torch.tensor([4.0], requires_grad=True), torch.tensor([8.0])
        >>> mixed = ShakeShake.apply(first, second, torch.tensor([0.25]), torch.tensor([0.9]))
        >>> mixed.backward()
        >>> mixed.item(), round(first.grad.item(), 6)
        (7.0, 0.9)
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, forth: Tensor, back: Tensor) -> Tensor:
        """The mixture.

        Args:
            ctx: torch's.
            first: output of one branch.
            second: output of the other, of the same shape.
            forth: the share a of the first, of a shape that can be broadcast.
            back: the share b of the first in the gradient, likewise.
        """
        ctx.save_for_backward(back)
        return torch.lerp(second, first, forth)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Shares of the gradient; the coefficients have none."""
        (back,) = ctx.saved_tensors
        first = back * gradient
        return first, gradient - first, None, None


def shake_shake26(width: int, *, classes: int = 10, channels: int = 3) -> nn.Module:
    """The 26-layer Shake-Shake network with two branches of `width` channels (26 2x64d for 64).

    Structure and initialisation are those of `xgastaldi/shake-shake`, which Loshchilov and Hutter
    2019 take: a convolution to 16 channels and batch norm; three stages of four blocks, of `width`,
    2 `width` and 4 `width` channels, a branch of which is ReLU, convolution, batch norm, ReLU,
    convolution, batch norm; ReLU, mean, linear layer. A shortcut that changes the shape is ReLU,
    then every second pixel and, beside it, every second pixel of the image shifted by one down and
    right, each through a convolution of size 1 to half the channels, then batch norm. Kernels are
    from N(0, 2 / fan_out), the head's weight as torch has it, its bias 0.

    Args:
        width: channels of a branch in the first stage: 64 or 96 in the paper (11.7 and 26.2 million
            parameters), 32 in Gastaldi's.
        classes: of the images.
        channels: of the images.

    Returns:
        A module from images ``[batch, channels, height, width]`` to logits ``[batch, classes]``;
        two stages halve height and width, rounding up. In training mode a forward pass draws from
        torch's generator of the images' device.

    Raises:
        ValueError: for a width that is not even.

    Example:
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in shake_shake26(32).parameters())
        2923162
    """
    require_images(classes, channels)
    whole = isinstance(width, int) and width > 0 and width % 2 == 0
    require(whole, "width", "a positive even number", width, "pass 64 for 26 2x64d")
    layers = [convolution(channels, 16, 3), nn.BatchNorm2d(16)]
    inputs = 16
    for stage in range(3):
        outputs = width << stage
        for block in range(4):
            layers.append(_Shaken(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    model = Classifier(nn.Sequential(*layers, nn.ReLU(inplace=True)), inputs, classes)
    he_fan_out(model.modules())
    nn.init.zeros_(model.head.bias)
    return model


class _Shaken(nn.Module):
    """Two branches of one input, mixed, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _branch(inputs, outputs, stride)
        self.second = _branch(inputs, outputs, stride)
        self.shortcut = None if inputs == outputs else _Shifted(inputs, outputs, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        positive = F.relu(inputs)  # once, for all that begin with it
        mixed = _mixed(self.first(positive), self.second(positive), self.training)
        return mixed + (inputs if self.shortcut is None else self.shortcut(positive))


class _Shifted(nn.Module):
    """Two convolutions of size 1, the second of the image shifted by a pixel, side by side."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        # A convolution of size 1 with a stride sees every second pixel.
        self.here = convolution(inputs, outputs // 2, 1, stride)
        self.shifted = convolution(inputs, outputs // 2, 1, stride)
        self.normalization = nn.BatchNorm2d(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        moved = F.pad(inputs, (1, -1, 1, -1))
        return self.normalization(torch.cat((self.here(inputs), self.shifted(moved)), 1))


def _branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, outputs, 3, stride),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        convolution(outputs, outputs, 3),
        nn.BatchNorm2d(outputs),
    )


def _mixed(first: Tensor, second: Tensor, training: bool) -> Tensor:
    if not training:
        return torch.lerp(second, first, 0.5)
    # Drawn in float32 whatever the branches are in: a bfloat16 has 256 values in [0, 1).
    shares = torch.rand(2, len(first), 1, 1, 1, device=first.device, dtype=torch.float32)
    forth, back = shares.to(first.dtype).unbind()
    return ShakeShake.apply(first, second, forth, back)
