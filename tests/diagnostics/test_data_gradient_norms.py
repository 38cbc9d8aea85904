"""Gradient norms over a data set: closed forms, and nothing left behind."""

from __future__ import annotations

import math
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


def regression():
    """A net without chance, four batches of three rows, and its parameters by name."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    data = [(x[i : i + 3], y[i : i + 3]) for i in range(0, 12, 3)]
    return model, data, dict(model.named_parameters())


def test_with_the_regularizer_they_are_those_of_the_regularised_loss():
    """By autograd of ``L + c/2 |w|^2``, c of one parameter or of all."""
    model, data, named = regression()
    for decay in (0.3, {"0.weight": 0.3, "2.weight": 0.1}):
        coefficients = decay if isinstance(decay, dict) else dict.fromkeys(named, decay)

        def objective(batch, coefficients=coefficients):
            penalty = sum(c / 2 * named[n].square().sum() for n, c in coefficients.items())
            return mse(model(batch[0]), batch[1]) + penalty

        found = gradient_norms(model, mse, data, weight_decay=decay)
        params = list(named.values())
        rows = [torch.autograd.grad(objective(batch), params) for batch in data]
        flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        assert found.full == pytest.approx(flat.mean(0).norm().item(), rel=1e-12)
        assert found.minibatch == pytest.approx(flat.square().sum(1).mean().item(), rel=1e-12)
        losses = [objective(batch).item() for batch in data]
        assert found.loss == pytest.approx(sum(losses) / 4, rel=1e-12)
        plain = gradient_norms(model, mse, data)
        assert found.noise == pytest.approx(plain.noise, rel=1e-9)  # the regularizer has none
        assert found.full != plain.full


def test_implicit_loss_is_that_of_equation_6():
    """``L + (lr / 4m) sum_i |grad L_i|^2`` over m batches, written out."""
    model, data, named = regression()
    rows = [torch.autograd.grad(mse(model(x), y), list(named.values())) for x, y in data]
    squares = sum(float(g.square().sum()) for row in rows for g in row)
    loss = sum(float(mse(model(x), y).detach()) for x, y in data) / 4
    found = gradient_norms(model, mse, data)
    for lr in (0.0, 0.1, 0.5):
        wanted = loss + lr / (4 * 4) * squares
        assert found.implicit_loss(lr) == pytest.approx(wanted, rel=1e-13)
    with pytest.raises(ValueError, match="lr must be a finite number >= 0"):
        found.implicit_loss(-0.1)


def test_sgd_follows_the_flow_of_its_implicit_loss():
    """Over an epoch, in the mean over the orders of its batches, with an error of third order in
    the lr, where that of the plain loss is of second (Smith et al. 2021)."""
    curves, centers, start = (1.0, 3.0), (0.5, -1.0), 2.0
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    data = [(torch.ones(1, 1, dtype=torch.float64), torch.tensor([i])) for i in range(2)]

    def loss(outputs, i):
        return 0.5 * curves[int(i)] * (outputs - centers[int(i)]).square().mean()

    def at(w, lr):
        nn.init.constant_(model.weight, w)
        return gradient_norms(model, loss, data).implicit_loss(lr)

    def flow(implicit_lr, lr):
        """Where the gradient flow of the quadratic ends after two steps' time."""
        low, middle, high = (at(w, implicit_lr) for w in (-1.0, 0.0, 1.0))
        curve, slope = low + high - 2 * middle, (high - low) / 2
        return (start + slope / curve) * math.exp(-2 * lr * curve) - slope / curve

    def epoch(order, lr):
        w = start
        for i in order:
            w -= lr * curves[i] * (w - centers[i])
        return w

    errors = []
    for lr in (0.002, 0.001):
        end = (epoch((0, 1), lr) + epoch((1, 0), lr)) / 2
        errors.append((abs(end - flow(lr, lr)), abs(end - flow(0.0, lr))))
    (corrected, plain), (corrected_half, plain_half) = errors
    assert plain / plain_half == pytest.approx(4.0, rel=0.02)
    assert corrected / corrected_half == pytest.approx(8.0, rel=0.02)


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
    pairs = (torch.ones(1, 1), torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"weight_decay must be a finite number >= 0, got -1"):
        gradient_norms(model, mse, pairs, weight_decay=-1.0)
    with pytest.raises(ValueError, match=r"weight_decay of bias must be a finite number >= 0"):
        gradient_norms(model, mse, pairs, weight_decay={"bias": "x"})
    with pytest.raises(ValueError, match=r"weight_decay: 'wieght' is no parameter of the model"):
        gradient_norms(model, mse, pairs, weight_decay={"wieght": 0.1})
    with pytest.raises(ValueError, match=r"none of its parameters requires a gradient"):
        gradient_norms(model.requires_grad_(False), mse, [])
