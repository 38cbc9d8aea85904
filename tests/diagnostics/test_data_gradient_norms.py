"""Gradient norms over a data set: closed forms, and nothing left behind."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from halflife.diagnostics.gradient_norms import gradient_norms

mse = nn.functional.mse_loss


def test_linear_regression():
    """g = 2/n X'(Xw - y), of all rows and of each batch."""
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.randn(12, 1, dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    w = model.weight.detach().T

    def gradient(rows):
        return 2.0 / len(x[rows]) * x[rows].T @ (x[rows] @ w - y[rows])

    batches = [slice(i, i + 3) for i in range(0, 12, 3)]
    found = gradient_norms(model, mse, [(x[rows], y[rows]) for rows in batches])
    squares = [gradient(rows).square().sum() for rows in batches]
    full = gradient(slice(None)).norm()
    assert found.full == pytest.approx(full.item(), rel=1e-12)
    assert found.minibatch == pytest.approx(torch.stack(squares).mean().item(), rel=1e-12)
    spread = torch.stack([(gradient(r) - gradient(slice(None))).square().sum() for r in batches])
    assert found.noise == pytest.approx(spread.mean().item(), rel=1e-9)
    assert found.product == pytest.approx((w.norm() * full).item(), rel=1e-12)
    assert found.as_dict()["product"] == found.product
    assert (found.batches, found.dropped, found.mode) == (4, 0, "train")


def test_an_incomplete_last_batch_is_left_out():
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    model = nn.Linear(4, 1)
    whole = gradient_norms(model, mse, DataLoader(TensorDataset(x[:6], y[:6]), batch_size=3))
    found = gradient_norms(model, mse, DataLoader(TensorDataset(x, y), batch_size=3))
    assert (found.dropped, found.batches) == (2, 2)
    assert (found.full, found.minibatch) == (whole.full, whole.minibatch)


def test_scale_invariant_weights_hide_behind_the_product():
    """A layer before a norm: at half the weights, twice the gradient and the same product."""
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5, eps=1e-14, affine=False))
    model = model.double()
    data = [(torch.randn(20, 6, dtype=torch.float64), torch.randn(20, 5, dtype=torch.float64))]
    before = gradient_norms(model, mse, data)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    after = gradient_norms(model, mse, data)
    assert after.full == pytest.approx(2.0 * before.full, rel=1e-9)
    assert after.product == pytest.approx(before.product, rel=1e-9)


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))


def test_modes_differ_and_are_said():
    model, data = make(), [(torch.randn(9, 6), torch.randn(9, 2))]
    train, evaluate = (gradient_norms(model, mse, data, mode=mode) for mode in ("train", "eval"))
    assert (train.mode, evaluate.mode) == ("train", "eval")
    assert train.full != evaluate.full
    # Running statistics of 0 and 1, no dropout: known without a model in eval mode.
    model[2].p = 0.0
    model[1] = nn.Identity()
    plain = gradient_norms(model.train(), mse, data)
    assert plain.full == gradient_norms(model, mse, data, mode="eval").full


def test_nothing_is_left_behind():
    model = make()
    model[1].eval()  # as in fine-tuning; the others train
    model[3].bias.requires_grad_(False)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    loader = DataLoader(
        TensorDataset(torch.randn(20, 6), torch.randn(20, 2)), batch_size=4, shuffle=True
    )

    def everything():
        tensors = [*model.parameters(), *(p.grad for p in model.parameters()), *model.buffers()]
        modes = [module.training for module in model.modules()]
        states = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]
        return [t.detach().clone() for t in tensors], modes, states

    tensors, modes, (python, numpy, cpu) = everything()
    first = gradient_norms(model, mse, loader)
    after, modes_after, (python_after, numpy_after, cpu_after) = everything()
    assert all(torch.equal(a, b) for a, b in zip(tensors, after, strict=True))
    assert (modes, python, numpy) == (modes_after, python_after, numpy_after)
    assert torch.equal(cpu, cpu_after)
    assert first.full > 0.0

    def broken(outputs, targets):
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError):
        gradient_norms(model, broken, loader)
    assert [module.training for module in model.modules()] == modes


def test_tied_parameters_count_once():
    layer = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(layer, layer)
    found = gradient_norms(model, mse, (torch.eye(3), torch.zeros(3, 3)))
    assert found.weight_norm == pytest.approx(layer.weight.detach().norm().item(), rel=1e-6)
    mse(model(torch.eye(3)), torch.zeros(3, 3)).backward()
    assert found.full == pytest.approx(layer.weight.grad.norm().item(), rel=1e-6)


def test_bad_arguments():
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"mode='test': must be 'train' or 'eval'"):
        gradient_norms(model, mse, [], mode="test")
    with pytest.raises(ValueError, match=r"data: holds no batch"):
        gradient_norms(model, mse, [])
    with pytest.raises(ValueError, match=r"none of its parameters requires a gradient"):
        gradient_norms(model.requires_grad_(False), mse, [])
