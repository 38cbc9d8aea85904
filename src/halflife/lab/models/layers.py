"""What the families share: convolutions, optional batch norm, a classifier, He's initialisation.

A network for images is a stack of convolutions, the mean of what it gives over the places, and a
linear layer. So it takes images of any size that its strides allow, and keeps their memory format
up to the mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor, nn

from ...checks import require, require_count

__all__ = [
    "Classifier",
    "batch_norms",
    "convolution",
    "he_fan_out",
    "require_images",
    "require_stem",
]


class Classifier(nn.Module):
    """Logits ``[batch, classes]`` of images ``[batch, channels, height, width]``.

    Args:
        features: the stack, whose output is ``[batch, width, ...]`` over some places.
        width: channels of that output.
        classes: of the images.
    """

    def __init__(self, features: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        return self.head(self.features(images).mean((2, 3)))


def convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, *, bias: bool = False
) -> nn.Conv2d:
    """A convolution that keeps height and width at stride 1: half its odd size is padded."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=bias)


def batch_norms(channels: int, batch_norm: bool) -> list[nn.Module]:
    """One batch norm, or none: what a list of layers is to be spliced with."""
    return [nn.BatchNorm2d(channels)] if batch_norm else []


def he_fan_out(modules: Iterable[nn.Module]) -> None:
    """Draw the kernels of convolutions from N(0, 2 / fan_out), and clear biases.

    He et al. 2015, section 2.2, backward case; fan_out is outputs times the kernel's places. What
    fb.resnet.torch, and torchvision after it, do.
    """
    for module in modules:
        if isinstance(module, nn.Conv2d):
            fan = module.out_channels * math.prod(module.kernel_size)
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def require_images(classes: int, channels: int) -> None:
    """Refuse what is no number of classes or of channels of an image."""
    require_count("classes", classes, "pass the number of classes")
    require_count("channels", channels, "pass 3 for colours, 1 for shades of grey")


def require_stem(stem: str) -> None:
    """Refuse what is neither of the two first layers."""
    known = ("imagenet", "cifar")
    remedy = "'imagenet' reduces images fourfold before the first block, 'cifar' does not"
    require(stem in known, "stem", "'imagenet' or 'cifar'", stem, remedy)
