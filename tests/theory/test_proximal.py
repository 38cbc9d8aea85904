"""Proximal operators by optimality; the printed objectives at the answers of the optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import halflife
from halflife.algorithms import create
from halflife.theory import proximal
from halflife.theory.proximal import Penalty, StepObjective

F64 = torch.float64
PEAK, B1, B2, EPS, LAM = 0.02, 0.9, 0.99, 1e-3, 0.3
MULTIPLIERS = (1.0, 1.0, 0.8, 0.5, 0.3)


def slope(objective: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    point = y.clone().requires_grad_()
    return torch.autograd.grad(objective(point), point)[0]


# --- proximal operators --------------------------------------------------------------------------

PENALTIES: dict[str, Penalty] = {
    "none": proximal.no_penalty(),
    "squared": proximal.squared_norm(0.7),
    "squared in a metric": proximal.squared_norm(torch.tensor([0.1, 2.0, 0.0, 1.0], dtype=F64)),
    "l1": proximal.absolute_values(0.7),
    "norm": proximal.euclidean_norm(0.7),
}
STEPS = [0.5, torch.tensor([0.2, 1.0, 3.0, 0.01], dtype=F64)]


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("steps", STEPS, ids=["one", "each"])
def test_nothing_is_below_the_answer_and_differentiable_ones_are_flat(
    name: str, steps: Any
) -> None:
    penalty, zeros = PENALTIES[name], 0
    for scale in (0.001, 0.1, 1.0, 10.0):
        x = scale * torch.randn(4, dtype=F64)
        y = penalty(x, steps)
        objective = StepObjective(x, torch.zeros_like(x), steps, penalty)
        assert torch.equal(objective.minimizer, y)
        least = float(objective(y))
        for size in (1e-4, 1e-2, 1.0):  # convex: that nothing near is below decides
            for _ in range(30):
                assert float(objective(y + size * torch.randn(4, dtype=F64))) >= least - 1e-15
        zeros += int((y == 0).sum())
        if not bool((y == 0).any()):
            assert float(slope(objective, y).abs().max()) < 1e-12 * max(1.0, scale)
    assert (zeros > 0) == (name in ("l1", "norm"))  # their kink was met


@pytest.mark.parametrize("name", ["l1", "norm"])
def test_moreau_decomposition(name: str) -> None:
    """``x = prox_phi(x) + P(x)``, P the projection on the dual norm's ball."""
    for _ in range(20):
        x = 2 * torch.randn(4, dtype=F64)
        size = x.norm()
        ball = x.clamp(-0.7, 0.7) if name == "l1" else x * min(1.0, 0.7 / float(size))
        torch.testing.assert_close(PENALTIES[name](x) + ball, x, rtol=0, atol=1e-15)


def test_step_sizes_that_are_alike_and_bisection_agree() -> None:
    x = torch.randn(4, dtype=F64)
    nearly = torch.tensor([0.5, 0.5, 0.5, 0.5 + 1e-13], dtype=F64)
    norm = proximal.euclidean_norm(0.3)
    torch.testing.assert_close(norm(x, nearly), norm(x, 0.5), rtol=0, atol=1e-12)
    assert torch.equal(proximal.euclidean_norm(0.0)(x, nearly), x)


# --- the printed objectives ----------------------------------------------------------------------


def run(name: str) -> list[tuple[Tensor, Tensor, Tensor, Tensor, float]]:
    """Weights before and after each step of a run, m_hat, D and the schedule's multiplier."""
    generator = torch.Generator().manual_seed(0)
    w = torch.nn.Parameter(torch.randn(5, dtype=F64, generator=generator))
    optimizer = create(name, [w], lr=PEAK, betas=(B1, B2), eps=EPS, weight_decay=LAM)
    m = v = torch.zeros_like(w)
    rows = []
    for t, eta in enumerate(MULTIPLIERS, 1):
        before, g = w.detach().clone(), torch.randn(5, dtype=F64, generator=generator)
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        w.grad = g
        optimizer.param_groups[0]["lr"] = eta * PEAK
        optimizer.step()
        metric = (v / (1 - B2**t)).sqrt() + EPS
        rows.append((before, w.detach().clone(), m / (1 - B1**t), metric, eta))
    return rows


def p1(w: Tensor, m: Tensor, d: Tensor, eta: float) -> StepObjective:
    return proximal.proxadam_objective(w, m, d, peak_lr=PEAK, multiplier=eta, weight_decay=LAM)


def p2(w: Tensor, m: Tensor, d: Tensor, eta: float) -> StepObjective:
    return proximal.adamp_objective(w, m, d, peak_lr=PEAK, multiplier=eta, weight_decay=LAM)


def adamprox(w: Tensor, m: Tensor, d: Tensor, eta: float) -> StepObjective:
    return proximal.proximal_objective(w, PEAK * m / d, eta, weight_decay=LAM)


