"""Stability limits against what the optimizers do on a quadratic; the preconditioned Hessian."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from halflife.diagnostics import curvature


def grows(make, curvature_of_loss: float, start: float = 1.0, steps: int = 600) -> bool:
    """Whether an optimizer leaves the minimum of a quadratic with this curvature."""
    w = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = make([w])
    sizes = []
    for _ in range(steps):
        w.grad = curvature_of_loss * w.detach()
        optimizer.step()
        sizes.append(abs(float(w.detach())))
    # Of oscillations, and without the start, where Adam's bias correction makes longer steps.
    return max(sizes[-50:]) > max(sizes[steps // 2 : steps // 2 + 50])


LR = 0.1


def sgd(momentum: float, nesterov: bool, fraction: float):
    """Torch's SGD, with decoupled decay done by hand before its step."""

    class Decaying(torch.optim.SGD):
        def step(self):
            for p in self.param_groups[0]["params"]:
                p.data.mul_(1.0 - fraction)
            super().step()

    return lambda params: Decaying(params, LR, momentum, nesterov=nesterov)


@pytest.mark.parametrize("fraction", [0.0, 0.2])
@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True)]
)
def test_limit_of_sgd(momentum, nesterov, fraction):
    limit = curvature.stability_limit(LR, momentum=momentum, nesterov=nesterov, fraction=fraction)
    make = sgd(momentum, nesterov, fraction)
    assert not grows(make, 0.97 * limit)
    assert grows(make, 1.03 * limit)


@pytest.mark.parametrize("fraction", [0.0, 0.2])
@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_limit_of_adam_applies_to_the_preconditioned_hessian(beta1, fraction):
    """Where gradients are tiny beside eps, that is the whole preconditioner, and Adam is linear."""
    limit = curvature.stability_limit(LR, momentum=beta1, averaged=True, fraction=fraction)
    start = 1e-100  # tiny also after 600 steps of growth

    def make(params):
        return torch.optim.AdamW(params, LR, (beta1, 0.999), 1.0, weight_decay=fraction / LR)

    assert not grows(make, 0.97 * limit, start)
    assert grows(make, 1.03 * limit, start)


def test_published_limits():
    assert curvature.stability_limit(0.5) == 4.0  # 2 / lr
    assert curvature.stability_limit(0.1, momentum=0.9) == pytest.approx(38.0)  # 2 (1 + b) / lr
    adam = curvature.stability_limit(0.001, momentum=0.9, averaged=True)
    assert adam == pytest.approx(38 / 0.001)


def test_preconditioned_hessian_of_adam():
    """D^-1/2 H D^-1/2 with D = sqrt(v_hat) + eps, written out."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.99), eps=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    operator = curvature.hessian(model, nn.functional.cross_entropy, (x, y))
    metric = curvature.preconditioner(optimizer, model)
    assert list(metric) == [name for name, _ in model.named_parameters()]
    d = torch.cat(
        [
            (optimizer.state[p]["exp_avg_sq"] / (1 - 0.99**4)).sqrt().flatten() + 1e-3
            for p in model.parameters()
        ]
    )
    scaled = curvature.PreconditionedHessian(operator, metric)
    wanted = curvature.dense(operator) / (d[:, None] * d).sqrt()
    assert (curvature.dense(scaled) - wanted).abs().max() <= 1e-12 * wanted.abs().max()
    vector = torch.randn(scaled.dim, dtype=torch.float64)
    assert torch.allclose(scaled @ vector, wanted @ vector, rtol=1e-10, atol=1e-12)
    # Similar to D^-1 H, whose eigenvalues decide about stability.
    similar = torch.linalg.eigvals(curvature.dense(operator) / d[:, None]).real.max()
    assert curvature.lanczos(scaled, tol=1e-9).value == pytest.approx(float(similar), rel=1e-9)


def test_bad_arguments_are_named():
    model = nn.Linear(2, 1)
    operator = curvature.Hessian(lambda p: (p["w"] ** 2).sum(), {"w": torch.ones(2)})
    for call, message in [
        (lambda: curvature.stability_limit(0.0), "stability_limit: lr must be"),
        (lambda: curvature.stability_limit(0.1, momentum=1.0), "stability_limit: momentum must be"),
        (lambda: curvature.stability_limit(0.1, fraction=-0.1), "stability_limit: fraction must"),
        (
            lambda: curvature.stability_limit(0.1, nesterov=True, averaged=True),
            "stability_limit: nesterov must be False",
        ),
        (
            lambda: curvature.PreconditionedHessian(operator, {"w": torch.tensor([1.0, 0.0])}),
            "metric holds entries",
        ),
        (lambda: curvature.PreconditionedHessian(operator, {}), "'w' is only a parameter"),
        (
            lambda: curvature.preconditioner(torch.optim.SGD(model.parameters()), model),
            "SGD declares no preconditioner",
        ),
        (
            lambda: curvature.preconditioner(torch.optim.Adam(model.parameters()), model),
            "take a step first",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
