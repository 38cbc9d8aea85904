"""Fashion-MNIST, and what else is in IDX files: big-endian, a magic number, sizes, bytes.

    0x00 0x00 0x08 d    two zeros, "unsigned bytes", number of dimensions
    d sizes             32 bits each, most significant byte first
    bytes               row by row

Debian's package ``dataset-fashion-mnist`` has the official files without the name and the time in
their gzip headers: the packed data are the same, the MD5 of the files is not. So digests are
compared of what is in them.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .building import assembled, checked_targets
from .dataset import Dataset
from .files import DataError, contents, located, require_official

__all__ = ["load_fashion_mnist", "read_idx"]

_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# SHA-256 of the unpacked files. The packed ones, as published, have these MD5:
# 8d4fb7e6c68d591d4c3dfef9ec88bf0d, 25c81989df183df01b3e8a0aad5dffbe,
# bef4ecab320f06d8554ea6380940ec79, bb300cfdad3c16e7a12a480ee83cd310.
_DIGESTS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_LIMIT = 60_000 * 28 * 28 + 16  # bytes of the largest


def load_fashion_mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    seed: int = 0,
    verify: bool = True,
) -> Dataset:
    """Fashion-MNIST: 60,000 and 10,000 grey images of 28 x 28 pixels in ten classes (Xiao 2017).

    Args:
        root: the folder of the four files, ``train-images-idx3-ubyte.gz`` and the others, packed
            or not. Default: ``$HALFLIFE_DATA`` or its ``fashion-mnist``, then
            ``share/datasets/fashion-mnist`` of Python's prefix, /usr/local and /usr: Debian's
            package ``dataset-fashion-mnist``.
        validation: rows to hold out of the 60,000, or their share.
        seed: of the choice of these rows.
        verify: compare with the official files.

    Raises:
        DataError: if the files are missing, cut off or others.
    """
    first = _FILES["train"][0]
    folder = located(
        "fashion-mnist", root, lambda place: place if _packed(place / first).is_file() else None,
        "put the four *-ubyte.gz files there, or install Debian's dataset-fashion-mnist",
    )  # fmt: skip
    parts = {}
    for split, (images, labels) in _FILES.items():
        inputs = _official(folder / images, 3, verify)
        where = str(_packed(folder / labels))
        targets = checked_targets(_official(folder / labels, 1, verify), len(inputs), 10, where)
        parts[split] = inputs[:, None], targets
    return assembled(
        "fashion-mnist", parts["train"], parts["test"], _CLASSES,
        validation=validation, seed=seed, source=str(folder),
    )  # fmt: skip


def read_idx(path: Path, dims: int, limit: int = _LIMIT) -> Tensor:
    """The array in an IDX file of bytes, packed or not.

    Args:
        path: the file.
        dims: how many dimensions it must have: 3 for images, 1 for labels.
        limit: most bytes that it may have.

    Raises:
        DataError: if it is missing, cut off, longer than it says, or of other dimensions.
    """
    return _parsed(contents(path, f"an IDX file of {dims} dimensions", limit), path, dims)


def _parsed(data: bytes, path: Path, dims: int) -> Tensor:
    header = 4 + 4 * dims
    magic = bytes([0, 0, 8, dims])
    if data[:4] != magic:
        raise DataError(
            f"{path}: expected an IDX file of bytes in {dims} dimensions (0x{magic.hex()}), found "
            f"0x{data[:4].hex()}; give the file of this name."
        )
    sizes = struct.unpack(f">{dims}I", data[4:header]) if len(data) >= header else ()
    expected = header + math.prod(sizes) if sizes else header
    if len(data) != expected:
        raise DataError(
            f"{path}: expected {expected} bytes by its own header, found {len(data)}; get the file "
            "again."
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).copy()).view(sizes)


def _official(path: Path, dims: int, verify: bool) -> Tensor:
    name, path = path.name, _packed(path)
    data = contents(path, f"an IDX file of {dims} dimensions", _LIMIT)
    array = _parsed(data, path, dims)  # first: that labels are no images says more than digests
    if verify:
        digest = hashlib.sha256(data).hexdigest()
        wanted = _DIGESTS[name]
        require_official(digest == wanted, path, f"SHA-256 {wanted}, unpacked", digest)
    return array


def _packed(path: Path) -> Path:
    """Either form of a file: packed, unless only the other is there."""
    return path if path.is_file() else path.with_name(f"{path.name}.gz")
