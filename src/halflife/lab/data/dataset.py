"""What a data set is once it is read: rows to train on, rows to choose by, rows to report.

    training    what the official training set keeps
    validation  rows that were held out of the official training set, to choose settings by
    test        the official test set, whole, which nothing here holds out of or into

Images stay in the 8 bits that they come in, 150 MB where floats would be 600; they become floats
batch by batch (`halflife.lab.data.batching`). What is too large to be held is a `Rows`: it is
asked for rows, and reads them then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ...checks import is_number, require
from .randomness import generator_at

if TYPE_CHECKING:
    from .text import Vocabulary

__all__ = ["Dataset", "Parts", "Rows", "Some", "Split", "hold_out", "statistics"]

_SAMPLE = 65_536  # rows that mean and std are taken over: all of CIFAR, a twentieth of ImageNet32
_CHUNK = 2_048


@runtime_checkable
class Rows(Protocol):
    """Images that are read when they are asked for."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Those of these numbers, ``[len(rows), channels, height, width]``."""


@dataclass(frozen=True, eq=False)
class Split:
    """Rows and what is to be said of them.

    Args:
        inputs: images ``[rows, channels, height, width]``, uint8; signals ``[rows, length]``,
            float32; tokens ``[length]``, uint16 or int32. Images that are not held are a `Rows`, or
            the files of `halflife.lab.data.image_files`.
        targets: classes ``[rows]``, int64. Of text the tokens again: `windows` shifts them by one.
        mean: by channel, in units of the whole range of 8 bits (0 to 1), that of the training
            rows; None where inputs are taken as they are.
        std: likewise.

    Raises:
        ValueError: if there are not as many targets as inputs.
    """

    inputs: Any  # Tensor | Rows | Pictures: each user of a split looks which it is
    targets: Tensor
    mean: Tensor | None = None
    std: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"targets: {len(self.targets)} of them must be as many as the inputs, "
                f"{len(self.inputs)}; give one target a row."
            )

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set that was read.

    Args:
        name: the name that `halflife.lab.data.load` knows it by.
        train: rows to train on.
        validation: rows held out of the official training set (of Penn Treebank, the official
            ones); None if none were.
        test: the official test set. Of ImageNet, the official validation set: the labels of its
            test set are not public.
        classes: names of the classes in the order of their numbers; of text, its tokens.
        source: where it was read from.
        vocabulary: of text, what its tokens are.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    source: str = ""
    vocabulary: Vocabulary | None = None

    @property
    def mean(self) -> Tensor | None:
        """Mean of the training rows by channel, in units of the whole range of 8 bits."""
        return self.train.mean

    @property
    def std(self) -> Tensor | None:
        """Standard deviation of the training rows by channel, likewise."""
        return self.train.std

    def normalised_by(self, mean: Tensor, std: Tensor) -> Dataset:
        """The same data set, its images normalised by other numbers.

        Args:
            mean: by channel ``[channels]``, or by pixel, ``[channels, height, width]``.
            std: likewise.
        """

        def other(split: Split) -> Split:
            return replace(split, mean=mean, std=std)

        held = None if self.validation is None else other(self.validation)
        return replace(self, train=other(self.train), validation=held, test=other(self.test))


class Some:
    """Some rows of a `Rows`, in an order of their own; nothing is copied.

    Args:
        rows: all of them.
        chosen: numbers of those that are here.
    """

    def __init__(self, rows: Any, chosen: Tensor) -> None:
        self.rows, self.chosen = rows, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.rows[self.chosen[rows]]


class Parts:
    """Arrays of images one after the other, as the files that they came in; nothing is joined.

    Args:
        parts: uint8, each ``[rows, channels * height * width]``; memory maps as well.
        shape: channels, height and width.
    """

    def __init__(self, parts: Sequence[np.ndarray], shape: tuple[int, int, int]) -> None:
        self.parts, self.shape = list(parts), shape
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        # A process that is started anew maps the files itself: a memory map would be copied to it.
        named = [
            (part.filename, part.offset, part.shape) if isinstance(part, np.memmap) else part
            for part in self.parts
        ]
        return {**vars(self), "parts": named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.parts = [
            np.memmap(part[0], np.uint8, "r", part[1], part[2]) if isinstance(part, tuple) else part
            for part in state["parts"]
        ]

    def __getitem__(self, rows: Tensor) -> Tensor:
        wanted = rows.numpy()
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"rows must be in [0, {len(self)}), got {wanted.min()} .. "
                             f"{wanted.max()}; ask for rows that are here.")  # fmt: skip
        found = np.empty((len(wanted), int(np.prod(self.shape))), np.uint8)
        of = np.searchsorted(self._ends, wanted, side="right")
        for number in np.unique(of):
            here = of == number
            first = self._ends[number] - len(self.parts[number])
            found[here] = self.parts[number][wanted[here] - first]
        return torch.from_numpy(found.reshape(-1, *self.shape))


