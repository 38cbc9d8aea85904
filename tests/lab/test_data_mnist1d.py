"""MNIST-1D: the published recipe's own numbers, and its pickle."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from halflife.lab.data import DataError, load, load_mnist1d, make_mnist1d
from halflife.lab.data.mnist1d import _templates


@pytest.fixture(scope="module")
def made():
    return make_mnist1d()


def test_seed_42_gives_the_published_data_set(made):
    """Numbers of ``make_dataset`` of the authors' package, mnist1d 0.0.2.post1, which all of this
    equals to the last bit with NumPy 2.4 and SciPy 1.17; other versions may round otherwise."""
    (x, y), (x_test, y_test) = made
    assert (x.shape, x_test.shape) == ((4000, 40), (1000, 40))
    first = [-0.33200567, -0.47191037, -0.77869708, -1.00974083]
    np.testing.assert_allclose(x[0, :4], first, rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        x_test[-1, -3:], [0.65987565, 0.87773435, 1.19315184], rtol=0, atol=1e-8
    )
    assert y[:10].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1]
    assert x.sum() == pytest.approx(-51.78746787509556, abs=1e-8)
    assert np.bincount(np.concatenate([y, y_test])).tolist() == [500] * 10


def test_all_signals_have_mean_0_and_variance_1(made):
    signals = np.concatenate([made[0][0], made[1][0]])
    assert abs(signals.mean()) < 1e-12
    assert abs(signals.std() - 1) < 1e-12


def test_templates_begin_and_end_at_zero():
    curves = _templates()
    assert curves.shape == (10, 12)
    assert np.abs(curves[:, [0, -1]]).max() < 1e-12
    np.testing.assert_allclose((6 * curves).std(1), 1, rtol=1e-12)


def test_another_seed_gives_others():
    (x, _), _ = make_mnist1d(100, seed=1)
    (again, _), _ = make_mnist1d(100, seed=1)
    (other, _), _ = make_mnist1d(100, seed=2)
    assert np.array_equal(x, again)
    assert not np.allclose(x, other)


@pytest.mark.parametrize("protocol", [2, 3, 5])
def test_the_pickle_is_read(tmp_path, made, protocol):
    (x, y), (x_test, y_test) = made
    path = tmp_path / "mnist1d_data.pkl"
    entries = {"x": x, "y": y, "x_test": x_test, "y_test": y_test, "t": np.zeros(40),
               "templates": {"x": np.zeros((10, 12)), "t": np.zeros(12), "y": y[:10]}}  # fmt: skip
    path.write_bytes(pickle.dumps(entries, protocol))
    data, generated = load("mnist1d", tmp_path, validation=100), load_mnist1d(validation=100)
    assert torch.equal(data.train.inputs, generated.train.inputs)
    assert torch.equal(data.test.targets, generated.test.targets)
    assert (len(data.train), len(data.validation)) == (3900, 100)
    assert data.train.inputs.dtype == torch.float32
    assert data.mean is None


def test_what_is_wrong_with_the_pickle(tmp_path):
    path = tmp_path / "mnist1d_data.pkl"
    with pytest.raises(DataError, match=r"mnist1d: not found in .*or pass no root to make it"):
        load_mnist1d(tmp_path)
    (x, y), (x_test, y_test) = make_mnist1d(100)
    whole = {"x": x, "y": y, "x_test": x_test, "y_test": y_test}
    for changed, message in [
        ({"x": None}, "expected a dict of arrays"),
        ({"x": x[:, :30]}, r"expected 'x' of \[rows, 40\], found \(80, 30\)"),
        ({"y": y[:-1]}, "expected 80 labels"),
    ]:
        path.write_bytes(pickle.dumps({**whole, **changed}))
        with pytest.raises(DataError, match=message):
            load_mnist1d(path, verify=False)
    path.write_bytes(pickle.dumps(whole)[:-100])
    with pytest.raises(DataError, match="cut off, damaged"):
        load_mnist1d(path)
    path.write_bytes(pickle.dumps(whole))
    with pytest.raises(DataError, match="expected 4000 and 1000 signals, found 80 and 20"):
        load_mnist1d(path)
    assert len(load_mnist1d(path, verify=False).test) == 20
