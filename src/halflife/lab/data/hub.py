"""Data sets of Hugging Face: saved to disk, or by their name on the hub.

``hf:NAME`` names one on the hub, or in the cache of what was fetched from it; a folder in which
`datasets` saved one is seen by its files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..adapters.asking import needed
from .building import checked_targets
from .files import DataError

__all__ = ["hub_columns", "hub_images", "opened_hub"]

_PREFIX = "hf:"
_SAVED = ("dataset_dict.json", "state.json")


def opened_hub(root: str | os.PathLike[str] | None) -> Any:
    """A data set of Hugging Face, or None if this names none.

    Args:
        root: ``hf:NAME``, or a folder.

    Raises:
        DataError: if it is one and cannot be read.
    """
    if root is None:
        return None
    named = str(root).startswith(_PREFIX)
    if not named and not any((Path(root) / name).is_file() for name in _SAVED):
        return None
    library = needed("datasets", "hf", f"Reading {root}")
    try:
        if named:
            return library.load_dataset(str(root).removeprefix(_PREFIX))
        return library.load_from_disk(os.fspath(root))
    except Exception as error:  # of the file system, of the network, of the library's own kinds
        raise DataError(
            f"{root}: expected a data set of Hugging Face, found none that can be read "
            f"({type(error).__name__}: {error}); save it again with save_to_disk."
        ) from error


def hub_columns(hub: Any, split: str, columns: tuple[str, ...], source: str) -> Any:
    """One split, which has the columns that are asked for.

    Raises:
        DataError: if it is not there, or lacks a column.
    """
    if not hasattr(hub, "keys") or split not in hub:
        splits = sorted(hub) if hasattr(hub, "keys") else "one without splits"
        raise DataError(
            f"{source}: expected a split {split!r}, found {splits}; save all of the data set."
        )
    missing = [name for name in columns if name not in hub[split].column_names]
    if missing:
        raise DataError(
            f"{source}: expected columns {', '.join(columns)}, found "
            f"{', '.join(hub[split].column_names)}; give the data set of this name."
        )
    return hub[split]


def hub_images(
    hub: Any,
    split: str,
    image: str,
    label: str,
    size: tuple[int, int],
    source: str,
    classes: tuple[str, ...],
) -> tuple[tuple[Tensor, Tensor], tuple[str, ...]]:
    """Images of one size, in colour, their classes, and the names of these.

    Args:
        hub: the data set.
        split: which part.
        image: name of the column of pictures.
        label: name of the column of classes.
        size: height and width that they must have.
        source: for messages.
        classes: their names, where the data set has none.

    Raises:
        DataError: if an image is of another size, or a label no class.
    """
    rows = hub_columns(hub, split, (image, label), source)
    names = tuple(getattr(rows.features[label], "names", None) or classes)
    images = torch.empty(len(rows), 3, *size, dtype=torch.uint8)
    for number, row in enumerate(rows):
        array = np.asarray(row[image].convert("RGB"))
        if array.shape[:2] != size:
            raise DataError(
                f"{source}: expected images of {size[0]} x {size[1]} pixels, found "
                f"{array.shape[0]} x {array.shape[1]} in row {number}; give the data set of this "
                "name."
            )
        images[number] = torch.from_numpy(array.copy()).permute(2, 0, 1)
    targets = checked_targets(rows[label][:], len(images), len(classes), f"{source}: {split}")
    return (images, targets), names
