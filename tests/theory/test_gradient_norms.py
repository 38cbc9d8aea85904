"""Decay and gradient norms: Theorem 1 by autograd, Theorem 2 on a problem with known constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from halflife.theory.gradient_norms import sgd_gradient_bound, uncoupled_decay_gradient

DOUBLE = torch.float64


@pytest.mark.parametrize(("lr", "next_lr"), [(0.1, 0.01), (0.01, 0.1), (0.3, 0.3)])
def test_theorem_1_is_exact(lr: float, next_lr: float) -> None:
    """On a quadratic, at the minimum of this step's objective, by autograd."""
    weight_decay = 1e-3
    hessian = torch.tensor([1.0, 5.0, 0.2], dtype=DOUBLE)
    target = torch.tensor([1.0, -2.0, 3.0], dtype=DOUBLE)

    def objective(w: Tensor, rate: float) -> Tensor:
        penalty = weight_decay / (2 * rate) * w.square().sum()
        return 0.5 * (hessian * (w - target) ** 2).sum() + penalty

    def gradient_norm(w: Tensor, rate: float) -> float:
        w = w.clone().requires_grad_()
        return torch.autograd.grad(objective(w, rate), w)[0].norm().item()

    w = hessian * target / (hessian + weight_decay / lr)
    assert gradient_norm(w, lr) < 1e-14
    expected = uncoupled_decay_gradient(
        weight_norm=w.norm().item(), weight_decay=weight_decay, lr=lr, next_lr=next_lr
    )
    assert gradient_norm(w, next_lr) == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert (expected > 0) == (lr != next_lr)

    # What the two objectives are for: the step does not move w at lr, and does at next_lr, while
    # with decay coupled to lr a stationary point is one at every lr.
    plain = hessian * (w - target)
    moved = [((1 - weight_decay) * w - rate * plain - w).norm().item() for rate in (lr, next_lr)]
    assert moved[0] < 1e-14
    assert moved[1] == pytest.approx(next_lr * expected, rel=1e-10, abs=1e-14)
    coupled = (1 - next_lr * weight_decay / lr) * w - next_lr * plain - w
    assert coupled.norm().item() < 1e-14


def sgd(steps: int, lr: float, weight_decay: float, size: float) -> tuple[float, dict[str, Any]]:
    """SGD on sum log cosh w_j with uniform noise: least mean squared gradient, and constants."""
    start, dimension, replicas = 1.5, 4, 50
    w = torch.full((replicas, dimension), start, dtype=DOUBLE)
    least, largest = math.inf, 0.0
    for _ in range(steps):
        least = min(least, (w.tanh() + weight_decay * w).square().sum(1).mean().item())
        largest = max(largest, w.norm(dim=1).max().item())
        noise = size * (2 * torch.rand_like(w) - 1)
        w = (1 - lr * weight_decay) * w - lr * (w.tanh() + noise)
    known = {
        "gap": dimension * math.log(math.cosh(start)),
        "smoothness": 1.0,
        "gradient_bound": dimension**0.5,
        "noise": size * (dimension / 3) ** 0.5,
        "weight_decay": weight_decay,
        "initial_norm": start * dimension**0.5,
        "weight_bound": largest,
    }
    return least, known


@pytest.mark.parametrize("weight_decay", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("steps", [4, 100, 400])
def test_theorem_2(weight_decay: float, steps: int) -> None:
    for scale in (0.1, 0.5, 2.0):
        lr = scale / math.sqrt(steps)
        least, known = sgd(steps, lr, weight_decay, size=1.0)
        bound = sgd_gradient_bound(steps=steps, lr=lr, **known)
        assert least <= bound < sgd_gradient_bound(steps=steps, lr=lr, published=True, **known)


def test_theorem_2_as_stated_fails_for_smaller_lr() -> None:
    """lr <= C / sqrt(n) allows one so small that nothing moves; the bound falls all the same."""
    steps, scale = 400, 2.0
    least, known = sgd(steps, 1e-6, 0.0, size=0.1)
    stated = sgd_gradient_bound(steps=steps, lr=scale / math.sqrt(steps), published=True, **known)
    assert least > 3 * stated
    assert least <= sgd_gradient_bound(steps=steps, lr=1e-6, **known)


def test_the_bound_by_hand() -> None:
    known = {"gap": 1.0, "smoothness": 3.0, "gradient_bound": 1.0, "noise": 2.0}
    known |= {"weight_decay": 1.0, "initial_norm": 2.0, "weight_bound": 4.0}
    # D = 1 + 2, n lr = 2, lr (L + wd) = 2, (G + wd sup|w|)^2 + sigma^2 = 25 + 4
    assert sgd_gradient_bound(steps=4, lr=0.5, **known) == 1.5 + 29.0  # type: ignore[arg-type]


GOOD = {"steps": 4, "lr": 0.5, "gap": 1.0, "smoothness": 1.0, "gradient_bound": 1.0}
STATIONARY = {"weight_norm": 1.0, "weight_decay": 0.1, "lr": 0.1, "next_lr": 0.1}
BAD: list[tuple[Callable[..., float], dict[str, Any], str, float, str]] = [
    *(
        (sgd_gradient_bound, GOOD, name, -1.0, "a finite number >= 0, got -1.0; pass a bound on it")
        for name in ("gap", "smoothness", "gradient_bound", "noise", "weight_decay")
    ),
    (sgd_gradient_bound, GOOD, "initial_norm", math.inf, "a finite number >= 0, got inf"),
    (sgd_gradient_bound, GOOD, "weight_bound", math.nan, "a finite number >= 0, got nan"),
    (sgd_gradient_bound, GOOD, "steps", 0, "an integer >= 1, got 0; pass the number of steps"),
    (sgd_gradient_bound, GOOD, "lr", 0.0, "a finite number > 0, got 0.0; pass a step size"),
    (uncoupled_decay_gradient, STATIONARY, "lr", 0.0, "a finite number > 0, got 0.0"),
    (uncoupled_decay_gradient, STATIONARY, "next_lr", -1.0, "a finite number > 0, got -1.0"),
    (uncoupled_decay_gradient, STATIONARY, "weight_norm", -1.0, "a finite number >= 0, got -1.0"),
    (uncoupled_decay_gradient, STATIONARY, "weight_decay", -1.0, "a finite number >= 0, got -1.0"),
]


@pytest.mark.parametrize(("function", "good", "name", "value", "message"), BAD)
def test_errors(
    function: Callable[..., float], good: dict[str, Any], name: str, value: float, message: str
) -> None:
    with pytest.raises(ValueError, match=f"{function.__name__}: {name} must be {message}"):
        function(**{**good, name: value})
