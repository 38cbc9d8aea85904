"""ImageNet in folders, read picture by picture, and ImageNet32 in its batches."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
import pytest
import torch
from data_files import images_of, python2_pickle

from halflife.lab.data import (
    CentreCrop,
    Chain,
    Cutout,
    DataError,
    RandomResizedCrop,
    batches,
    load,
    load_imagenet,
    load_imagenet32,
)
from halflife.lab.data.augment import Flip

# --- ImageNet32 -----------------------------------------------------------------------------------


def labels_of(rows, start):
    """From 1 to 1000, as its authors count."""
    return ((np.arange(rows) + start) % 1000 + 1).tolist()


def imagenet32(folder, form, rows=(7, 5, 6)):
    sets = [(images_of(n, i), labels_of(n, 10 * i + 990)) for i, n in enumerate(rows)]
    names = [*(f"train_data_batch_{i + 1}" for i in range(len(rows) - 1)), "val_data"]
    mean = np.zeros(3072)
    for name, (images, labels) in zip(names, sets, strict=True):
        entries = {"data": images, "labels": np.array(labels), "mean": mean}
        if form == "stored":
            np.savez(folder / f"{name}.npz", **entries)
        elif form == "packed":
            np.savez_compressed(folder / f"{name}.npz", **entries)
        elif form == "python 3":
            (folder / name).write_bytes(pickle.dumps({**entries, "labels": labels}, 2))
        else:
            old = {b"data": images, b"labels": labels, b"mean": mean}
            (folder / name).write_bytes(python2_pickle(old))
    return sets


FORMS = ["stored", "packed", "python 3", "python 2"]


@pytest.mark.parametrize("form", FORMS)
def test_imagenet32(tmp_path, form):
    sets = imagenet32(tmp_path, form)
    data = load_imagenet32(tmp_path, verify=False)
    images = np.concatenate([sets[0][0], sets[1][0]]).reshape(-1, 3, 32, 32)
    rows = torch.tensor([11, 0, 7, 6, 0])
    assert torch.equal(data.train.inputs[rows], torch.from_numpy(images[rows]))
    assert data.train.targets.tolist() == [label - 1 for label in sets[0][1] + sets[1][1]]
    assert (len(data.train), len(data.test), data.validation) == (12, 6, None)
    mapped = [isinstance(part, np.memmap) for part in data.train.inputs.parts]
    assert mapped == [form == "stored"] * 2
    torch.testing.assert_close(
        data.mean.double(),
        torch.from_numpy(images).double().mean((0, 2, 3)) / 255,
        rtol=0,
        atol=1e-7,
    )


def test_a_process_started_anew_maps_the_files_itself(tmp_path):
    imagenet32(tmp_path, "stored", rows=(400, 400, 6))
    inputs = load_imagenet32(tmp_path, verify=False).train.inputs
    sent = pickle.dumps(inputs)
    assert len(sent) < 2000  # of 2.4 million bytes
    again = pickle.loads(sent)
    rows = torch.tensor([0, 799, 400])
    assert torch.equal(again[rows], inputs[rows])


def test_rows_outside_are_refused(tmp_path):
    imagenet32(tmp_path, "stored")
    inputs = load_imagenet32(tmp_path, verify=False).train.inputs
    for row in (-1, 12):
        with pytest.raises(IndexError, match=r"rows must be in \[0, 12\)"):
            inputs[torch.tensor([row])]


def test_held_out_rows_are_not_copied(tmp_path):
    sets = imagenet32(tmp_path, "stored")
    whole = load("imagenet32", tmp_path, verify=False)
    data = load("imagenet32", tmp_path, validation=4, verify=False)
    assert (len(data.train), len(data.validation)) == (8, 4)
    assert data.train.inputs.rows is data.validation.inputs.rows
    images = np.concatenate([sets[0][0], sets[1][0]]).reshape(-1, 3, 32, 32)
    held, kept = data.validation.inputs.chosen, data.train.inputs.chosen
    assert sorted([*held.tolist(), *kept.tolist()]) == list(range(12))
    assert torch.equal(data.validation.inputs[torch.arange(4)], torch.from_numpy(images[held]))
    assert torch.equal(data.train.targets, whole.train.targets[kept])
    x, _ = next(batches(data.train, 8, shuffle=False, augment=Cutout(8)))
    assert x.shape == (8, 3, 32, 32)


@pytest.mark.parametrize("form", FORMS)
def test_imagenet32_cut_off(tmp_path, form):
    imagenet32(tmp_path, form)
    path = next(p for p in tmp_path.iterdir() if "batch_2" in p.name)
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="train_data_batch_2"):
            load_imagenet32(tmp_path, verify=False)


def test_imagenet32_of_other_contents(tmp_path):
    imagenet32(tmp_path, "stored")
    path = tmp_path / "train_data_batch_2.npz"
    for entries, message in [
        ({"data": images_of(3)}, "expected arrays 'data' and 'labels', found data"),
        ({"data": images_of(3), "labels": np.array([0, 1, 2])}, "labels from 0 to 999, found -1"),
        ({"data": images_of(3), "labels": np.array([1, 2, 1001])}, "found 1000"),
        ({"data": images_of(3), "labels": np.array([1, 2])}, "expected 3 labels"),
        ({"data": images_of(3), "labels": np.array([1.0, 2.0, 3.0])}, "'labels' of integers"),
        ({"data": images_of(3)[:, :768], "labels": np.array([1, 2, 3])}, "32 x 32"),
        ({"data": images_of(3) / 255, "labels": np.array([1, 2, 3])}, "found float64"),
        ({"data": np.array([{}]), "labels": np.array([1])}, "not stored"),  # of objects
    ]:
        np.savez(path, **entries)
        with pytest.raises(DataError, match=f"train_data_batch_2.*{message}"):
            load_imagenet32(tmp_path, verify=False)


def test_imagenet32_whole_and_missing(tmp_path):
    imagenet32(tmp_path, "stored")
    with pytest.raises(DataError, match=r"official data \(1281167 train rows\), found 12"):
        load_imagenet32(tmp_path)
    (tmp_path / "train_data_batch_1.npz").unlink()
    with pytest.raises(DataError, match="holds no train_data_batch_1"):
        load_imagenet32(tmp_path)
    with pytest.raises(DataError, match="imagenet32: not found in"):
        load_imagenet32(tmp_path / "none")


# --- ImageNet: pictures in folders ----------------------------------------------------------------

SIZES = [(40, 30), (30, 50), (64, 64), (33, 47)]  # width and height
CLASSES = ("n01440764", "n01443537", "n02119789")


@pytest.fixture
def folder(tmp_path):
    images = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    random = np.random.RandomState(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in CLASSES:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                width, height = SIZES[number % len(SIZES)]
                coarse = random.randint(0, 256, (4, 4, 3)).astype(np.uint8)
                picture = images.fromarray(coarse).resize((width, height))
                picture.save(tmp_path / split / name / f"{name}_{number}.JPEG", quality=95)
    return tmp_path


def test_folders_are_classes_and_nothing_is_held(folder):
    data = load_imagenet(folder, verify=False)
    assert data.classes == CLASSES
    assert data.train.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.test.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train.inputs.path(5) == folder / "train" / CLASSES[1] / f"{CLASSES[1]}_1.JPEG"
    held = sum(getattr(value, "nbytes", len(value)) for key, value in
               vars(data.train.inputs).items() if key != "root")  # fmt: skip
    assert held < 60 * len(data.train)  # its names, and no pixel


def test_pictures_are_those_of_pillow(folder):
    from PIL import Image

    data = load_imagenet(folder, verify=False)
    crop = CentreCrop(16, resize=16)
    x, y = next(batches(data.test, 6, shuffle=False, augment=crop, drop_last=False))
    mean, std = data.mean.view(3, 1, 1), data.std.view(3, 1, 1)
    for row in range(6):
        with Image.open(data.test.inputs.path(row)) as picture:
            side = min(picture.size)
            left, top = (picture.width - side) / 2, (picture.height - side) / 2
            box = (left, top, left + side, top + side)
            expected = picture.resize((16, 16), Image.Resampling.BILINEAR, box=box)
        pixels = torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255
        torch.testing.assert_close(x[row] * std + mean, pixels, rtol=0, atol=1e-6)
    assert y.tolist() == [0, 0, 1, 1, 2, 2]


def test_many_sizes_become_one_without_being_asked(folder):
    data = load_imagenet(folder, verify=False)
    x, _ = next(batches(data.train, 4))
    assert x.shape == (4, 3, 224, 224)
    x, _ = next(batches(data.train, 4, augment=Flip()))
    assert x.shape == (4, 3, 224, 224)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_workers_ranks_and_starts_change_no_picture(folder):
    data = load_imagenet(folder, validation=3, verify=False)
    settings = {"seed": 3, "epoch": 2, "augment": Chain(RandomResizedCrop(20), Cutout(6))}
    whole = list(batches(data.train, 4, **settings))
    assert len(whole) == 2
    state = torch.random.get_rng_state()
    for workers in (0, 1):
        again = list(batches(data.train, 4, workers=workers, start=1, **settings))
        assert len(again) == 1
        assert torch.equal(again[0][0], whole[1][0])
        assert torch.equal(again[0][1], whole[1][1])
    assert torch.equal(torch.random.get_rng_state(), state)
    for rank in range(2):
        for (x, y), (own, labels) in zip(
            whole, batches(data.train, 4, rank=rank, world=2, **settings), strict=True
        ):
            assert torch.equal(own, x[rank::2])
            assert torch.equal(labels, y[rank::2])
    other = next(batches(data.train, 4, **{**settings, "epoch": 3}))
    assert not torch.equal(other[0], whole[0][0])


def test_random_boxes_of_files_are_those_of_tensors(folder):
    """A picture cut by Pillow and one cut in a batch are the same to two grey levels: Pillow
    rounds between its passes."""
    from PIL import Image

    data = load_imagenet(folder, verify=False)
    crop = RandomResizedCrop(24)
    uniform = torch.rand(12, crop.draws, dtype=torch.float64)
    cut = data.train.inputs.cut(torch.arange(12), crop, uniform)
    for row in range(12):
        with Image.open(data.train.inputs.path(row)) as picture:
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        alone = crop.apply(pixels, uniform[row : row + 1], torch.zeros(3, dtype=torch.uint8))
        assert (alone[0].int() - cut[row].int()).abs().max() <= 2


def test_without_pillow_the_extra_is_named(folder, monkeypatch):
    data = load_imagenet(folder, verify=False)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"needs the extra 'images' .*torch-halflife\[images\]"):
        next(batches(data.train, 4))


def test_what_is_wrong_with_folders(folder):
    with pytest.raises(DataError, match=r"official data \(1000 classes\), found 3"):
        load_imagenet(folder)
    path = folder / "train" / CLASSES[1] / f"{CLASSES[1]}_2.JPEG"
    whole = path.read_bytes()
    data = load_imagenet(folder, verify=False)
    for cut in (0, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"_2\.JPEG: cannot be read as a picture"):
            list(batches(data.train, 12))
    path.unlink()
    with pytest.raises(DataError, match=r"_2\.JPEG: cannot be read as a picture"):
        list(batches(data.train, 12))
    for other in list(path.parent.iterdir()):
        other.rename(folder / other.name)
    with pytest.raises(DataError, match=f"{CLASSES[1]}: expected pictures .* found none"):
        load_imagenet(folder, verify=False)
    path.parent.rmdir()
    with pytest.raises(
        DataError, match=rf"val: expected a folder .* of the 2 classes.*{CLASSES[1]}"
    ):
        load_imagenet(folder, verify=False)


def test_a_flat_validation_folder_is_told(folder):
    # The official archive of the validation set has no folders.
    for path in sorted((folder / "val").rglob("*.JPEG")):
        path.rename(folder / "val" / path.name)
    for name in CLASSES:
        os.rmdir(folder / "val" / name)
    with pytest.raises(DataError, match="val: expected a folder for every class, found none; sort"):
        load_imagenet(folder, verify=False)
    os.rename(folder / "val", folder / "elsewhere")
    with pytest.raises(DataError, match="val: missing"):
        load_imagenet(folder, verify=False)
    with pytest.raises(DataError, match="imagenet: not found"):
        load_imagenet(folder / "none")
