"""Exact studies of Zhuang et al., "Understanding AdamW ..." (004): scale-freeness, AdamProx."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...theory.conditioning import best_condition, block_condition
from ...theory.proximal import linearized_objective, proximal_objective
from .bench_exact import (
    Gradient,
    Random,
    adam_moments,
    apart,
    between,
    changing_rates,
    excess,
    largest,
    noisy_sine,
    normal,
    random_axes,
    random_cases,
    trajectory,
)

_PEAK = 0.05


def _scaled(factors: Tensor | float, gradient: Gradient) -> Gradient:
    return lambda w, step: factors * gradient(w, step)


@random_cases("004/scale-freeness")
def rescaled_gradients(random: Random) -> dict[str, float]:
    """Runs whose gradient coordinates are multiplied by powers of two of their own."""
    dimension, steps, decay = 6, 10, between(random, 1e-2, 0.2)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)
    factors = 2.0 ** torch.from_numpy(random.integers(-13, 13, dimension)).double()
    factors[0], factors[1] = 2.0**-9, 2.0**9  # some that differ, whatever was drawn

    def moved(name: str, weight_decay: float = decay) -> float:
        runs = [trajectory(name, start, g, lrs, weight_decay=weight_decay, eps=0.0)
                for g in (gradient, _scaled(factors, gradient))]  # fmt: skip
        return apart(*runs)

    l2 = moved("adam_l2")
    return {
        "adamw": moved("adamw_paper"),
        "adamprox": moved("adamprox"),
        "adamproxl1": moved("adamproxl1", 0.1 * decay),
        "adamproxl2": moved("adamproxl2"),
        "adam": moved("adam_l2", 0.0),
        "l2": l2,
        "adams": moved("adams"),
        "l1 in the metric": moved("adamproxl1_preconditioned", 0.1 * decay),
        **{
            f"{name}/null": l2 for name in ("adamw", "adamprox", "adamproxl1", "adamproxl2", "adam")
        },
        **{f"{name}/null": moved("adamp_blog") for name in ("l2", "adams", "l1 in the metric")},
    }


@random_cases("004/loss-factor")
def multiplied_loss(random: Random) -> dict[str, float]:
    """The loss times 10 and 100, and gradients that vanish beside epsilon."""
    dimension, steps, decay = 6, 10, between(random, 1e-2, 0.2)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)

    def run(name: str, c: float, weight_decay: float = decay, eps: float = 0.0) -> Tensor:
        return trajectory(
            name, start, _scaled(c, gradient), lrs, weight_decay=weight_decay, eps=eps
        )

    plain, practice = run("adamw_paper", 1.0), run("adamw_paper", 1.0, eps=1e-8)
    l2, l2_practice = run("adam_l2", 1.0), run("adam_l2", 1.0, eps=1e-8)
    l2_changed = apart(run("adam_l2", 10.0), l2)
    return {
        "adamw": largest(*(apart(run("adamw_paper", c), plain) for c in (10.0, 100.0))),
        "adamw/null": l2_changed,
        "epsilon": largest(
            *(apart(run("adamw_paper", c, eps=1e-8), practice) for c in (10.0, 100.0))
        ),
        "epsilon/null": apart(run("adam_l2", 10.0, eps=1e-8), l2_practice),
        "vanishing": apart(run("adamw_paper", 1e-8, eps=1e-8), practice),
        "vanishing/null": apart(run("adam_l2", 1e-8, eps=1e-8), l2_practice),
        "l2": largest(*(apart(run("adam_l2", c, c * decay), l2) for c in (10.0, 100.0))),
        "l2/null": l2_changed,
    }


@random_cases("004/corollary-1")
def conditioned_quadratics(random: Random, *, steps: int) -> dict[str, float]:
    """A quadratic, and its twin of condition number 1 with the same minimum, at d = 2 or 50."""
    dimension = int(random.choice([2, 50]))
    condition = float(random.choice([1.0, 1e5]))
    h = torch.logspace(0.0, math.log10(condition), dimension, dtype=torch.float64)
    h = h[torch.from_numpy(random.permutation(dimension))]
    minimum, start = normal(random, dimension), normal(random, dimension)
    lrs = changing_rates(random, steps, _PEAK)
    basis = random_axes(random, dimension)
    stretched = torch.logspace(0.0, 5.0, dimension, dtype=torch.float64)
    full = basis @ torch.diag(stretched) @ basis.T

    def gap(name: str, gradient: Gradient, twin: Gradient) -> float:
        runs = [
            trajectory(name, start, g, lrs, weight_decay=0.02, eps=0.0) for g in (gradient, twin)
        ]
        return float((runs[0] - runs[1]).abs().max() / (start - minimum).abs().max())

    b = -h * minimum

    def diagonal(w: Tensor, step: int) -> Tensor:
        return h * w + b

    def twin(w: Tensor, step: int) -> Tensor:
        return w + b / h

    rotated = gap("adamw_paper", lambda w, t: full @ (w - minimum), lambda w, t: w - minimum)

    def left(curvatures: Tensor) -> float:
        """Share of the distance that is left after 1000 steps of gradient descent, at its best."""
        most = float(curvatures.max())
        rates = torch.linspace(0.05, 2.0, 200, dtype=torch.float64)[:, None] / most
        ends = (1.0 - rates * curvatures).pow(1000) * (start - minimum)
        return float(ends.norm(dim=1).min() / (start - minimum).norm())

    even = left(torch.ones(dimension, dtype=torch.float64))
    return {
        "diagonal": gap("adamw_paper", diagonal, twin),
        "diagonal/null": gap("adam_l2", lambda w, t: stretched * (w - minimum), twin),
        "rotated": rotated,
        "rotated/null": gap("adam_l2", lambda w, t: full @ (w - minimum), twin),
        "gradient descent": left(stretched) - even,
        "gradient descent/null": left(torch.full_like(h, condition)) - even,
        "gradient descent/planted": left(stretched**1.4) - even,
    }


@random_cases("004/theorem-1")
def rescaled_functions(random: Random) -> dict[str, float]:
    """Families of functions with Hessians ``Lambda H``: separable ones, and quadratics."""
    dimension, steps = 4, 10
    start, minimum = normal(random, dimension), normal(random, dimension)
    lrs = changing_rates(random, steps, _PEAK)
    # f' has slopes between low and low + high, both of every coordinate's own.
    low = torch.exp(2.0 * normal(random, dimension))
    high = low * torch.from_numpy(random.uniform(0.5, 4.0, dimension))
    factors = 2.0 ** torch.from_numpy(random.integers(-9, 9, dimension)).double()

    def gradient(w: Tensor, step: int) -> Tensor:
        return low * (w - minimum) + high * (w - minimum).tanh()

    def unchanged(name: str) -> float:
        runs = [trajectory(name, start, g, lrs, weight_decay=0.1, eps=0.0)
                for g in (gradient, _scaled(factors, gradient))]  # fmt: skip
        return apart(*runs)

    points = 3.0 * normal(random, 400, dimension)
    curvatures = low + high / (points - minimum).cosh().square()
    ratios = (low + high) / low
    worst = float(ratios.max())
    # The example's Lambda: every coordinate's curvature into the interval of the worst one.
    chosen = low[ratios.argmax()] / low

    def condition(scaled: Tensor) -> float:
        return float((scaled.max(1).values / scaled.min(1).values).max())

    basis = random_axes(random, 3)
    spread = torch.diag(torch.exp(2.0 * normal(random, 3)))
    hessian = basis @ spread @ basis.T
    scales = torch.exp(normal(random, 3))
    scaled = scales[:, None] * hessian
    twice = scales[:, None].square() * hessian
    found = best_condition(hessian)
    others = torch.exp(2.0 * normal(random, 100, 3))
    values = [np.linalg.eigvals((each[:, None] * hessian).numpy()).real for each in others]
    least = min(float(v.max() / v.min()) for v in values)
    correlation = random.uniform(-0.99, 0.99)
    two = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)
    size = torch.diag(torch.exp(2.0 * normal(random, 2)))
    pair = (1.0 + abs(correlation)) / (1.0 - abs(correlation))
    return {
        "family": unchanged("adamw_paper"),
        "family/null": unchanged("adam_l2"),
        "example": excess(condition(chosen * curvatures), worst),
        "example/null": excess(condition(curvatures), worst),
        "exists": float((scaled - scaled.T).abs().max() / scaled.abs().max()),
        "exists/null": float((twice - twice.T).abs().max() / twice.abs().max()),
        "smallest": excess(found.lower, least),
        "smallest/null": excess(found.unscaled, least),
        "two weights": apart(best_condition(size @ two @ size).condition, pair),
        "two weights/null": apart(best_condition(size @ two @ size).unscaled, pair),
        "reached": apart(block_condition(hessian), found.condition),
        "reached/null": apart(1.0, found.condition),
    }


def _slope(objective: Callable[[Tensor], Tensor], at: Tensor) -> float:
    y = at.clone().requires_grad_()
    return float(torch.autograd.grad(objective(y), y)[0].norm())


@random_cases("004/adamprox")
def proximal_and_plain(random: Random) -> dict[str, float]:
    """The two argmins of section 3 at the library's weights, and AdamW beside AdamProx."""
    dimension, steps, decay = 6, 8, between(random, 1e-2, 0.3)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)

    def worst(name: str, linear: bool) -> float:
        """Slope of the argmin's objective at the weights of each step, over that of its p."""
        l2 = name == "adam_l2"
        weights = trajectory(name, start, gradient, lrs, weight_decay=decay)
        seen = [gradient(w, t) + (decay * w if l2 else 0.0) for t, w in enumerate(weights[:-1])]
        most = 0.0
        for t, (m, v) in enumerate(adam_moments(seen)):
            p, eta, before, after = (
                _PEAK * m / (v.sqrt() + 1e-8),
                lrs[t] / _PEAK,
                *weights[t : t + 2],
            )
            made = linearized_objective if linear else proximal_objective
            objective = made(before, p, eta, weight_decay=decay)
            most = largest(most, _slope(objective, after) / float(p.norm()))
        return most

    # One step of each from the same weights, at multipliers that fall.
    update = normal(random, dimension).sign() * _PEAK  # alpha u of Adam's first step, without decay
    etas = [2.0**-k for k in range(3, 10)]

    def end(name: str, eta: float) -> Tensor:
        return trajectory(name, start, lambda w, t: update, [eta * _PEAK], peak=_PEAK, eps=0.0,
                    weight_decay=decay)[-1]  # fmt: skip

    def order(sizes: list[float]) -> float:
        return float(np.polyfit(np.log(etas), np.log(sizes), 1)[0])

    gaps = [float((end("adamprox", eta) - end("adamw_paper", eta)).norm()) for eta in etas]
    bounds = [decay * eta**2 * float((decay * start.abs() + update.abs()).norm()) for eta in etas]
    moved = [float((end("adamw_paper", eta) - start).norm()) for eta in etas]
    return {
        "equation 2": worst("adam_l2", linear=True),
        "equation 2/null": worst("adam_l2", linear=False),
        "equation 3": worst("adamprox", linear=False),
        "equation 3/null": worst("adamw_paper", linear=False),
        "remainder": largest(*(excess(g, b) for g, b in zip(gaps, bounds, strict=True))),
        "remainder/null": excess(moved[0], bounds[0]),
        "order": order(gaps) - 2.0,
        "order/null": order(moved) - 2.0,
        "order/planted": order(bounds) - 2.0,
    }
