"""Augmentation of whole batches: a function of images and of a few uniform numbers for each.

    u ~ U[0, 1)^k   for each image, from a generator
    image' = f(image, u)

The numbers are drawn for the whole batch and the function is one gather over it: no loop over
images. Whoever has the numbers has the augmentation: processes that share a batch draw it whole
and use the rows that are theirs, and a step is drawn again when a training goes on. Images come
and leave as uint8; `normalise` makes floats of them.

Chain(PadCropFlip()) is that of the CIFAR trainings (He et al. 2016, section 4.2; Lee et al. 2015);
`Cutout` is DeVries & Taylor's (2017). The crops of ImageNet are in `halflife.lab.data.boxes`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks import require, require_count

__all__ = ["Augmentation", "Chain", "Cutout", "Flip", "Pad", "PadCropFlip", "normalise"]

_BORDERS = ("black", "mean", "reflect")


class Augmentation(ABC):
    """What is done to a batch of images.

    One of your own sets `draws` and defines `apply`.

    Attributes:
        draws: uniform numbers that one image needs.
    """

    draws: int = 0

    @abstractmethod
    def apply(self, images: Tensor, uniform: Tensor, colour: Tensor) -> Tensor:
        """The images with these random numbers.

        Args:
            images: uint8 ``[rows, channels, height, width]``, on any device.
            uniform: in [0, 1), float64 ``[rows, draws]``, on the same device.
            colour: the data's mean colour, uint8 ``[channels]``: zero once it is normalised.
        """

    def __call__(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        colour: Tensor | None = None,
    ) -> Tensor:
        """The images with random numbers of a generator.

        Args:
            images: uint8 ``[rows, channels, height, width]``.
            generator: of the CPU; default: torch's global one.
            colour: the data's mean colour; default: black.
        """
        uniform = torch.rand(len(images), self.draws, generator=generator, dtype=torch.float64)
        if colour is None:
            colour = torch.zeros(images.shape[1], dtype=torch.uint8)
        return self.apply(images, uniform.to(images.device), colour.to(images.device))


class Chain(Augmentation):
    """Several, one after the other, each with numbers of its own.

    Args:
        steps: in the order in which they are done; those of a chain among them are steps of this.

    Example:
        >>> Chain(PadCropFlip(pad=4), Cutout(length=16)).draws
        5
    """

    def __init__(self, *steps: Augmentation) -> None:
        flat = [step.steps if isinstance(step, Chain) else (step,) for step in steps]
        self.steps: tuple[Augmentation, ...] = tuple(chain.from_iterable(flat))
        self.draws = sum(step.draws for step in self.steps)

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.steps))})"

    def apply(self, images: Tensor, uniform: Tensor, colour: Tensor) -> Tensor:
        """The images after all steps."""
        parts = uniform.split([step.draws for step in self.steps], dim=1)
        for step, own in zip(self.steps, parts, strict=True):
            images = step.apply(images, own, colour)
        return images


@dataclass(frozen=True)
class Flip(Augmentation):
    """Left and right exchanged in half of the images.

    Args:
        share: of the images that are flipped.
    """

    share: float = 0.5
    draws = 1

    def apply(self, images: Tensor, uniform: Tensor, colour: Tensor) -> Tensor:
        """The images, some of them flipped."""
        return _flipped(images, uniform[:, 0] < self.share)


@dataclass(frozen=True)
class PadCropFlip(Augmentation):
    """A window of the padded image, of the image's own size, and a flip of half of them.

    The window's corner is uniform over the ``(2 pad + 1)**2`` places that it has.

    Args:
        pad: pixels on each side. 4 on CIFAR and ImageNet32 (He et al. 2016, section 4.2).
        border: what is there. ``"black"``: zeros before normalisation, as torchvision pads;
            ``"mean"``: the mean colour, zeros after it, as fb.resnet.torch pads, which Shake-Shake
            is trained with, to half a grey level; ``"reflect"``: the image mirrored.
        flip: flip half of the images; digits are not.

    Raises:
        ValueError: for another border, or less than one pixel.

    Example:
        >>> images = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
        >>> PadCropFlip(pad=1)(images, torch.Generator().manual_seed(0)).shape
        torch.Size([1, 1, 4, 4])
    """

    pad: int = 4
    border: str = "black"
    flip: bool = True

    def __post_init__(self) -> None:
        _check_border(self.pad, self.border)

    @property
    def draws(self) -> int:  # type: ignore[override]
        """Two for the corner, one for the flip."""
        return 3 if self.flip else 2

    def apply(self, images: Tensor, uniform: Tensor, colour: Tensor) -> Tensor:
        """The windows."""
        rows, _, height, width = images.shape
        place = (uniform[:, :2] * (2 * self.pad + 1)).long().clamp_(max=2 * self.pad)
        padded = _padded(images, self.pad, self.border, colour)
        # All windows as a view; the gather copies one of each image.
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        number = torch.arange(rows, device=images.device)
        cropped = windows[number, :, place[:, 0], place[:, 1]]
        return _flipped(cropped, uniform[:, 2] < 0.5) if self.flip else cropped


@dataclass(frozen=True)
class Pad(Augmentation):
    """A border around each image: for networks that halve it more often than 28 pixels allow.

    Args:
        pad: pixels on each side; 2 make Fashion-MNIST's 28 pixels 32.
        border: as of `PadCropFlip`.

    Example:
        >>> Pad(2)(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).shape
        torch.Size([1, 1, 32, 32])
    """

    pad: int = 2
    border: str = "black"
    draws = 0

    def __post_init__(self) -> None:
        _check_border(self.pad, self.border)

    def apply(self, images: Tensor, uniform: Tensor, colour: Tensor) -> Tensor:
        """The images in their borders."""
        return _padded(images, self.pad, self.border, colour)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """A square of mean colour somewhere in the image (DeVries & Taylor 2017).

    Its centre is a pixel of the image, all equally likely, so that squares near the border are
    cut off there: section 3.1 of the paper. With an even length n the square reaches from n/2
    pixels before its centre to n/2 - 1 behind it.

    Args:
        length: of its side. 16 on CIFAR-10, 8 on CIFAR-100 (the paper's section 4.1).
    """

    length: int = 16
    draws = 2

    def __post_init__(self) -> None:
        require_count("length", self.length, "leave the augmentation out for none")

    def apply(self, images: Tensor, uniform: Tensor, colour: Tensor) -> Tensor:
        """The images with their squares."""
        inside = []
        for axis, size in enumerate(images.shape[2:]):
            centre = (uniform[:, axis] * size).long().clamp_(max=size - 1)
            first = (centre - self.length // 2)[:, None]
            place = torch.arange(size, device=images.device)
            inside.append((first <= place) & (place < first + self.length))
        square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return torch.where(square, colour.view(1, -1, 1, 1), images)


def normalise(
    images: Tensor,
    mean: Tensor | None,
    std: Tensor | None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""Images as floats of mean 0 and variance 1: ``(x / 255 - mean) / std``.

    Args:
        images: uint8 ``[rows, channels, height, width]``, or floats, which are not divided by 255.
        mean: by channel, or ``[channels, height, width]``; None: images are from 0 to 1 as they
            are.
        std: likewise.
        dtype: of the result.

    Example:
        >>> white = torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)
        >>> normalise(white, torch.tensor([0.5]), torch.tensor([0.25])).item()
        2.0
    """
    whole = 1.0 if images.is_floating_point() else 255.0
    result = images.to(dtype)
    if mean is None or std is None:
        return result / whole if whole != 1.0 else result
    mean, std = (_by_pixel(value.to(images.device), images.dim()) for value in (mean, std))
    # In place: a copy of a batch of floats costs as much as its arithmetic.
    result = result if result.data_ptr() != images.data_ptr() else result.clone()
    return result.sub_((mean * whole).to(dtype)).div_((std * whole).to(dtype))


def _by_pixel(value: Tensor, dims: int) -> Tensor:
    return value.view(-1, *[1] * (dims - 2)) if value.dim() == 1 else value


def _flipped(images: Tensor, which: Tensor) -> Tensor:
    return torch.where(which[:, None, None, None], images.flip(3), images)


def _mirrored(size: int, pad: int, device: torch.device) -> Tensor:
    place = torch.arange(-pad, size + pad, device=device).abs()
    return torch.where(place < size, place, 2 * (size - 1) - place)


def _check_border(pad: int, border: str) -> None:
    require_count("pad", pad, "leave the augmentation out for none")
    known = border in _BORDERS
    names = f"one of {', '.join(_BORDERS)}"
    require(known, "border", names, border, "say what is around the image")


def _padded(images: Tensor, p: int, border: str, colour: Tensor) -> Tensor:
    if border == "reflect":
        short = p < min(images.shape[2:])
        require(short, "pad", "less than the image with border='reflect'", p, "pad less")
        # By the rows' and columns' numbers: not all versions of torch reflect bytes.
        down, across = (_mirrored(n, p, images.device) for n in images.shape[2:])
        return images.index_select(2, down).index_select(3, across)
    if border == "black":
        return F.pad(images, (p, p, p, p))
    rows, _, height, width = images.shape
    padded = colour.view(1, -1, 1, 1).expand(rows, -1, height + 2 * p, width + 2 * p).clone()
    padded[:, :, p : p + height, p : p + width] = images
    return padded