def hold_out(targets: Tensor, validation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the rows to train on, and of those held out, both ascending.

    Every class gives its share, rounded so that the sum is exact; which rows of a class is drawn.
    The same targets, number and seed always hold out the same rows.

    Args:
        targets: classes ``[rows]``.
        validation: how many rows, if a whole number; below 1, their share.
        seed: of the choice. It is not a training's seed: trainings that are compared must be
            chosen by the same rows.

    Raises:
        ValueError: for a number that leaves no rows to train on.

    Example:
        >>> kept, held = hold_out(torch.arange(20) % 2, 0.2, seed=0)
        >>> len(kept), (held % 2).tolist().count(0)
        (16, 2)
    """
    rows = len(targets)
    whole = is_number(validation) and (validation < 1 or int(validation) == validation)
    require(
        whole and 0 <= validation < max(rows, 1), "validation",
        f"a share below 1 or a number of rows below {rows}", validation,
        "pass 0 to hold out none",
    )  # fmt: skip
    count = round(validation * rows) if validation < 1 else int(validation)
    require(count < rows, "validation", "such that rows are left to train on", validation,
            "hold out fewer")  # fmt: skip
    classes = targets.unique()
    members = [(targets == c).nonzero()[:, 0] for c in classes]
    exact = torch.tensor([count * len(m) / rows for m in members], dtype=torch.float64)
    shares = exact.floor().long()
    # The classes with the largest rests get one more; of equal rests, the first ones.
    missing = count - int(shares.sum())
    shares[(shares - exact).argsort(stable=True)[:missing]] += 1
    held = []
    for c, m, share in zip(classes.tolist(), members, shares.tolist(), strict=True):
        held.append(m[torch.randperm(len(m), generator=generator_at("held out", seed, c))[:share]])
    left_out = torch.cat(held).sort().values if held else torch.empty(0, dtype=torch.int64)
    kept = torch.ones(rows, dtype=torch.bool)
    kept[left_out] = False
    return kept.nonzero()[:, 0], left_out


def statistics(images: Tensor | Rows, by: str = "channel") -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of images, in units of the whole range of 8 bits.

    Sums are of integers, so that they are exact and the same on every machine. Of more than 65536
    rows as many at equal distances are taken.

    Args:
        images: uint8 ``[rows, channels, height, width]``.
        by: ``"channel"``, the usual reading of "per-pixel normalization", or ``"pixel"``.

    Returns:
        Each ``[channels]``, or ``[channels, height, width]``, float32. What does not vary has a
        standard deviation of 1.

    Raises:
        ValueError: for another `by`.

    Example:
        >>> mean, std = statistics(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        >>> mean.item(), std.item()
        (0.5, 0.5)
    """
    require(by in ("channel", "pixel"), "by", "'channel' or 'pixel'", by, "use one of them")
    rows = torch.arange(len(images))
    if len(rows) > _SAMPLE:
        rows = torch.linspace(0, len(images) - 1, _SAMPLE, dtype=torch.float64).long()
    of = _by_channel if by == "channel" else _by_pixel
    total, squares, pixels = of(images, rows)
    mean = total / pixels
    variance = squares / pixels - mean * mean
    std = torch.where(variance > 1e-9, variance.clamp(min=0.0).sqrt(), 255.0)
    return (mean / 255).float(), (std / 255).float()


def _by_channel(images: Tensor | Rows, rows: Tensor) -> tuple[Tensor, Tensor, int]:
    """Sum and sum of squares, from how often each of the 256 levels comes: exact, and quick."""
    levels = torch.arange(256, dtype=torch.float64)
    parts = []
    for chunk in rows.split(_CHUNK):
        channels = images[chunk].transpose(0, 1).flatten(1)
        parts.append(torch.stack([torch.bincount(c, minlength=256) for c in channels]))
    counts = torch.stack(parts).sum(0).double()
    return counts @ levels, counts @ levels.square(), int(counts[0].sum())


def _by_pixel(images: Tensor | Rows, rows: Tensor) -> tuple[Tensor, Tensor, int]:
    sums = []
    for chunk in rows.split(_CHUNK):
        some = images[chunk].int()
        sums.append(torch.stack([some.sum(0), (some * some).sum(0)]))  # in int64
    total, squares = torch.stack(sums).sum(0).double()
    return total, squares, len(rows)
