"""CIFAR-10 and CIFAR-100, from the official archives, packed or unpacked, or from Hugging Face.

Both come in two forms (Krizhevsky 2009, and the page of the data sets). Binary: one record an
image, its label (of CIFAR-100 the coarse one and then the fine one), one byte each, and 3072 bytes
of pixels, 1024 of each colour, row by row. Python: pickled dicts with ``data``, an array
``[rows, 3072]`` of the same pixels, and ``labels`` or ``fine_labels`` and ``coarse_labels``.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .building import assembled, checked_targets
from .dataset import Dataset
from .files import DataError, check_digest, located, members, require_official
from .hub import hub_images, opened_hub
from .unpickling import safely_unpickled

__all__ = ["load_cifar10", "load_cifar100"]

_PIXELS = 3 * 32 * 32
_ROWS = {"train": 50_000, "test": 10_000}  # of both
_LIMIT = 250_000_000  # bytes of one member: CIFAR-100's training set has 155 million
_TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class _Form:
    """One form that a data set comes in."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str  # the file with the names of the classes
    binary: bool
    digests: dict[str, str]


_CIFAR10 = (
    _Form(
        "cifar-10-batches-bin", "cifar-10-binary.tar.gz",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",), "batches.meta.txt",
        True, {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
    ),
    _Form(
        "cifar-10-batches-py", "cifar-10-python.tar.gz",
        tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",), "batches.meta", False,
        {
            "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
    ),
)  # fmt: skip
_CIFAR100 = (
    _Form(
        "cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), ("test.bin",),
        "fine_label_names.txt", True,
        {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
    ),
    _Form(
        "cifar-100-python", "cifar-100-python.tar.gz", ("train",), ("test",), "meta", False,
        {
            "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        },
    ),
)  # fmt: skip


def load_cifar10(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    seed: int = 0,
    verify: bool = True,
) -> Dataset:
    """CIFAR-10: 50,000 and 10,000 images of 32 x 32 pixels in ten classes (Krizhevsky 2009).

    Args:
        root: ``cifar-10-binary.tar.gz`` or ``cifar-10-python.tar.gz``, or what one of them
            unpacks to, or a folder with one of these; a data set that `datasets` saved to disk, or
            ``"hf:uoft-cs/cifar10"``. Default: ``$HALFLIFE_DATA``.
        validation: rows to hold out of the 50,000, or their share.
        seed: of the choice of these rows.
        verify: compare with the official files' digests where they are published (of the binary
            form unpacked, none is) and their numbers of rows.

    Raises:
        DataError: if the files are missing, cut off or others.
    """
    return _load("cifar10", root, _CIFAR10, _TEN, validation, seed, verify)


def load_cifar100(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    seed: int = 0,
    verify: bool = True,
) -> Dataset:
    """CIFAR-100: the same numbers of images in a hundred classes, the fine ones.

    Args:
        root: ``cifar-100-binary.tar.gz`` or ``cifar-100-python.tar.gz``, and the rest as in
            `load_cifar10`; ``"hf:uoft-cs/cifar100"``.
        validation: rows to hold out of the 50,000, or their share.
        seed: of the choice of these rows.
        verify: as in `load_cifar10`.

    Raises:
        DataError: if the files are missing, cut off or others.
    """
    hundred = tuple(map(str, range(100)))
    return _load("cifar100", root, _CIFAR100, hundred, validation, seed, verify)


def _load(
    name: str,
    root: str | os.PathLike[str] | None,
    forms: tuple[_Form, ...],
    classes: tuple[str, ...],
    validation: float,
    seed: int,
    verify: bool,
) -> Dataset:
    label = "label" if name == "cifar10" else "fine_label"
    if (hub := opened_hub(root)) is not None:
        parts, source = {}, str(root)
        for split in _ROWS:
            parts[split], classes = hub_images(hub, split, "img", label, (32, 32), source, classes)
    else:
        found: list[_Form] = []

        def accept(place: Path) -> Path | None:
            for form in forms:
                if (path := _path(place, form)) is not None:
                    found.append(form)
                    return path
            if place.is_file():
                folders = " or ".join(form.folder for form in forms)
                raise DataError(
                    f"{place}: expected an archive of {folders}, found "
                    f"{_first_file(place) or 'nothing'} in it; give the archive of this data set."
                )
            return None

        wanted = " or ".join(form.archive for form in forms)
        path = located(name, root, accept, f"put {wanted} there, from the data set's own page")
        parts, classes = _read(path, found[0], classes, verify)
        source = str(path)
    if verify:
        for split, rows in _ROWS.items():
            count = len(parts[split][1])
            require_official(count == rows, source, f"{rows} {split} rows", count)
    return assembled(
        name, parts["train"], parts["test"], classes,
        validation=validation, seed=seed, source=source,
    )  # fmt: skip


def _path(place: Path, form: _Form) -> Path | None:
    if place.is_file():  # an archive, whatever it is called: its first file says which
        return place if f"{form.folder}/" in _first_file(place) else None
    for path in (place, place / form.folder):
        if (path / form.test[0]).is_file():
            return path
    archive = place / form.archive
    return archive if archive.is_file() else None


def _first_file(path: Path) -> str:
    try:
        with tarfile.open(path, "r:*") as archive:
            return next((member.name for member in archive if member.isreg()), "")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: cut off, damaged or no tar archive ({error}); get the archive again."
        ) from error


def _read(
    path: Path, form: _Form, classes: tuple[str, ...], verify: bool
) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[str, ...]]:
    if path.is_dir():
        for name in (*form.train, *form.test):
            if (path / name).is_file():  # else the reader says that it is missing
                check_digest(path / name, form.digests, verify)
    else:
        check_digest(path, {path.name: form.digests[form.archive]}, verify)
    wanted = (*form.train, *form.test)
    expected = f"a file of {form.archive}"
    rows: dict[str, tuple[np.ndarray, Tensor]] = {}
    for name, data in members(path, form.folder, wanted, expected, _LIMIT, (form.names,)):
        where = f"{path}: {name}"
        if name == form.names:
            classes = _class_names(data, where, form, classes)
        else:
            read = _records if form.binary else _pickled
            rows[name] = read(data, where, len(classes))
    parts = {}
    for split, names in (("train", form.train), ("test", form.test)):
        images = np.concatenate([rows[name][0] for name in names])
        targets = torch.cat([rows.pop(name)[1] for name in names])
        parts[split] = torch.from_numpy(images).view(-1, 3, 32, 32), targets
    return parts, classes


def _records(data: bytes, where: str, classes: int) -> tuple[np.ndarray, Tensor]:
    labels = 1 if classes == 10 else 2
    size = labels + _PIXELS
    if len(data) % size:
        raise DataError(
            f"{where}: expected records of {size} bytes, found {len(data)} bytes, "
            f"{len(data) % size} more than whole records; get the file again."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    targets = checked_targets(records[:, labels - 1], len(records), classes, where)
    return records[:, labels:], targets


def _pickled(data: bytes, where: str, classes: int) -> tuple[np.ndarray, Tensor]:
    found = safely_unpickled(data, where)
    key = "labels" if classes == 10 else "fine_labels"
    if not isinstance(found, dict) or not {"data", key} <= found.keys():
        keys = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise DataError(
            f"{where}: expected a dict with 'data' and {key!r}, found {keys}; give the archive of "
            "this data set."
        )
    images = found["data"]
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or (
        images.shape[1] != _PIXELS
    ):  # fmt: skip
        shape = getattr(images, "shape", None), str(getattr(images, "dtype", type(images)))
        raise DataError(
            f"{where}: expected 'data' of uint8 [rows, {_PIXELS}], found {shape}; get the file "
            "again."
        )
    return images, checked_targets(found[key], len(images), classes, where)


def _class_names(data: bytes, where: str, form: _Form, classes: tuple[str, ...]) -> tuple[str, ...]:
    if form.binary:
        names = data.decode("ascii", "replace").split()
    else:
        found = safely_unpickled(data, where)
        key = "label_names" if len(classes) == 10 else "fine_label_names"
        given = found.get(key, []) if isinstance(found, dict) else []
        names = [n.decode("latin1") if isinstance(n, bytes) else str(n) for n in given]
    if len(names) != len(classes):
        raise DataError(
            f"{where}: expected {len(classes)} names of classes, found {len(names)}; get the file "
            "again."
        )
    return tuple(names)
