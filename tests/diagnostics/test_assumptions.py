"""What theorems assume, measured: on a quadratic whose constants are known, and by autograd."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from halflife.diagnostics import curvature
from halflife.diagnostics.assumptions import measure_assumptions

F64 = torch.float64


def half(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * mse_loss(outputs, targets)


def test_least_squares_has_the_extreme_eigenvalues() -> None:
    """L along the steepest eigenvector, mu along the flattest: one batch, targets that are met."""
    x = torch.randn(12, 4, dtype=F64)
    model = nn.Linear(4, 1, bias=False, dtype=F64)
    truth = torch.randn(4, dtype=F64)
    batch = (x, x @ truth[:, None])
    eigenvalues, vectors = torch.linalg.eigh(x.T @ x / 12)
    for k in range(4):
        points = [{"weight": (truth + s * vectors[:, k])[None]} for s in (2.0, 1.0, -0.5)]
        found = measure_assumptions(model, half, batch, points)
        assert found.smoothness == pytest.approx(float(eigenvalues[k]), rel=1e-9)
        assert found.pl == pytest.approx(float(eigenvalues[k]), rel=1e-9)
        assert found.gap == pytest.approx(2.0 * float(eigenvalues[k]), rel=1e-9)
        assert found.noise == pytest.approx(0.0, abs=1e-7)  # one batch has none
        assert found.gradients[1] == pytest.approx(float(eigenvalues[k]), rel=1e-9)


def net() -> tuple[nn.Module, list[tuple[Tensor, Tensor]], list[dict[str, Any]]]:
    """A net, four batches of three rows, and three snapshots of a short training."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, y = torch.randn(12, 4, dtype=F64), torch.randn(12, 2, dtype=F64)
    data = [(x[i : i + 3], y[i : i + 3]) for i in range(0, 12, 3)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    points = []
    for row in [*data, *data][:3]:
        points.append(copy.deepcopy(model.state_dict()))
        optimizer.zero_grad()
        mse_loss(model(row[0]), row[1]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, data, points


def test_a_net_by_autograd() -> None:
    model, data, points = net()
    trained = copy.deepcopy(model.state_dict())
    found = measure_assumptions(model, mse_loss, data, points, minimum=-1.0)
    rows, values, places = [], [], []
    for point in points:
        model.load_state_dict(point)
        params = list(model.parameters())
        grads = [torch.autograd.grad(mse_loss(model(x), y), params) for x, y in data]
        rows.append(torch.stack([torch.cat([g.flatten() for g in row]) for row in grads]))
        values.append(sum(float(mse_loss(model(x), y).detach()) for x, y in data) / 4)
        places.append(torch.cat([p.detach().flatten() for p in params]))
    g = torch.stack(rows)  # point, batch, weight
    full = g.mean(1)
    noise = (g - full[:, None]).square().sum(2).mean(1).max().sqrt()
    moves = [float((places[i + 1] - places[i]).norm()) for i in range(2)]
    slopes = [float((g[i + 1] - g[i]).norm(dim=1).max()) / moves[i] for i in range(2)]
    pl = [float(f.square().sum()) / (2 * (v + 1.0)) for f, v in zip(full, values, strict=True)]
    assert found.gradient_bound == pytest.approx(float(g.abs().max()), rel=1e-12)
    assert found.noise == pytest.approx(float(noise), rel=1e-9)
    assert found.smoothness == pytest.approx(max(slopes), rel=1e-9)
    assert found.pl == pytest.approx(min(pl), rel=1e-12)
    assert found.losses == pytest.approx(values, rel=1e-12)
    assert found.gradients == pytest.approx(full.norm(dim=1).tolist(), rel=1e-12)
    assert (found.gap, found.batches, found.dropped) == (found.losses[0] + 1.0, 4, 0)
    assert found.as_dict()["losses"] == found.losses

    # Without points it is where the model is, which its own change did not touch.
    model.load_state_dict(trained)
    last = measure_assumptions(model, mse_loss, data)
    again = measure_assumptions(model, mse_loss, data, [trained])
    assert (last.losses, last.noise) == (again.losses, again.noise)
    assert math.isnan(last.smoothness)


def test_smoothness_between_near_points_is_the_curvature_along_the_step() -> None:
    model, data, (point, *_) = net()
    model.load_state_dict(point)
    whole = [(torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))]
    operator = curvature.hessian(model, mse_loss, whole)
    top = curvature.lanczos(operator, tol=1e-9)
    step = operator.unflatten(1e-6 * top.vectors[:, 0])
    moved = {name: point[name] + step[name] for name in step}
    found = measure_assumptions(model, mse_loss, whole, [point, moved])
    assert found.smoothness == pytest.approx(top.value, rel=1e-4)


def test_the_constants_go_to_the_theorems() -> None:
    model, data, points = net()
    found = measure_assumptions(model, mse_loss, data, points)
    problem = found.problem(delta=0.1, weight_decay=0.5, initial_norm=2.0)
    assert (problem.smoothness, problem.noise, problem.gap, problem.batch) == (
        found.smoothness,
        found.noise,
        found.gap,
        1,
    )
    with pytest.raises(ValueError, match="smoothness must be a finite number > 0, got nan"):
        measure_assumptions(model, mse_loss, data).problem(delta=0.1)


def test_parts_of_the_model_stay_what_they_are_and_rows_are_dropped() -> None:
    model, data, points = net()
    model[0].requires_grad_(False)  # type: ignore[index]
    before = copy.deepcopy(model.state_dict())
    model.train()
    random = torch.get_rng_state()
    found = measure_assumptions(model, mse_loss, [*data, (data[0][0][:2], data[0][1][:2])], points)
    assert found.dropped == 2
    assert model.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(
        torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True)
    )
    assert all(p.grad is None for p in model.parameters())


def test_errors() -> None:
    model, data, points = net()
    for arguments, message in (
        ({"minimum": math.nan}, "minimum must be a finite number"),
        ({"minimum": 1e9}, "minimum must be a bound on F, got 1000000000"),
        ({"mode": "test"}, "mode='test': must be 'train' or 'eval'"),
        ({"points": [{"w": torch.ones(2)}]}, r"point 0 must be of the model's parameters"),
        (
            {"points": [points[0], {"0.bias": torch.ones(2)}]},
            r"point 1: 0.bias must be of shape \(5,\), got \(2,\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            measure_assumptions(model, mse_loss, data, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data: holds no batch"):
        measure_assumptions(model, mse_loss, [])
