"""Batches of a split: what a training or an evaluation goes over.

    order    of the rows, a function of (seed, epoch)
    numbers  of the augmentation, a function of (seed, epoch, step)
    batch    step k's rows, augmented by step k's numbers

So a training that goes on at step k sees bit for bit what it would have seen, and processes that
share the batches, rank r of w with rows r, r + w, ... of each, see together what one process would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...checks import require, require_count
from .augment import Augmentation, Chain, normalise
from .boxes import CentreCrop, first_boxed
from .dataset import Split
from .image_files import Pictures
from .randomness import generator_at, require_share

__all__ = ["batch_count", "batches"]

_EVALUATED = 224  # pixels, of images that come in many sizes


def batch_count(rows: int, batch_size: int, drop_last: bool = True) -> int:
    """Batches in one epoch.

    Example:
        >>> batch_count(50_000, 128), batch_count(50_000, 128, drop_last=False)
        (390, 391)
    """
    return rows // batch_size if drop_last else -(-rows // batch_size)


def batches(
    split: Split,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = True,
    augment: Augmentation | None = None,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    device: torch.device | str | None = None,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of images and their classes.

    Args:
        split: what is gone over. Its mean and std normalise the images.
        batch_size: rows of one step, of all processes together.
        seed: of the order and of the augmentation.
        epoch: number of the epoch, from 0.
        shuffle: an order drawn for this epoch; else the split's own, for evaluation.
        drop_last: leave the last, partial batch out; an evaluation must not.
        augment: what is done to the images; None for nothing. Images that come in many sizes are
            brought to one by its first step (`RandomResizedCrop`, `CentreCrop`); without one, by
            ``CentreCrop(224)``.
        rank: number of this process.
        world: how many processes share each batch. In a partial batch some of them may find
            less, down to no rows.
        start: steps of this epoch that were already taken.
        device: where batches go. Bytes are moved, a quarter of the floats, and augmented there.
        workers: processes that read and augment ahead of the training: for images in files. With
            them augmentation is done there, on the CPU.

    Returns:
        An iterator of images, float32 ``[batch_size / world, channels, height, width]``,
        normalised (inputs that are floats already: as they are, unless the split has a mean), and
        targets, int64.

    Raises:
        ValueError: for numbers that do not go together, or a batch larger than the split.

    Example:
        >>> data = Split(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10))
        >>> [len(y) for _, y in batches(data, 4, shuffle=False, drop_last=False)]
        [4, 4, 2]
    """
    require_count("batch_size", batch_size, "pass the rows of one step")
    require_share("batch_size", batch_size, rank, world)
    require_count("start", start, "pass the steps already taken", minimum=0)
    require_count("workers", workers, "pass 0 to read in this process", minimum=0)
    require(len(split) > 0, "split", "one with rows", len(split), "hold out fewer of them")
    require(not drop_last or batch_size <= len(split), "batch_size",
            f"at most the split's {len(split)} rows", batch_size,
            "take smaller batches, or pass drop_last=False")  # fmt: skip
    augment = Chain() if augment is None else augment
    if isinstance(split.inputs, Pictures) and first_boxed(_steps(augment)) is None:
        augment = Chain(CentreCrop(_EVALUATED), *_steps(augment))
    steps = batch_count(len(split), batch_size, drop_last)
    plan = _Plan(split, batch_size, seed, epoch, shuffle, augment, rank, world, range(start, steps))
    return _iterate(plan, _Work(split, augment), device, workers)


def _steps(augment: Augmentation) -> Sequence[Augmentation]:
    return augment.steps if isinstance(augment, Chain) else (augment,)


@dataclass(frozen=True)
class _Plan:
    """Which rows each step takes, and the numbers that they are augmented with."""

    split: Split
    batch_size: int
    seed: int
    epoch: int
    shuffle: bool
    augment: Augmentation
    rank: int
    world: int
    steps: range

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = len(self.split)
        order = (
            torch.randperm(rows, generator=generator_at("order", self.seed, self.epoch))
            if self.shuffle
            else torch.arange(rows)
        )
        for step in self.steps:
            taken = order[step * self.batch_size : (step + 1) * self.batch_size]
            # Those of all processes: which rows are whose does not change an image.
            source = generator_at("augmentation", self.seed, self.epoch, step)
            size = len(taken), self.augment.draws
            uniform = torch.rand(size, generator=source, dtype=torch.float64)
            yield taken[self.rank :: self.world], uniform[self.rank :: self.world]


class _Work:
    """What is done for one batch, in this process or in a worker."""

    def __init__(self, split: Split, augment: Augmentation) -> None:
        self.inputs, self.targets, self.augment = split.inputs, split.targets, augment
        mean = split.mean
        if mean is None:
            self.colour = torch.zeros(1, dtype=torch.uint8)
        else:  # of an image of means, the mean of each channel
            by_channel = mean if mean.dim() == 1 else mean.flatten(1).mean(1)
            self.colour = (by_channel * 255).round().to(torch.uint8)

    def __getitem__(self, item: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.done(*item, device=None)

    def done(self, rows: Tensor, uniform: Tensor, device: Any) -> tuple[Tensor, Tensor]:
        """Images after their augmentation, in bytes, and targets."""
        targets, steps = self.targets[rows], _steps(self.augment)
        if isinstance(self.inputs, Pictures):
            boxed = steps[0]
            own, uniform = uniform[:, : boxed.draws], uniform[:, boxed.draws :]
            images, steps = self.inputs.cut(rows, boxed, own), steps[1:]  # type: ignore[arg-type]
        else:
            images = self.inputs[rows]
        if device is not None:
            images, targets = images.to(device), targets.to(device)
        if steps:
            colour = self.colour.expand(images.shape[1]) if len(self.colour) == 1 else self.colour
            uniform, colour = uniform.to(images.device), colour.to(images.device)
            images = Chain(*steps).apply(images, uniform, colour)
        return images, targets


def _iterate(
    plan: _Plan, work: _Work, device: Any, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    split = plan.split
    for images, targets in _read(plan, work, device, workers):
        if device is not None:
            images, targets = images.to(device), targets.to(device)
        yield _floats(images, split), targets


def _read(plan: _Plan, work: _Work, device: Any, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    if not workers:
        for rows, uniform in plan:
            yield work.done(rows, uniform, device)
        return
    # A generator of its own: a loader without one takes a number from torch's global one.
    loader: DataLoader[Any] = DataLoader(
        work,  # type: ignore[arg-type] # has __getitem__, which is all that is asked of it
        batch_size=None,
        sampler=plan,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader


def _floats(images: Tensor, split: Split) -> Tensor:
    if images.is_floating_point() and split.mean is None:
        return images
    return normalise(images, split.mean, split.std)
