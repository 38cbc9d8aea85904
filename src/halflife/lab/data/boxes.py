r"""Crops that are resized: a box of each image, and the resampling of it.

A box is ``(left, top, width, height)`` in pixels, and its resampling linear in the image:

    out = R_h(box) image R_w(box)^T

with R's rows a triangle that is as wide as the pixels it stands for, Pillow's "bilinear" with its
antialiasing. So a batch of images of one size is two batched matrix products, and an image from a
file is resized by Pillow itself, straight from the box.

Random boxes are those of GoogLeNet's training as it is usually written (Szegedy et al. 2015,
section 6; 000, appendix B.2): area uniform, logarithm of the aspect ratio uniform, at most ten
attempts to fit one into the image, and the largest central box if none fits.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import require, require_count
from .augment import Augmentation

__all__ = ["Boxed", "CentreCrop", "RandomResizedCrop", "resampled"]

_ATTEMPTS = 10


class Boxed(Augmentation):
    """An augmentation that cuts a box of each image and brings all boxes to one size.

    Attributes:
        size: height and width of the result.
        beyond: whether the resampling sees pixels beyond the box, as where an image is resized
            first and then cut, and not the other way round.
    """

    size: int
    beyond: bool = False

    @abstractmethod
    def boxes(self, sizes: Tensor, uniform: Tensor) -> Tensor:
        """Left, top, width and height, float64 ``[rows, 4]``.

        Args:
            sizes: heights and widths of the images, ``[rows, 2]``.
            uniform: in [0, 1), float64 ``[rows, draws]``.
        """

    def flipped(self, uniform: Tensor) -> Tensor | None:
        """Which of the images are flipped; None if this flips none."""
        return None

    def apply(self, images: Tensor, uniform: Tensor, colour: Tensor) -> Tensor:
        """The boxes of images that are of one size."""
        sizes = torch.tensor(images.shape[2:], device=images.device).expand(len(images), 2)
        cut = resampled(images, self.boxes(sizes, uniform), self.size, beyond=self.beyond)
        flipped = self.flipped(uniform)
        if flipped is None:
            return cut
        return torch.where(flipped[:, None, None, None], cut.flip(3), cut)


@dataclass(frozen=True)
class RandomResizedCrop(Boxed):
    """A box of random area and aspect ratio at a random place, and a flip of half of them.

    Args:
        size: height and width of the result.
        scale: least and greatest area, as shares of the image's. 0.08 and 1 (000, appendix B.2).
        ratio: least and greatest width over height. 3/4 and 4/3.
        flip: flip half of the images.

    Raises:
        ValueError: for ranges that are not ascending and above 0, or areas above 1.

    Example:
        >>> crop = RandomResizedCrop(224)
        >>> crop.draws  # ten areas and ratios, a place, a flip
        23
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    draws = 2 * _ATTEMPTS + 3

    def __post_init__(self) -> None:
        require_count("size", self.size, "give the side in pixels")
        require(0 < self.scale[0] <= self.scale[1] <= 1, "scale", "ascending, above 0, at most 1",
                self.scale, "give shares of the image's area")  # fmt: skip
        require(0 < self.ratio[0] <= self.ratio[1], "ratio", "ascending and above 0", self.ratio,
                "give the least and the greatest width over height")  # fmt: skip

    def boxes(self, sizes: Tensor, uniform: Tensor) -> Tensor:
        """Random boxes, of whole pixels."""
        height, width = sizes.double().unbind(1)
        tries = uniform[:, : 2 * _ATTEMPTS].view(-1, _ATTEMPTS, 2)
        share = self.scale[0] + (self.scale[1] - self.scale[0]) * tries[..., 0]
        low, high = (math.log(r) for r in self.ratio)
        aspect = (low + (high - low) * tries[..., 1]).exp()
        area = share * (height * width)[:, None]
        w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (w >= 1) & (h >= 1) & (w <= width[:, None]) & (h <= height[:, None])
        first = fits.int().argmax(1, keepdim=True)  # of equal ones argmax names the first
        w, h = (side.gather(1, first)[:, 0] for side in (w, h))
        x, y = uniform[:, -3], uniform[:, -2]
        left, top = (x * (width - w + 1)).floor(), (y * (height - h + 1)).floor()
        random = torch.stack([left, top, w, h], 1)
        return torch.where(fits.any(1)[:, None], random, self._central(height, width))

    def _central(self, height: Tensor, width: Tensor) -> Tensor:
        w = torch.minimum(width, (height * self.ratio[1]).round()).clamp(min=1)
        h = torch.minimum(height, (width / self.ratio[0]).round()).clamp(min=1)
        return torch.stack([((width - w) / 2).floor(), ((height - h) / 2).floor(), w, h], 1)

    def flipped(self, uniform: Tensor) -> Tensor | None:
        """Half of them, if this flips."""
        return uniform[:, -1] < 0.5 if self.flip else None


