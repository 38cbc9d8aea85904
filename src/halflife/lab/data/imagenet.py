"""ImageNet (ILSVRC 2012): a folder for each class, or Hugging Face. No picture is held."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .building import IMAGENET_MEAN, IMAGENET_STD, assembled, checked_targets
from .dataset import Dataset
from .files import DataError, located, require_official
from .hub import hub_columns, opened_hub
from .image_files import ENDINGS, HubPictures, PictureFiles, Pictures

__all__ = ["load_imagenet"]

_ROWS = {"train": 1_281_167, "val": 50_000}
_CLASSES = 1_000


def load_imagenet(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.0,
    seed: int = 0,
    verify: bool = True,
) -> Dataset:
    """ImageNet: 1,281,167 and 50,000 pictures in a thousand classes (ILSVRC 2012).

    Args:
        root: a folder with ``train`` and ``val``, each with a folder for every class; a data set
            that `datasets` saved to disk, or ``"hf:ILSVRC/imagenet-1k"``. Default:
            ``$HALFLIFE_DATA``.
        validation: rows to hold out of the training set, or their share.
        seed: of the choice of these rows.
        verify: require the official numbers of classes and pictures.

    Returns:
        Its test split is the official validation set. Mean and std are the usual ones of ImageNet.

    Raises:
        DataError: if the folders are missing, or their classes differ.
    """
    parts: dict[str, tuple[Pictures, Tensor]] = {}
    classes: tuple[str, ...] = ()
    if (hub := opened_hub(root)) is not None:
        source = str(root)
        for split, name in (("train", "train"), ("val", "validation")):
            rows = hub_columns(hub, name, ("image", "label"), source)
            known = getattr(rows.features["label"], "names", None)
            classes = tuple(known or map(str, range(_CLASSES)))
            targets = checked_targets(rows["label"][:], len(rows), len(classes), source)
            parts[split] = HubPictures(rows, "image"), targets
    else:
        folder = located("imagenet", root, _accept, "put the folders train and val there, each "
                         "with a folder of pictures for every class")  # fmt: skip
        source = str(folder)
        parts, classes = _read(folder)
    if verify:
        found = len(classes)
        require_official(found == _CLASSES, source, f"{_CLASSES} classes", found)
        for split, count in _ROWS.items():
            found = len(parts[split][1])
            require_official(found == count, source, f"{count} {split} pictures", found)
    return assembled(
        "imagenet", parts["train"], parts["val"], classes, validation=validation, seed=seed,
        source=source, normal=(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
    )  # fmt: skip


def _accept(place: Path) -> Path | None:
    return place if (place / "train").is_dir() else None


def _read(folder: Path) -> tuple[dict[str, tuple[Pictures, Tensor]], tuple[str, ...]]:
    classes = _folders(folder / "train")
    parts: dict[str, tuple[Pictures, Tensor]] = {}
    for split in _ROWS:
        here = _folders(folder / split)
        if here != classes:
            other = sorted(set(here) ^ set(classes))
            raise DataError(
                f"{folder / split}: expected a folder for each of the {len(classes)} classes of "
                f"train, found {len(here)} (one that differs: {other[0]!r}); sort the pictures "
                "into folders by their class."
            )
        names, counts = [], []
        for name in classes:
            found = [f"{name}/{file}" for file in sorted(_pictures(folder / split / name))]
            if not found:
                raise DataError(
                    f"{folder / split / name}: expected pictures ({', '.join(ENDINGS)}), found "
                    "none; unpack the archive of this class."
                )
            names += found
            counts.append(len(found))
        targets = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))
        parts[split] = PictureFiles(folder / split, names), targets
    return parts, classes


def _folders(path: Path) -> tuple[str, ...]:
    if not path.is_dir():
        raise DataError(f"{path}: missing, expected a folder for every class; put it there.")
    with os.scandir(path) as entries:
        names = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
    if not names:
        raise DataError(
            f"{path}: expected a folder for every class, found none; sort the pictures into "
            "folders by their class."
        )
    return names


def _pictures(path: Path) -> Iterator[str]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.lower().endswith(ENDINGS):
                yield entry.name
