"""Gauss-Newton and Fisher matrices: against dense float64 ones from jacobians and row gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from halflife.diagnostics import curvature

F64 = torch.float64
Loss = Callable[[Tensor, Tensor], Tensor]


def mlp(loss: Loss, rows: int = 7) -> tuple[nn.Module, Tensor, Tensor]:
    """A small net whose batch norm has seen data, in training mode, and its data."""
    model = nn.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3, 3)
    ).double()
    x = torch.randn(rows, 4, dtype=F64)
    with torch.no_grad():
        model(2 * x + 1)
    y = torch.randint(3, (rows,)) if loss is cross_entropy else torch.randn(rows, 3, dtype=F64)
    return model, x, y


def flat_function(model: nn.Module, x: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The outputs as a function of one vector of the parameters, in evaluation mode."""
    model = copy.deepcopy(model).eval()
    params = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in params.values()])
        named = {k: v.reshape(p.shape) for (k, p), v in zip(params.items(), parts, strict=True)}
        return torch.func.functional_call(model, named, (x,))

    return outputs, torch.cat([p.flatten() for p in params.values()])


def jacobian(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    outputs, flat = flat_function(model, x)
    return torch.autograd.functional.jacobian(lambda w: loss(outputs(w)), flat)


def row_gradients(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    rows = [
        jacobian(model, x[i : i + 1], lambda z, i=i: loss(z, y[i : i + 1])) for i in range(len(x))
    ]
    return torch.stack(rows)


def exact_gauss_newton(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    j = jacobian(model, x, lambda z: z).flatten(0, 1)
    with torch.no_grad():
        z = copy.deepcopy(model).eval()(x)
    m = torch.autograd.functional.hessian(lambda z: loss(z, y), z)
    return j.T @ m.reshape(z.numel(), z.numel()) @ j


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-12) -> None:
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


def batched(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(x[:3], y[:3]), (x[3:], y[3:])]  # of unlike sizes


@pytest.mark.parametrize("loss", [cross_entropy, mse_loss])
@pytest.mark.parametrize("memory", [0, 2**30])
def test_gauss_newton_is_the_dense_one(loss: Loss, memory: float) -> None:
    model, x, y = mlp(loss)
    wanted = exact_gauss_newton(model, x, y, loss)
    operator = curvature.gauss_newton(model, loss, batched(x, y), memory=memory)
    assert operator.keeps_graphs == (memory > 0)
    vectors = torch.randn(operator.dim, 3, dtype=F64)
    close(operator @ vectors[:, 0], wanted @ vectors[:, 0])
    close(operator @ vectors, wanted @ vectors)  # all at once
    close(curvature.dense(operator), wanted)
    assert float(torch.linalg.eigvalsh(curvature.dense(operator))[0]) > -1e-14


@pytest.mark.parametrize("loss", [cross_entropy, mse_loss])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("memory", [0, 2**30])
def test_fisher_is_the_mean_of_outer_products(loss: Loss, centered: bool, memory: float) -> None:
    model, x, y = mlp(loss)
    g = row_gradients(model, x, y, loss)
    wanted = g.T @ g / len(g)
    if centered:
        wanted = wanted - torch.outer(g.mean(0), g.mean(0))
    operator = curvature.fisher(model, loss, batched(x, y), centered=centered, memory=memory)
    close(operator.mean, g.mean(0))
    vectors = torch.randn(operator.dim, 3, dtype=F64)
    close(operator @ vectors[:, 0], wanted @ vectors[:, 0])
    close(operator @ vectors, wanted @ vectors)
    close(curvature.dense(operator), wanted)


def test_covariance_of_minibatch_gradients() -> None:
    """Of each batch's gradient, counted by its rows; and that of all batches of two rows."""
    model, x, y = mlp(mse_loss)
    g = row_gradients(model, x, y, mse_loss)
    means = torch.stack([g[:3].mean(0), g[3:].mean(0)])
    weights = torch.tensor([3.0, 4.0], dtype=F64) / 7.0
    wanted = (weights[:, None] * means).T @ means - torch.outer(g.mean(0), g.mean(0))
    operator = curvature.fisher(model, mse_loss, batched(x, y), per="batch", centered=True)
    close(curvature.dense(operator), wanted)

    # C / b of the rows, times (n - b) / (n - 1) as batches are drawn without replacement.
    pairs = [(x[[i, j]], y[[i, j]]) for i in range(7) for j in range(i)]
    noise = curvature.dense(curvature.fisher(model, mse_loss, pairs, per="batch", centered=True))
    rows = curvature.dense(curvature.fisher(model, mse_loss, (x, y), centered=True))
    close(noise, rows / 2 * (7 - 2) / (7 - 1))


def test_gauss_newton_of_cross_entropy_is_the_predicted_fisher() -> None:
    """The mean of g g' over labels drawn from what the model predicts, summed over all of them."""
    model, x, y = mlp(cross_entropy)
    with torch.no_grad():
        chances = copy.deepcopy(model).eval()(x).softmax(1)
    wanted = torch.zeros(1, dtype=F64)
    for label in range(3):
        g = row_gradients(model, x, torch.full((7,), label), cross_entropy)
        wanted = wanted + (chances[:, label, None] * g).T @ g / 7
    close(curvature.dense(curvature.gauss_newton(model, cross_entropy, (x, y))), wanted)


def test_where_the_model_is_linear_it_is_the_hessian() -> None:
    model, x, y = nn.Linear(4, 3, dtype=F64), torch.randn(9, 4, dtype=F64), torch.randint(3, (9,))
    found = curvature.dense(curvature.gauss_newton(model, cross_entropy, (x, y)))
    close(found, curvature.dense(curvature.hessian(model, cross_entropy, (x, y))))


def test_the_algorithms_take_them() -> None:
    model, x, y = mlp(mse_loss)
    for operator in (
        curvature.gauss_newton(model, mse_loss, (x, y)),
        curvature.fisher(model, mse_loss, (x, y)),
    ):
        exact = torch.linalg.eigvalsh(curvature.dense(operator))
        assert curvature.lanczos(operator).value == pytest.approx(float(exact[-1]), rel=1e-6)
        estimate = curvature.hutchinson(operator, 64)
        assert abs(estimate.value - float(exact.sum())) < 5 * estimate.standard_error
        density = curvature.spectral_density(operator, vectors=2)
        share = density.share(-1e-9, 1.01 * float(exact[-1])).value
        assert share == pytest.approx(1.0, abs=1e-9)


def test_nothing_is_left_behind_and_training_on_changes_nothing() -> None:
    model, x, y = mlp(cross_entropy)
    state = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    operator = curvature.fisher(model, cross_entropy, (x, y))
    before = operator @ torch.ones(operator.dim, dtype=F64)
    assert torch.equal(random, torch.get_rng_state())
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(
        torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True)
    )
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert torch.equal(before, operator @ torch.ones(operator.dim, dtype=F64))


def test_some_parameters_and_a_linear_loss() -> None:
    model, x, y = mlp(mse_loss)
    whole = exact_gauss_newton(model, x, y, mse_loss)
    chosen = {"4.bias": model[4].bias}  # type: ignore[index]
    part = curvature.gauss_newton(model, mse_loss, (x, y), params=chosen)
    close(curvature.dense(part), whole[-3:, -3:])
    none = curvature.gauss_newton(model, lambda z, _: z.mean(), (x, y))
    assert not (none @ torch.ones(none.dim, dtype=F64)).any()


class Several(nn.Module):
    """Its output is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"z": x * self.w}


ONE = (torch.ones(2, 2), torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curvature.gauss_newton(Several(), lambda z, y: z["z"], ONE), "outputs are dict"),
        (lambda: curvature.fisher(Several(), lambda z, y: z["z"].mean(), ONE), "dict and Tensor"),
        (lambda: curvature.fisher(nn.Linear(2, 2), mse_loss, ONE, per="rows"), "'row' or 'batch'"),
        (
            lambda: curvature.fisher(nn.Linear(2, 2), lambda z, y: (z - y).square().sum(), ONE),
            "which must be equal; pass a loss that is the mean over the rows",
        ),
        (
            lambda: curvature.gauss_newton(nn.Linear(2, 2), lambda z, y: z, ONE),
            r"the loss is \(2, 2\)",
        ),
        (lambda: curvature.gauss_newton(nn.Linear(2, 2), mse_loss, []), "at least one batch"),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_one_gradient_a_batch_needs_no_tensor_outputs() -> None:
    model, (x, _) = Several(), ONE
    operator = curvature.fisher(
        model, lambda z, _: z["z"].square().mean(), [(x, None), (3 * x, None)], per="batch"
    )
    g = torch.tensor([[1.0, 1.0], [9.0, 9.0]])  # w x^2
    close(curvature.dense(operator), g.T @ g / 2, 1e-6)