@dataclass(frozen=True)
class CentreCrop(Boxed):
    """The middle of each image: what is evaluated.

    As if the shorter side were resized to `resize` and the central square of `size` cut out, in one
    resampling.

    Args:
        size: height and width of the result.
        resize: of the shorter side. 256 for 224 (He et al. 2016): the default keeps that ratio.

    Example:
        >>> CentreCrop(224).boxes(torch.tensor([[256, 512]]), torch.empty(1, 0)).tolist()
        [[144.0, 16.0, 224.0, 224.0]]
    """

    size: int = 224
    resize: int | None = None
    draws = 0
    beyond = True

    def __post_init__(self) -> None:
        require_count("size", self.size, "give the side in pixels")
        if self.resize is not None:
            require_count("resize", self.resize, "resize to no less than what is cut out",
                          minimum=self.size)  # fmt: skip

    def boxes(self, sizes: Tensor, uniform: Tensor) -> Tensor:
        """Central squares."""
        height, width = sizes.double().unbind(1)
        side = torch.minimum(height, width) * (self.size / (self.resize or self.size * 256 / 224))
        return torch.stack([(width - side) / 2, (height - side) / 2, side, side], 1)


def resampled(images: Tensor, boxes: Tensor, size: int, *, beyond: bool = False) -> Tensor:
    """Boxes of images, each brought to one size.

    Args:
        images: uint8 ``[rows, channels, height, width]``.
        boxes: left, top, width and height, ``[rows, 4]``.
        size: height and width of the result.
        beyond: whether pixels beyond the box, where it ends, have a share in those at its border.

    Returns:
        Rounded to uint8, ``[rows, channels, size, size]``.

    Example:
        >>> image = torch.tensor([[[[0, 100], [200, 100]]]], dtype=torch.uint8)
        >>> resampled(image, torch.tensor([[0.0, 0.0, 2.0, 2.0]]), 1).item()
        100
    """
    height, width = images.shape[2:]
    down = _weights(boxes[:, 1], boxes[:, 3], height, size, beyond)[:, None]
    across = _weights(boxes[:, 0], boxes[:, 2], width, size, beyond)[:, None]
    pixels = down @ images.float() @ across.transpose(2, 3)
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def _weights(start: Tensor, length: Tensor, size: int, out: int, beyond: bool) -> Tensor:
    """Rows of R: what each pixel of the image gives to the result's, ``[rows, out, size]``."""
    start, length = start.double()[:, None, None], length.double()[:, None, None]
    scale = length / out
    reach = scale.clamp(min=1.0)
    places = torch.arange(out, device=start.device, dtype=torch.float64)[:, None] + 0.5
    pixel = torch.arange(size, device=start.device, dtype=torch.float64) + 0.5
    weights = (1 - ((pixel - (start + places * scale)) / reach).abs()).clamp(min=0.0)
    if not beyond:
        weights = weights * ((pixel > start.floor()) & (pixel < (start + length).ceil()))
    return (weights / weights.sum(2, keepdim=True)).float()


def first_boxed(steps: Sequence[Augmentation]) -> Boxed | None:
    """What brings images of many sizes to one: the first step, if it is a `Boxed`."""
    return steps[0] if steps and isinstance(steps[0], Boxed) else None
