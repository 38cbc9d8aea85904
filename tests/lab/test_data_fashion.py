"""IDX files, and the real Fashion-MNIST of Debian."""

from __future__ import annotations

import gzip
import hashlib
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import FASHION, fashion, idx

from halflife.lab.data import DataError, load, load_fashion_mnist
from halflife.lab.data.fashion_mnist import read_idx


@pytest.mark.parametrize("packed", [True, False])
def test_images_and_labels(tmp_path, packed):
    arrays = fashion(tmp_path)
    if not packed:
        for name in FASHION:
            path = tmp_path / f"{name}.gz"
            (tmp_path / name).write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    data = load_fashion_mnist(tmp_path, validation=0, verify=False)
    assert torch.equal(data.train.inputs[:, 0], torch.from_numpy(arrays[FASHION[0]]))
    assert data.train.inputs.shape == (20, 1, 28, 28)
    assert data.train.targets.tolist() == arrays[FASHION[1]].tolist()
    assert torch.equal(data.test.inputs[:, 0], torch.from_numpy(arrays[FASHION[2]]))
    assert data.classes[9] == "Ankle boot"


def test_it_is_found_by_the_variable(tmp_path, monkeypatch):
    fashion(tmp_path / "fashion-mnist")
    monkeypatch.setenv("HALFLIFE_DATA", str(tmp_path))
    assert len(load("fashion-mnist", validation=0, verify=False).train) == 20


def test_idx_of_known_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes(range(6)))
    assert read_idx(path, 2).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03\0\0", "expected 18 bytes by its own header, found 14"),
        (b"\0\0\x08\x02\0\0\0\x02\0\0\0\x00\0\0", "expected 12 bytes by its own header, found 14"),
        (b"\0\0\x08\x02\0\0", "expected 12 bytes by its own header, found 6"),
        (b"\0\0\x08\x01\0\0\0\x02\0\0", r"in 2 dimensions \(0x00000802\), found 0x00000801"),
        (b"\0\0\x0d\x02\0\0\0\x02\0\0", "found 0x00000d02"),  # floats
        (b"\x08\x02\0\0", "found 0x08020000"),
        (b"\0", "found 0x00;"),
        (b"", "empty"),
    ],
    ids=["short", "long", "header", "labels", "floats", "order", "one byte", "empty"],
)
def test_idx_files_that_are_not(tmp_path, data, message):
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"x: .*{message}"):
        read_idx(path, 2)


def test_a_header_that_promises_too_much_fills_no_memory(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 1 << 30) + bytes(1 << 20)))
    with pytest.raises(DataError, match="more than 100 bytes"):
        read_idx(path, 1, limit=100)


def test_swapped_cut_and_missing_files(tmp_path):
    fashion(tmp_path)
    first, second = (tmp_path / f"{name}.gz" for name in FASHION[:2])
    whole, labels = first.read_bytes(), second.read_bytes()
    first.write_bytes(labels)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte\.gz: expected an IDX file .* in 3"
    ):
        load_fashion_mnist(tmp_path)
    first.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cut off or damaged"):
        load_fashion_mnist(tmp_path)
    first.write_bytes(whole)
    second.write_bytes((tmp_path / f"{FASHION[3]}.gz").read_bytes())
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: expected 20 labels"):
        load_fashion_mnist(tmp_path, verify=False)
    second.unlink()
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: missing"):
        load_fashion_mnist(tmp_path, verify=False)
    first.unlink()
    with pytest.raises(DataError, match=r"fashion-mnist: not found in .*Debian's dataset-fashion"):
        load_fashion_mnist(tmp_path)


def test_labels_that_are_no_classes(tmp_path):
    fashion(tmp_path)
    (tmp_path / f"{FASHION[1]}.gz").write_bytes(gzip.compress(idx(np.full(20, 10, np.uint8))))
    with pytest.raises(DataError, match="labels from 0 to 9, found 10"):
        load_fashion_mnist(tmp_path, verify=False)


def test_only_the_official_files_are_verified(tmp_path):
    fashion(tmp_path)
    with pytest.raises(DataError, match=r"official data \(SHA-256 .*verify=False"):
        load_fashion_mnist(tmp_path)


# --- the real one ---------------------------------------------------------------------------------


def debian() -> Path:
    for prefix in (sys.prefix, "/usr/local", "/usr"):
        folder = Path(prefix, "share", "datasets", "fashion-mnist")
        if (folder / f"{FASHION[0]}.gz").is_file():
            return folder
    pytest.skip("Debian's package dataset-fashion-mnist is not installed")


@pytest.mark.slow
def test_the_real_one_is_found_whole(monkeypatch):
    debian()
    monkeypatch.delenv("HALFLIFE_DATA", raising=False)
    data = load("fashion-mnist", validation=0.1)
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    for split, each in ((data.train, 5_400), (data.validation, 600), (data.test, 1_000)):
        assert split.targets.bincount().tolist() == [each] * 10
    # Published: labels of the first training images in the data set's own README.
    whole = load("fashion-mnist", validation=0)
    assert whole.train.targets[:5].tolist() == [9, 0, 0, 3, 0]
    # The usual numbers of this data set.
    torch.testing.assert_close(whole.mean, torch.tensor([0.2860]), rtol=0, atol=5e-5)
    torch.testing.assert_close(whole.std, torch.tensor([0.3530]), rtol=0, atol=5e-5)


OFFICIAL = {  # MD5 as published, and when gzip was run, which its header tells
    FASHION[0]: ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 1504176606),
    FASHION[1]: ("25c81989df183df01b3e8a0aad5dffbe", 1504176606),
    FASHION[2]: ("bef4ecab320f06d8554ea6380940ec79", 1504176627),
    FASHION[3]: ("bb300cfdad3c16e7a12a480ee83cd310", 1504176627),
}


@pytest.mark.parametrize("name", FASHION)
def test_debians_files_are_the_official_ones_but_for_their_headers(name):
    """So the digests of what is in them, which `verify` compares, are those of the official files.

    Debian packed again with ``gzip -n``: with the official header, which has a name and a time
    (the time was found by trying those of August 2017), the MD5 is the published one.
    """
    data = (debian() / f"{name}.gz").read_bytes()
    digest, time = OFFICIAL[name]
    assert hashlib.md5(data).hexdigest() != digest
    header = b"\x1f\x8b\x08\x08" + struct.pack("<I", time) + b"\0\x03" + name.encode() + b"\0"
    assert hashlib.md5(header + data[10:]).hexdigest() == digest
