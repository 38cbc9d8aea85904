"""How fast batches come, and how fast a training takes them: the first must not starve the second.

Two figures of the same machine, to be compared:

    images_per_second(split, 128, PadCropFlip())    of the data
    trained_per_second(model, split, 128)           of steps on one batch that is held
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import torch
import torch.nn.functional as F
from torch import nn

from .augment import Augmentation
from .batching import batches
from .dataset import Split

__all__ = ["images_per_second", "trained_per_second"]


def images_per_second(
    split: Split,
    batch_size: int,
    augment: Augmentation | None = None,
    *,
    seconds: float = 2.0,
    device: torch.device | str | None = None,
    workers: int = 0,
) -> float:
    """Images that are read, augmented and normalised in a second, one process's cores at work.

    Args:
        split: the images.
        batch_size: of one step.
        augment: what is done to them.
        seconds: how long is measured, after three batches that warm up.
        device: where they go.
        workers: processes that read ahead.
    """
    epochs = (
        batch
        for epoch in count()
        for batch in batches(
            split, batch_size, epoch=epoch, augment=augment, device=device, workers=workers
        )
    )
    return _rate(lambda: len(next(epochs)[1]), seconds, device)


def trained_per_second(
    model: nn.Module,
    split: Split,
    batch_size: int,
    *,
    seconds: float = 2.0,
    device: torch.device | str | None = None,
) -> float:
    """Images that a model is trained on in a second, if all of them were there at once.

    Forward and backward pass with cross-entropy, and a step of plain SGD, on one batch.

    Args:
        model: on the device; it is trained.
        split: images of the size that it takes.
        batch_size: of one step.
        seconds: how long is measured, after three steps that warm up.
        device: where the model is.
    """
    images, targets = next(batches(split, batch_size, device=device))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> int:
        optimizer.zero_grad()
        F.cross_entropy(model(images), targets).backward()
        optimizer.step()
        return len(targets)

    return _rate(step, seconds, device)


def _rate(act: Callable[[], int], seconds: float, device: torch.device | str | None) -> float:
    on_cuda = device is not None and torch.device(device).type == "cuda"

    def wait() -> None:
        if on_cuda:
            torch.cuda.synchronize(device)

    for _ in range(3):
        act()
    wait()
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        done += act()
        wait()
    return done / spent
