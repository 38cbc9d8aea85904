"""Small files in the true formats, written byte by byte from the published descriptions."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def images_of(rows: int, seed: int = 0) -> np.ndarray:
    """Pixels as CIFAR and ImageNet32 have them, ``[rows, 3072]``."""
    return np.random.RandomState(seed).randint(0, 256, (rows, 3072)).astype(np.uint8)


# --- pickles as Python 2 and NumPy 1 wrote them, protocol 2 ---------------------------------------


def _text(value: bytes) -> bytes:
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def _array(array: np.ndarray) -> bytes:
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t"
    order = b"|" if array.dtype.itemsize == 1 else b"<"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85" + _text(b"b") + b"\x87R(K\x01" + shape + b"cnumpy\ndtype\n"
        + _text(array.dtype.str[1:].encode()) + b"K\x00K\x01\x87R(K\x03" + _text(order)
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + _text(array.tobytes()) + b"tb"
    )  # fmt: skip


def _value(value: Any) -> bytes:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_value, value)) + b"e"
    return b"J" + struct.pack("<i", value)


def python2_pickle(entries: Mapping[bytes, Any]) -> bytes:
    """A dict with keys in bytes, as ``cPickle.dump(entries, file, 2)`` of Python 2 wrote it."""
    body = b"".join(_text(key) + _value(value) for key, value in entries.items())
    return b"\x80\x02}(" + body + b"u."


# --- archives and IDX -----------------------------------------------------------------------------


def tar_of(path: Path, files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Path:
    """A packed tar archive."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return path


def written(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The same files, unpacked."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


FASHION = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
           "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip


def fashion(folder: Path, train: int = 20, test: int = 10) -> dict[str, np.ndarray]:
    """The four files of Fashion-MNIST, packed."""
    random = np.random.RandomState(1)
    arrays = {}
    for rows, images, labels in ((train, *FASHION[:2]), (test, *FASHION[2:])):
        arrays[images] = random.randint(0, 256, (rows, 28, 28)).astype(np.uint8)
        arrays[labels] = (np.arange(rows) % 10).astype(np.uint8)
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return arrays


# --- CIFAR ----------------------------------------------------------------------------------------

TEN = b"airplane automobile bird cat deer dog frog horse ship truck".split()
HUNDRED = [f"class{i:02}".encode() for i in range(100)]


def cifar10_binary(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, bytes]:
    """Files of the binary form: five batches to train on and one to test on."""
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    files = {"cifar-10-batches-bin/batches.meta.txt": b"\n".join(TEN) + b"\n\n"}
    for name, (images, labels) in zip(names, rows, strict=True):
        records = np.concatenate([labels[:, None].astype(np.uint8), images], 1)
        files[f"cifar-10-batches-bin/{name}"] = records.tobytes()
    return files


def cifar10_python(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, bytes]:
    """Files of the Python form."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    meta = {b"num_cases_per_batch": 10000, b"label_names": TEN, b"num_vis": 3072}
    files = {"cifar-10-batches-py/batches.meta": python2_pickle(meta)}
    for number, (name, (images, labels)) in enumerate(zip(names, rows, strict=True)):
        files[f"cifar-10-batches-py/{name}"] = python2_pickle(
            {
                b"batch_label": b"training batch %d of 5" % (number + 1),
                b"labels": labels.tolist(),
                b"data": images,
                b"filenames": [b"%d.png" % i for i in range(len(labels))],
            }
        )
    return files


def cifar100(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], binary: bool
) -> dict[str, bytes]:
    """Files of either form; the coarse label is the fine one modulo 20."""
    folder = "cifar-100-binary" if binary else "cifar-100-python"
    files = {}
    for name, (images, labels) in (("train", train), ("test", test)):
        coarse = labels % 20
        if binary:
            both = np.stack([coarse, labels], 1).astype(np.uint8)
            files[f"{folder}/{name}.bin"] = np.concatenate([both, images], 1).tobytes()
        else:
            files[f"{folder}/{name}"] = python2_pickle(
                {
                    b"data": images,
                    b"coarse_labels": coarse.tolist(),
                    b"fine_labels": labels.tolist(),
                }
            )
    if binary:
        files[f"{folder}/fine_label_names.txt"] = b"\n".join(HUNDRED)
    else:
        files[f"{folder}/meta"] = python2_pickle({b"fine_label_names": HUNDRED})
    return files


def batches_of_ten(rows: int = 10) -> list[tuple[np.ndarray, np.ndarray]]:
    """Six batches of CIFAR-10, every class once or more in each."""
    return [(images_of(rows, seed), np.arange(rows) % 10) for seed in range(6)]
