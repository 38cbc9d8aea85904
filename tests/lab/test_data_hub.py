"""Data sets of Hugging Face, saved to disk. Nothing is fetched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from halflife.lab.data import CentreCrop, DataError, batches, load
from halflife.lab.data import hub as hub_module

datasets = pytest.importorskip("datasets", reason="needs the extra hf")
images = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")


def saved(folder, splits, image, label, names, sizes=((32, 32),)):
    random = np.random.RandomState(0)
    arrays, parts = {}, {}
    for split, rows in splits.items():
        arrays[split] = [
            random.randint(0, 256, (*sizes[i % len(sizes)], 3)).astype(np.uint8)
            for i in range(rows)
        ]
        features = datasets.Features(
            {image: datasets.Image(), label: datasets.ClassLabel(names=names)}
        )
        pictures = [images.fromarray(array) for array in arrays[split]]
        labels = [i % len(names) for i in range(rows)]
        parts[split] = datasets.Dataset.from_dict({image: pictures, label: labels}, features)
    datasets.DatasetDict(parts).save_to_disk(folder)
    return arrays


@pytest.mark.parametrize(
    ("name", "label", "classes"), [("cifar10", "label", 10), ("cifar100", "fine_label", 100)]
)
def test_cifar(tmp_path, name, label, classes):
    names = [f"c{i}" for i in range(classes)]
    arrays = saved(tmp_path / "d", {"train": 12, "test": 11}, "img", label, names)
    data = load(name, tmp_path / "d", validation=0, verify=False)
    expected = torch.from_numpy(np.stack(arrays["train"])).permute(0, 3, 1, 2)
    assert torch.equal(data.train.inputs, expected)
    assert data.test.targets.tolist() == [i % classes for i in range(11)]
    assert data.classes == tuple(names)
    with pytest.raises(DataError, match=r"official data \(50000 train rows\), found 12"):
        load(name, tmp_path / "d")


def test_imagenet_streams(tmp_path):
    names, sizes = ["a", "b", "c"], ((20, 30), (40, 25))
    arrays = saved(tmp_path / "d", {"train": 6, "validation": 4}, "image", "label", names, sizes)
    data = load("imagenet", tmp_path / "d", verify=False)
    assert data.train.inputs.rows.num_rows == 6
    assert data.test.targets.tolist() == [0, 1, 2, 0]
    x, _ = next(batches(data.test, 4, shuffle=False, augment=CentreCrop(20, resize=20)))
    assert x.shape == (4, 3, 20, 20)
    pixels = torch.from_numpy(arrays["validation"][0][:, 5:25]).permute(2, 0, 1)
    restored = x[0] * data.std.view(3, 1, 1) + data.mean.view(3, 1, 1)
    torch.testing.assert_close(restored * 255, pixels.float(), rtol=0, atol=1e-3)


def test_other_data_sets_are_told(tmp_path):
    saved(tmp_path / "d", {"train": 3}, "image", "label", ["a", "b"])
    with pytest.raises(DataError, match="expected columns img, label, found image, label"):
        load("cifar10", tmp_path / "d")
    with pytest.raises(DataError, match="expected a split 'validation', found"):
        load("imagenet", tmp_path / "d")
    saved(tmp_path / "e", {"train": 3, "test": 3}, "img", "label", ["a"] * 1, ((28, 28),))
    with pytest.raises(
        DataError, match="expected images of 32 x 32 pixels, found 28 x 28 in row 0"
    ):
        load("cifar10", tmp_path / "e")
    (tmp_path / "e" / "train" / "state.json").write_text("{")
    with pytest.raises(DataError, match="expected a data set of Hugging Face, found none"):
        load("cifar10", tmp_path / "e")


def test_names_on_the_hub_are_handed_on(monkeypatch):
    def told(name):
        raise ConnectionError(f"no way to {name}")

    library = type("library", (), {"load_dataset": staticmethod(told)})
    monkeypatch.setattr(hub_module, "needed", lambda *_: library)
    with pytest.raises(DataError, match="no way to some/name"):
        load("cifar10", "hf:some/name")


def test_without_the_library_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ImportError, match=r"Reading hf:a needs the extra 'hf'.*torch-halflife\[hf\]"
    ):
        load("cifar10", "hf:a")
