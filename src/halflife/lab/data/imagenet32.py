"""ImageNet32: ImageNet's pictures at 32 x 32 pixels, in batches (Chrabaszcz et al. 2017).

``train_data_batch_1`` to ``train_data_batch_10`` and ``val_data``, as ``.npz`` or as pickles
without an ending: ``data``, uint8 ``[rows, 3072]``, 1024 pixels of each colour, and ``labels``, 1
to 1000, in the authors' own order of the classes.

What an npz file has not packed is mapped: 3.9 GB that the system reads where they are wanted, and
gives up where memory is short. Other files are read one by one and kept in their 8 bits.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .building import assembled, checked_targets
from .dataset import Dataset, Parts
from .files import DataError, contents, located, require_official
from .unpickling import safely_unpickled

__all__ = ["load_imagenet32"]

_PIXELS = 3 * 32 * 32
_CLASSES = 1_000
_ROWS = {"train": 1_281_167, "val": 50_000}
_LIMIT = 1 << 30  # bytes of one file; the official ones have 394 million
_TRAIN, _VAL = "train_data_batch_{}", "val_data"
_FOLDERS = ("Imagenet32_train_npz", "Imagenet32_val_npz", "Imagenet32_train", "Imagenet32_val")


def load_imagenet32(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.0,
    seed: int = 0,
    verify: bool = True,
) -> Dataset:
    """ImageNet32: 1,281,167 and 50,000 images of 32 x 32 pixels in a thousand classes.

    Args:
        root: the folder of the eleven files, or of the folders that their archives unpack to.
            Default: ``$HALFLIFE_DATA``.
        validation: rows to hold out of the training set, or their share.
        seed: of the choice of these rows.
        verify: require the official numbers of rows; no digests of these files are published.

    Returns:
        Inputs are `Rows`. Its test split is the official validation set. Mean and std are those
        of 65536 training rows.

    Raises:
        DataError: if a file is missing, cut off or another one.
    """
    folder = located(
        "imagenet32", root, lambda place: place if _file(place, _VAL) is not None else None,
        "put train_data_batch_1 to _10 and val_data there, .npz or pickles",
    )  # fmt: skip
    train: list[tuple[np.ndarray, torch.Tensor]] = []
    while (path := _file(folder, _TRAIN.format(len(train) + 1))) is not None:
        train.append(_batch(path))
    if not train:
        raise DataError(
            f"{folder}: holds no {_TRAIN.format(1)}, with or without .npz, expected ten such "
            "files; put them there."
        )
    val = _file(folder, _VAL)
    assert val is not None
    sets = {}
    for split, read in (("train", train), ("val", [_batch(val)])):
        images = Parts([data for data, _ in read], (3, 32, 32))
        sets[split] = images, torch.cat([labels for _, labels in read])
        if verify:
            whole = len(images) == _ROWS[split]
            require_official(whole, folder, f"{_ROWS[split]} {split} rows", len(images))
    return assembled(
        "imagenet32", sets["train"], sets["val"], tuple(map(str, range(1, _CLASSES + 1))),
        validation=validation, seed=seed, source=str(folder),
    )  # fmt: skip


def _file(folder: Path, name: str) -> Path | None:
    for place in (folder, *(folder / below for below in _FOLDERS)):
        for path in (place / f"{name}.npz", place / name):
            if path.is_file():
                return path
    return None


def _batch(path: Path) -> tuple[np.ndarray, torch.Tensor]:
    """Images and classes, from 0, of one file."""
    expected = "a batch of ImageNet32"
    if path.suffix == ".npz":
        data, labels = _npz(path)
    else:
        found = safely_unpickled(contents(path, expected, _LIMIT), str(path))
        if not isinstance(found, dict) or not {"data", "labels"} <= found.keys():
            raise DataError(
                f"{path}: expected a dict with 'data' and 'labels', found something else; get the "
                "file again."
            )
        data, labels = found["data"], np.asarray(found["labels"])
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DataError(
            f"{path}: expected 'data' of uint8 [rows, {_PIXELS}], found {data.dtype} "
            f"{list(data.shape)}; get the images of 32 x 32 pixels."
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: expected 'labels' of integers, found {labels.dtype}; get the file again."
        )
    return data, checked_targets(labels.astype(np.int64) - 1, len(data), _CLASSES, str(path))


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            missing = [n for n in ("data", "labels") if f"{n}.npy" not in names]
            if missing:
                raise DataError(
                    f"{path}: expected arrays 'data' and 'labels', found {', '.join(names)}; get "
                    "the file again."
                )
            entry = archive.getinfo("data.npy")
            stored = entry.compress_type == zipfile.ZIP_STORED
            data = _mapped(path, entry) if stored else _array(archive, "data.npy")
            return data, _array(archive, "labels.npy")
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, struct.error) as error:
        raise DataError(
            f"{path}: cut off, damaged or no npz file ({error}); get the file again."
        ) from error


def _array(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > _LIMIT:
        raise ValueError(f"{name} has more than {_LIMIT} bytes")
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _mapped(path: Path, entry: zipfile.ZipInfo) -> np.ndarray:
    """An array where it stands in the file."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        # Of the entry's own header, which may be longer than the directory's: 30 bytes and two
        # texts whose lengths end them.
        name, extra = struct.unpack("<HH", file.read(30)[26:])
        file.seek(entry.header_offset + 30 + name + extra)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
            np.lib.format.read_array_header_2_0
        )  # fmt: skip
        shape, fortran, dtype = read(file)
        if fortran or dtype.hasobject:
            raise ValueError("an array that is not stored row by row")
        return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape)