@pytest.mark.parametrize(
    ("name", "make"), [("proxadam", p1), ("adamp_blog", p2), ("adamprox", adamprox)]
)
def test_optimizers_minimise_them(name: str, make: Callable[..., StepObjective]) -> None:
    """Gradient 0 at the library's answer, under a schedule; AdamW's answer is another."""
    for w, answer, m, d, eta in run(name):
        objective = make(w, m, d, eta)
        at_start = float(slope(objective, w).abs().max())
        assert float(slope(objective, answer).abs().max()) < 1e-12 * at_start
        torch.testing.assert_close(objective.minimizer, answer, rtol=0, atol=1e-13)
    for w, answer, m, d, eta in run("adamw_paper"):
        objective = make(w, m, d, eta)
        at_start = float(slope(objective, w).abs().max())
        assert float(slope(objective, answer).abs().max()) > 1e-4 * at_start


def test_p1_and_p2_are_as_printed() -> None:
    """Written out: the regulariser in the D-norm over alpha, and in the plain norm."""
    w, m, y = (torch.randn(4, dtype=F64) for _ in range(3))
    d, eta = torch.rand(4, dtype=F64) + 0.1, 0.4
    common = (y - w) @ m + (d * (y - w) ** 2).sum() / (2 * eta * PEAK)
    p1_value = common + LAM / (2 * PEAK) * (d * y**2).sum()
    torch.testing.assert_close(p1(w, m, d, eta)(y), p1_value, rtol=1e-14, atol=0)
    p2_value = common + LAM / 2 * y.square().sum()
    torch.testing.assert_close(p2(w, m, d, eta)(y), p2_value, rtol=1e-14, atol=0)


@pytest.mark.parametrize("decay", ["l2", "proximal"])
def test_mirror_descent_forms_are_steps_of_sgd(decay: Any) -> None:
    """(2) with lambda w in p is SGD with L2, (3) its proximal step: M = lr I, under a schedule."""
    w = torch.nn.Parameter(torch.randn(4, dtype=F64))
    optimizer = halflife.SGD([w], lr=0.5, decay=decay, weight_decay=LAM)
    for eta in MULTIPLIERS:
        before, g = w.detach().clone(), torch.randn(4, dtype=F64)
        w.grad, lr = g.clone(), 0.5 * eta
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        if decay == "l2":
            p = g + LAM * before
            objective = proximal.linearized_objective(before, p, lr, weight_decay=LAM)
        else:
            objective = proximal.proximal_objective(before, g, lr, weight_decay=LAM)
        torch.testing.assert_close(objective.minimizer, w.detach(), rtol=0, atol=1e-15)
        assert float(slope(objective, w.detach()).abs().max()) < 1e-13


def test_mirror_descent_forms_are_models_of_the_regularised_loss() -> None:
    """Value and slope at w are those of ``f + lambda/2 |x|^2``; M may differ between weights."""
    w, g = torch.randn(4, dtype=F64), torch.randn(4, dtype=F64)
    steps, f = torch.rand(4, dtype=F64) + 0.1, 2.5
    first = proximal.linearized_objective(w, g + LAM * w, steps, weight_decay=LAM, loss=f)
    second = proximal.proximal_objective(w, g, steps, weight_decay=LAM, loss=f)
    for objective in (first, second):
        assert float(objective(w)) == pytest.approx(f + LAM / 2 * float(w @ w), rel=1e-14)
        torch.testing.assert_close(slope(objective, w), g + LAM * w, rtol=1e-13, atol=0)
    wanted = (w - steps * g) / (1 + LAM * steps)
    torch.testing.assert_close(second.minimizer, wanted, rtol=1e-14, atol=0)
    torch.testing.assert_close(first.minimizer, w - steps * (g + LAM * w), rtol=1e-14, atol=0)


W = torch.ones(2)
ADAM: dict[str, float] = {"peak_lr": 0.1, "multiplier": 1.0, "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: proximal.squared_norm(-1.0), "coefficient must be a finite number >= 0, got -1.0"),
        (lambda: proximal.absolute_values(-W), "coefficient must be finite and >= 0"),
        (lambda: proximal.euclidean_norm(float("nan")), "coefficient must be a finite number >= 0"),
        (lambda: proximal.no_penalty()(W, 0.0), "steps must be a finite number > 0, got 0.0"),
        (lambda: proximal.no_penalty()(W, 0 * W), "steps must be finite and > 0"),
        (lambda: StepObjective(W, torch.ones(3), 0.1), r"of the weights' shape \(2,\), got \(3,\)"),
        (lambda: p1(W, W, 0 * W, 1.0), "proxadam_objective: metric must be finite and > 0"),
        (
            lambda: proximal.adamp_objective(W, W, W, **{**ADAM, "multiplier": 0.0}),
            "adamp_objective: multiplier must be a finite number > 0",
        ),
        (
            lambda: proximal.proxadam_objective(W, W, W, **{**ADAM, "peak_lr": -1.0}),
            "proxadam_objective: peak_lr must be a finite number > 0",
        ),
        (
            lambda: proximal.linearized_objective(W, W, 0.1, weight_decay=-1.0),
            "linearized_objective: weight_decay must be a finite number >= 0",
        ),
        (
            lambda: proximal.proximal_objective(W, W, 0.1, weight_decay=-1.0),
            "proximal_objective: weight_decay must be a finite number >= 0",
        ),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
