"""Theorem 1 of the analysis of AdamW: its bounds hold, and its controls show what they bound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from halflife.theory.least_squares import LeastSquares
from halflife.theory.stagewise import adamw

# Mean |x_K - x*| of AdamW and l2-Adam over 4000 replicas at a = 1, delta = 0.01, alpha = 0.1.
MEASURED = {16: (0.019, 0.15), 64: (0.0045, 0.069), 256: (0.00094, 0.035), 1024: (0.0002, 0.017)}


@pytest.mark.parametrize("horizon", [3, 4, *MEASURED])
def test_both_are_below_their_bounds_and_adamw_below_l2(horizon: int) -> None:
    problem = LeastSquares(horizon)
    ours, l2 = problem.run_adamw(), problem.run_l2()
    assert ours.error <= problem.bound(ours.tau)
    assert l2.error <= problem.l2_bound(l2.tau)
    assert ours.error < 0.5 * l2.error
    if horizon in MEASURED:
        assert (ours.error, l2.error) == pytest.approx(MEASURED[horizon], rel=0.06)


@pytest.mark.parametrize("horizon", [16, 256])
def test_decay_alone_is_closer_still(horizon: int) -> None:
    problem = LeastSquares(horizon)
    alone = problem.run_adamw(with_gradient=False)
    assert alone.error == pytest.approx((1 - 1.5 * horizon**-0.5) ** horizon, rel=1e-12)
    assert alone.error < 0.1 * problem.run_adamw().error


@pytest.mark.parametrize("horizon", [16, 64, 256])
def test_where_the_minimum_is_not_zero_neither_finds_it(horizon: int) -> None:
    """The control: xi ~ N(1, 1). Both start at the minimum 1 and are moved away from it, to 0."""
    problem = LeastSquares(horizon, mean=1.0, start=1.0)
    ours, l2 = problem.run_adamw(), problem.run_l2()
    assert 0.87 < l2.error < ours.error < 1.0
    assert ours.error > problem.bound(ours.tau)
    assert l2.error > problem.l2_bound(l2.tau)


@pytest.mark.parametrize("horizon", [4, 64, 1024])
def test_l2_interval_is_where_the_recurrence_contracts_as_the_bound_says(horizon: int) -> None:
    problem = LeastSquares(horizon, a=0.5)
    b1 = problem.l2_beta1
    low, high = problem.l2_interval
    assert low < problem.l2_weight_decay < high

    def modulus(weight_decay: float) -> float:
        pull = b1**2 * (weight_decay + problem.a**2)
        return float(np.abs(np.roots([1.0, pull - 2.0 + b1, 1.0 - b1])).max())

    inside = np.linspace(low, high, 9)[1:-1]
    assert [modulus(w) for w in inside] == pytest.approx([(1 - b1) ** 0.5] * 7, rel=1e-9)
    assert modulus(low - 0.1) > (1 - b1) ** 0.5 * 1.001
    assert modulus(high * 1.05) > (1 - b1) ** 0.5 * 1.001


def test_l2_settings_cancel_the_preconditioner() -> None:
    """At a delta so large that v is constant, so is lr = b1 v, and l2-Adam agrees."""
    problem = LeastSquares(64, delta=1e12)
    generator = torch.Generator().manual_seed(0)

    def grad(x: torch.Tensor) -> torch.Tensor:
        return x - torch.randn(50, generator=generator, dtype=torch.float64)

    *_, last = adamw(
        grad,
        torch.ones(50, dtype=torch.float64),
        steps=64,
        lr=problem.l2_beta1 * 1e6,
        beta1=problem.l2_beta1,
        beta2=0.001,
        delta=1e12,
        weight_decay=problem.l2_weight_decay,
        moments="zero",
        l2=True,
    )
    expected = problem.run_l2(replicas=50).error
    assert last.next_x.abs().mean().item() == pytest.approx(expected, rel=1e-8)


def test_settings() -> None:
    problem = LeastSquares(100, alpha=0.5, delta=0.04)
    assert problem.weight_decay == pytest.approx(500.0, rel=1e-12)
    assert problem.lr == pytest.approx(1.5 * 0.2 * 1e-3, rel=1e-12)
    assert (problem.l2_beta1, problem.l2_weight_decay) == (0.1, 10.0)
    assert problem.bound(2.0) == pytest.approx(0.9**150 * 1.0003 + 0.02, rel=1e-12)
    assert problem.l2_bound(2.0) == pytest.approx(0.9**50 * 1.02 + 0.4, rel=1e-12)


OK = LeastSquares(16)
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: LeastSquares(0), "horizon must be an integer >= 1, got 0; pass the steps of a run."),
    (lambda: LeastSquares(2), "horizon must be >= 3, got 2; pass a longer run"),
    (lambda: LeastSquares(16, a=0.0), "a must be finite and not zero, got 0.0; pass 1.0."),
    (
        lambda: LeastSquares(16, alpha=0.0),
        "alpha must be a finite number > 0, got 0.0; pass an exp",
    ),
    (lambda: LeastSquares(16, delta=-1.0), "delta must be a finite number > 0, got -1.0"),
    (lambda: OK.bound(-1.0), "tau must be a finite number >= 0, got -1.0; pass a bound on E"),
    (lambda: OK.l2_bound(-1.0), "tau must be a finite number >= 0, got -1.0; pass a bound on E"),
    (lambda: OK.run_l2(replicas=0), "replicas must be an integer >= 1, got 0; pass runs to take"),
    (lambda: OK.run_adamw(replicas=0), "replicas must be an integer >= 1, got 0"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
