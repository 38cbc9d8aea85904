"""What a training reads, step by step: a pure function of the seed and the step's number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from ..data import (
    Augmentation,
    Dataset,
    RandomResizedCrop,
    Split,
    batch_count,
    batches,
    random_windows,
    window_count,
    windows,
)
from .entry import AUGMENTATIONS
from .fitting import image_shape

__all__ = ["Feed", "Images", "Streams", "Windows"]

_EVALUATED = 500  # images of a process at a time
Batch: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Images:
    """Images in an order drawn anew for each epoch.

    Args:
        data: where they are from.
        batch_size: rows of a step, over all processes.
        seed: of order and augmentation.
        augment: a key of `AUGMENTATIONS`.
        rank: number of this process.
        world: processes that share each step.
        device: where the batches are wanted.
        workers: processes that decode files.
    """

    data: Dataset
    batch_size: int
    seed: int = 0
    augment: str = ""
    rank: int = 0
    world: int = 1
    device: torch.device | None = None
    workers: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of an epoch."""
        return batch_count(len(self.data.train), self.batch_size)

    def steps(self, first: int) -> Iterator[Batch]:
        """Batches from a step on, for ever."""
        epoch, start = divmod(first, self.steps_per_epoch)
        for number in itertools.count(epoch):
            yield from batches(
                self.data.train, self.batch_size, seed=self.seed, epoch=number,
                augment=self._augmentation(), rank=self.rank, world=self.world,
                start=start, device=self.device, workers=self.workers,
            )  # fmt: skip
            start = 0

    def _augmentation(self) -> Augmentation | None:
        augment = AUGMENTATIONS[self.augment]
        if isinstance(augment, RandomResizedCrop):
            return replace(augment, size=image_shape(self.data.train)[1])
        return augment

    def evaluated(self, split: Split) -> Iterator[Batch]:
        """A process's share of the rows of a split, once, without augmentation."""
        return batches(
            split, self.world * _EVALUATED, shuffle=False, drop_last=False, rank=self.rank,
            world=self.world, device=self.device, workers=self.workers,
        )  # fmt: skip


@dataclass(frozen=True)
class Streams:
    """Text in windows that go on where the last ended: truncated backpropagation through time.

    Args:
        data: where it is from.
        batch_size: streams side by side, over all processes.
        time: tokens of a window.
        rank: number of this process.
        world: processes that share each step.
        device: where the batches are wanted.
    """

    data: Dataset
    batch_size: int
    time: int
    rank: int = 0
    world: int = 1
    device: torch.device | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Windows of the training text."""
        return window_count(len(self.data.train), self.batch_size, self.time)

    def steps(self, first: int) -> Iterator[Batch]:
        """Windows from a step on, for ever."""
        start = first % self.steps_per_epoch
        while True:
            yield from windows(
                self.data.train.inputs, self.batch_size, self.time, rank=self.rank,
                world=self.world, start=start, device=self.device,
            )  # fmt: skip
            start = 0

    def evaluated(self, split: Split) -> Iterator[Batch]:
        """A whole text, in one stream, in each process."""
        return windows(split.inputs, 1, 10 * self.time, device=self.device)


@dataclass(frozen=True)
class Windows(Streams):
    """Text in windows at random places."""

    seed: int = 0

    def evaluated(self, split: Split) -> Iterator[Batch]:
        """A whole text, in windows side by side, in each process."""
        streams = max(1, min(self.batch_size, len(split) // (self.time + 1)))
        return windows(split.inputs, streams, self.time, device=self.device)

    def steps(self, first: int) -> Iterator[Batch]:
        """Windows from a step on, for ever."""
        epoch, start = divmod(first, self.steps_per_epoch)
        for number in itertools.count(epoch):
            yield from random_windows(
                self.data.train.inputs, self.batch_size, self.time, seed=self.seed, epoch=number,
                steps=self.steps_per_epoch, rank=self.rank, world=self.world, start=start,
                device=self.device,
            )  # fmt: skip
            start = 0


Feed: TypeAlias = "Images | Streams"
