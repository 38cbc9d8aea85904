"""CIFAR-10 and CIFAR-100 in all the forms that they come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_files import (
    batches_of_ten,
    cifar10_binary,
    cifar10_python,
    cifar100,
    images_of,
    python2_pickle,
    tar_of,
    written,
)

from halflife.lab.data import DataError, load, load_cifar10, load_cifar100

FORMS = {"binary": cifar10_binary, "python": cifar10_python}
FOLDERS = {"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"}


def placed(tmp_path, files, form, packed, number):
    """Where a user may have it, and what is passed as root."""
    name = f"cifar-{number}-{form}"
    if packed:
        tar_of(tmp_path / f"{name}.tar.gz", files)
        return tmp_path if packed == "beside" else tmp_path / f"{name}.tar.gz"
    return written(tmp_path, files)


@pytest.mark.parametrize("packed", [False, True, "beside"])
@pytest.mark.parametrize("form", FORMS)
def test_cifar10(tmp_path, form, packed):
    rows = batches_of_ten()
    root = placed(tmp_path, FORMS[form](rows), form, packed, 10)
    data = load_cifar10(root, validation=0, verify=False)
    images = np.concatenate([images for images, _ in rows[:5]]).reshape(50, 3, 32, 32)
    assert torch.equal(data.train.inputs, torch.from_numpy(images))
    assert data.train.targets.tolist() == list(range(10)) * 5
    assert torch.equal(data.test.inputs, torch.from_numpy(rows[5][0].reshape(10, 3, 32, 32)))
    assert (data.validation, data.classes[3], data.name) == (None, "cat", "cifar10")
    assert data.train.targets.dtype == torch.int64
    # Red of the first pixel of the second row, of the record's own bytes.
    assert data.train.inputs[0, 0, 1, 0] == rows[0][0][0, 32]
    assert data.train.inputs[0, 2, 0, 5] == rows[0][0][0, 2048 + 5]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "python"])
def test_cifar100_has_the_fine_labels(tmp_path, binary, packed):
    train = images_of(200), np.arange(200) % 100
    test = images_of(100, 1), np.arange(100)[::-1].copy()
    form = "binary" if binary else "python"
    root = placed(tmp_path, cifar100(train, test, binary), form, packed, 100)
    data = load_cifar100(root, validation=0, verify=False)
    assert torch.equal(data.train.inputs.reshape(200, -1), torch.from_numpy(train[0]))
    assert data.train.targets.tolist() == train[1].tolist()
    assert data.test.targets.tolist() == test[1].tolist()
    assert (len(data.classes), data.classes[42]) == (100, "class42")


def test_both_forms_are_the_same_data(tmp_path):
    rows = batches_of_ten()
    loaded = []
    for form, write in FORMS.items():
        root = written(tmp_path / form, write(rows))
        loaded.append(load("cifar10", root, validation=10, seed=1, verify=False))
    a, b = loaded
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(a, split).inputs, getattr(b, split).inputs)
        assert torch.equal(getattr(a, split).targets, getattr(b, split).targets)
    assert a.classes == b.classes
    assert torch.equal(a.mean, b.mean)


def test_mean_and_std_are_of_the_rows_that_are_trained_on(tmp_path):
    root = written(tmp_path, cifar10_binary(batches_of_ten()))
    data = load_cifar10(root, validation=20, verify=False)
    pixels = data.train.inputs.double() / 255
    torch.testing.assert_close(data.mean.double(), pixels.mean((0, 2, 3)), rtol=0, atol=1e-7)
    torch.testing.assert_close(
        data.std.double(), pixels.std((0, 2, 3), correction=0), rtol=0, atol=1e-7
    )
    assert data.test.mean is data.train.mean


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_another_file_than_the_official_one_is_refused(tmp_path, form):
    files = FORMS[form](batches_of_ten())
    with pytest.raises(DataError, match=r"official data .*verify=False"):
        load_cifar10(tar_of(tmp_path / "any.tar.gz", files))
    with pytest.raises(DataError, match=r"official data .*verify=False"):
        load_cifar10(written(tmp_path, files))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [0, 5], ids=["training", "test"])
def test_cut_and_missing_batches_are_told(tmp_path, form, number):
    files = FORMS[form](batches_of_ten())
    name = [n for n in files if "meta" not in n][number]
    whole = files[name]
    for cut in (len(whole) - 1, len(whole) // 2 + 1, 1, 0):
        written(tmp_path, {**files, name: whole[:cut]})
        with pytest.raises(DataError, match=rf"{name.rpartition('/')[2]}: .*again\."):
            load_cifar10(tmp_path, verify=False)
        archive = tar_of(tmp_path / "cut.tar.gz", {**files, name: whole[:cut]})
        with pytest.raises(DataError, match=name.rpartition("/")[2]):
            load_cifar10(archive, verify=False)
    del files[name]
    with pytest.raises(DataError, match=f"holds no {name}"):
        load_cifar10(tar_of(tmp_path / "less.tar.gz", files), verify=False)
    if number == 0:  # without a test batch the folder is not found at all
        (tmp_path / name).unlink()
        with pytest.raises(DataError, match=f"{name.rpartition('/')[2]}: missing"):
            load_cifar10(tmp_path / FOLDERS[form], verify=False)


def test_a_missing_data_set_names_the_archives(tmp_path):
    with pytest.raises(DataError, match=r"cifar10: not found in .*put cifar-10-binary.tar.gz or"):
        load_cifar10(tmp_path)
    with pytest.raises(DataError, match=r"cifar100: not found"):
        load_cifar100(tmp_path / "none")


def test_one_data_set_for_the_other_is_told(tmp_path):
    hundred = cifar100((images_of(10), np.arange(10)), (images_of(10), np.arange(10)), False)
    root = tar_of(tmp_path / "cifar-10-python.tar.gz", hundred)
    with pytest.raises(
        DataError, match=r"expected an archive of cifar-10-batches-bin or .*found cifar-100-python/"
    ):
        load_cifar10(root, verify=False)
    # CIFAR-100's dict under the name of a batch of CIFAR-10.
    files = cifar10_python(batches_of_ten())
    files["cifar-10-batches-py/data_batch_2"] = hundred["cifar-100-python/train"]
    with pytest.raises(DataError, match="data_batch_2: expected a dict with 'data' and 'labels'"):
        load_cifar10(written(tmp_path, files), verify=False)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({b"data": images_of(3), b"labels": [0, 1]}, "expected 3 labels"),
        ({b"data": images_of(3), b"labels": [0, 1, 10]}, "labels from 0 to 9, found 10"),
        ({b"data": images_of(3)[:, :100].copy(), b"labels": [0, 1, 2]}, "expected 'data' of uint8"),
        (
            {b"data": images_of(3).astype(np.int32), b"labels": [0, 1, 2]},
            "expected 'data' of uint8",
        ),
        ({b"data": [1, 2], b"labels": [0, 1]}, "expected 'data' of uint8"),
    ],
    ids=["labels", "class", "pixels", "dtype", "list"],
)
def test_batches_of_other_contents_are_told(tmp_path, entries, message):
    files = cifar10_python(batches_of_ten())
    files["cifar-10-batches-py/data_batch_3"] = python2_pickle(entries)
    with pytest.raises(DataError, match=f"data_batch_3: .*{message}"):
        load_cifar10(written(tmp_path, files), verify=False)


def test_a_label_of_the_binary_form_that_is_no_class_is_told(tmp_path):
    rows = batches_of_ten()
    rows[2] = rows[2][0], rows[2][1] + 1
    with pytest.raises(
        DataError, match=r"data_batch_3\.bin: expected labels from 0 to 9, found 10"
    ):
        load_cifar10(written(tmp_path, cifar10_binary(rows)), verify=False)


def test_a_hostile_batch_is_refused_by_name(tmp_path):
    files = cifar10_python(batches_of_ten())
    files["cifar-10-batches-py/data_batch_1"] = b"cos\nsystem\n(S'true'\ntR."
    with pytest.raises(DataError, match=r"data_batch_1: not read, as it holds the name os\.system"):
        load_cifar10(written(tmp_path, files), verify=False)
