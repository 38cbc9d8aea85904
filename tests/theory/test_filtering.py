"""The Bayesian filter: against the exact posterior, and its prior as decoupled weight decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import halflife
from halflife.theory.filtering import Belief, bayesian_filter, settled_variance

F64 = torch.float64


def test_it_is_the_exact_posterior_of_a_drifting_optimum() -> None:
    """All optima and observations as one Gaussian, conditioned at once."""
    steps, a, q, first = 6, 0.2, 0.3, 1.5
    precision = torch.tensor([0.5, 2.0, 1.0, 4.0, 0.1, 3.0], dtype=F64)
    seen = torch.randn(steps, dtype=F64)
    # w_0 ~ N(0.7, first), w_{t+1} = (1 - a) w_t + noise: w = L (w_0, noises).
    powers = torch.tensor(
        [
            [(1 - a) ** (t - j) if j <= t else 0.0 for j in range(steps + 1)]
            for t in range(steps + 1)
        ],
        dtype=F64,
    )
    sources = torch.diag(torch.tensor([first] + [q] * steps, dtype=F64))
    covariance = (powers @ sources @ powers.T)[1:, 1:]
    mean = 0.7 * powers[1:, 0]

    belief = Belief(torch.tensor([0.7], dtype=F64), torch.tensor([first], dtype=F64))
    number = iter(range(steps))

    def gradient(prior: Tensor) -> Tensor:
        t = next(number)
        return precision[t] * (seen[t] - prior)

    found = bayesian_filter(
        gradient, belief, steps=steps, shrinkage=a, drift=q, precision=lambda t: precision[t]
    )
    for t, posterior in enumerate(found, 1):
        gain = torch.linalg.solve(
            covariance[:t, :t] + torch.diag(1 / precision[:t]), covariance[:t, t - 1]
        )
        exact_mean = mean[t - 1] + gain @ (seen[:t] - mean[:t])
        exact_variance = covariance[t - 1, t - 1] - gain @ covariance[:t, t - 1]
        assert float(posterior.mean) == pytest.approx(float(exact_mean), rel=1e-12)
        assert float(posterior.variance) == pytest.approx(float(exact_variance), rel=1e-12)


def test_a_multiple_of_the_identity_is_decoupled_weight_decay() -> None:
    """The steps of SGD with Eq. (1)'s decay, at the lr that each weight's variance is."""
    generator = torch.Generator().manual_seed(0)
    n, lam = 4, 0.05
    loss_gradients = torch.randn(12, n, dtype=F64, generator=generator)
    start = torch.randn(n, dtype=F64, generator=generator)
    rows = iter(loss_gradients)
    variance = torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=F64)
    beliefs = list(
        bayesian_filter(
            lambda mean: -next(rows),
            Belief(start, variance),
            steps=12,
            shrinkage=lam,
            drift=lambda t: 0.02 / (1 + t),  # so that step sizes follow a schedule
        )
    )
    weights = [torch.nn.Parameter(w.clone()) for w in start]
    groups: list[dict[str, Any]] = [{"params": [w]} for w in weights]
    optimizer = halflife.SGD(groups, lr=1.0, decay="constant", weight_decay=lam)
    for belief, row in zip(beliefs, loss_gradients, strict=True):
        for w, g, lr, group in zip(
            weights, row, belief.variance, optimizer.param_groups, strict=True
        ):
            w.grad, group["lr"] = g.clone(), float(lr)
        optimizer.step()
        now = torch.stack([w.detach() for w in weights])
        torch.testing.assert_close(now, belief.mean, rtol=1e-13, atol=1e-15)
    step_sizes = torch.stack([belief.variance for belief in beliefs])
    assert float((step_sizes.max(0).values / step_sizes.min(0).values).min()) > 1.5


def test_decay_does_not_depend_on_the_uncertainty_as_l2_does() -> None:
    belief = Belief(torch.ones(2, dtype=F64), torch.tensor([0.1, 2.0], dtype=F64))
    still = torch.zeros(2, dtype=F64)
    decayed = belief.predicted(shrinkage=0.25).corrected(still)
    assert decayed.mean.tolist() == [0.75, 0.75]
    l2 = belief.corrected(-0.25 * belief.mean, precision=0.0)  # of the likelihood -0.125 w^2
    torch.testing.assert_close(l2.mean, 1.0 - 0.25 * belief.variance)


@pytest.mark.parametrize("shrinkage", [0.0, 1e-3, 0.5, 1.0])
@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_variances_settle_where_they_are_said_to(shrinkage: float, lr: float) -> None:
    g = torch.tensor([0.5, 3.0], dtype=F64)
    belief = Belief(torch.zeros_like(g), torch.ones_like(g))
    beliefs = bayesian_filter(lambda _: g, belief, steps=3000 if lr < 0.1 else 500,
                              shrinkage=shrinkage, drift=lr**2)  # fmt: skip
    *_, last = beliefs
    wanted = [
        settled_variance(drift=lr**2, precision=float(x) ** 2, shrinkage=shrinkage) for x in g
    ]
    assert last.variance.tolist() == pytest.approx(wanted, rel=1e-9)
    if shrinkage == 0.0:  # Adam's step size, to the order of lr |g| / 2
        for x, variance in zip(g.tolist(), wanted, strict=True):
            assert variance == pytest.approx(lr / x, rel=0.51 * lr * x)


def test_without_drift_or_likelihood() -> None:
    assert settled_variance(drift=0.0, precision=0.0) == 0.0
    assert settled_variance(drift=0.75, precision=0.0, shrinkage=0.5) == 1.0  # s = s / 4 + Q


ONE = torch.ones(2)
GOOD = Belief(ONE, ONE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Belief(ONE, torch.ones(3)), r"variance must be of the mean's shape \(2,\)"),
        (lambda: Belief(ONE, -ONE), "variance must be >= 0"),
        (
            lambda: GOOD.predicted(shrinkage=-0.1),
            "shrinkage must be a finite number >= 0, got -0.1",
        ),
        (lambda: GOOD.predicted(shrinkage=1.5), "shrinkage must be at most 1, got 1.5"),
        (lambda: GOOD.predicted(shrinkage=2 * ONE), "shrinkage must be at most 1, got 2.0"),
        (lambda: GOOD.predicted(drift=-1.0), "drift must be a finite number >= 0"),
        (lambda: GOOD.corrected(torch.ones(3)), r"gradient must be of shape \(2,\), got \(3,\)"),
        (lambda: GOOD.corrected(ONE, -ONE), "precision must be >= 0"),
        (
            lambda: next(bayesian_filter(torch.zeros_like, GOOD, steps=0)),
            "steps must be an integer",
        ),
        (lambda: settled_variance(drift=-1.0, precision=1.0), "drift must be a finite number >= 0"),
        (lambda: settled_variance(drift=1.0, precision=0.0), "precision must be > 0 where"),
        (
            lambda: settled_variance(drift=1.0, precision=1.0, shrinkage=2.0),
            "shrinkage must be at most 1",
        ),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
