"""A `Dataset` of the rows that a reader has read: what all readers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dataset import Dataset, Some, Split, hold_out, statistics
from .files import DataError
from .image_files import Pictures

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "assembled", "checked_targets"]

# Of ImageNet's training images in RGB; the numbers that its published networks are trained with
# (torchvision's reference trainings; fb.resnet.torch before them).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def checked_targets(values: Any, rows: int, classes: int, where: str) -> Tensor:
    """Classes as int64, one for each row.

    Args:
        values: numbers of the classes.
        rows: how many there must be.
        classes: how many classes there are.
        where: they come from, for messages.

    Raises:
        DataError: if there are more or fewer, or one is not a class.
    """
    found = torch.from_numpy(np.asarray(values).astype(np.int64))
    if found.shape != (rows,):
        raise DataError(
            f"{where}: expected {rows} labels, one for each image, found {tuple(found.shape)}; "
            "give images and labels of one set."
        )
    outside = found[(found < 0) | (found >= classes)]
    if len(outside):
        raise DataError(
            f"{where}: expected labels from 0 to {classes - 1}, found {int(outside[0])}; this is a "
            "file of another data set or a damaged one."
        )
    return found


def assembled(
    name: str,
    train: tuple[Any, Tensor],
    test: tuple[Any, Tensor],
    classes: Sequence[str],
    *,
    validation: float,
    seed: int,
    source: str,
    normal: tuple[Tensor, Tensor] | None = None,
) -> Dataset:
    """A data set, with rows of its training set held out.

    Args:
        name: of the data set.
        train: inputs and targets of the official training set.
        test: of the official test set.
        classes: their names.
        validation: rows to hold out, or their share.
        seed: of the choice.
        source: where the data come from.
        normal: mean and std; default: of the rows that are trained on, if they are bytes.

    Raises:
        DataError: for a set without rows.
    """
    inputs, targets = train
    if not len(targets) or not len(test[1]):
        raise DataError(f"{source}: expected rows, found a set without any; get the files again.")
    kept, held = hold_out(targets, validation, seed)
    ours, others = (inputs, None) if not len(held) else (_taken(inputs, kept), _taken(inputs, held))
    if normal is None and not isinstance(inputs, Pictures) and _are_bytes(inputs):
        normal = statistics(ours)
    mean, std = normal or (None, None)
    return Dataset(
        name=name,
        train=Split(ours, targets[kept], mean, std),
        validation=None if others is None else Split(others, targets[held], mean, std),
        test=Split(*test, mean, std),
        classes=tuple(classes),
        source=source,
    )


def _are_bytes(inputs: Any) -> bool:
    return not isinstance(inputs, Tensor) or inputs.dtype == torch.uint8


def _taken(inputs: Any, rows: Tensor) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[rows]
    return inputs.some(rows) if isinstance(inputs, Pictures) else Some(inputs, rows)
