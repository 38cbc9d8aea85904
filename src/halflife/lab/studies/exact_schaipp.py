"""Exact studies of Schaipp, "Decay No More" (002): AdamW's relatives as proximal steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...theory.proximal import (
    Penalty,
    absolute_values,
    adamp_objective,
    euclidean_norm,
    proxadam_objective,
    squared_norm,
)
from .bench_exact import (
    Random,
    adam_moments,
    apart,
    between,
    changing_rates,
    largest,
    noisy_sine,
    normal,
    random_cases,
    trajectory,
)

_PEAK = 0.05
Objective = Callable[[Tensor], Tensor]


def slope_at(objective: Objective, at: Tensor) -> float:
    """Norm of the gradient of an objective."""
    y = at.clone().requires_grad_()
    return float(torch.autograd.grad(objective(y), y)[0].norm())


def _printed(
    form: str, weight_decay: float, m: Tensor, d: Tensor, eta: float, before: Tensor
) -> Objective:
    """(P1), or the objective of AdamP, of one step."""

    def objective(y: Tensor) -> Tensor:
        near = (d * (y - before).square()).sum() / (2.0 * eta * _PEAK)
        if form == "P1":
            penalty = weight_decay / (2.0 * _PEAK) * (d * y.square()).sum()
        else:
            penalty = 0.5 * weight_decay * y.square().sum()
        return ((y - before) * m).sum() + penalty + near

    return objective


@random_cases("002/objectives")
def printed_objectives(random: Random) -> dict[str, float]:
    """(P1), (P2) and Adam's own, as printed, at the library's weights after each step."""
    dimension, steps, decay = 6, 8, between(random, 1e-3, 0.3)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)

    def worst(name: str, form: str, weight_decay: float) -> tuple[float, float]:
        """The slope of the objective, over that of its first term; distance to its minimizer."""
        weights = trajectory(name, start, gradient, lrs, weight_decay=weight_decay)
        seen = [gradient(w, t) for t, w in enumerate(weights[:-1])]
        slope = distance = 0.0
        for t, (m, v) in enumerate(adam_moments(seen)):
            d, eta, before, after = v.sqrt() + 1e-8, lrs[t] / _PEAK, weights[t], weights[t + 1]
            objective = _printed(form, weight_decay, m, d, eta, before)
            made = proxadam_objective if form == "P1" else adamp_objective
            step = made(before, m, d, peak_lr=_PEAK, multiplier=eta, weight_decay=weight_decay)
            slope = largest(slope, slope_at(objective, after) / float(m.norm()))
            distance = largest(distance, apart(step.minimizer, after))
        return slope, distance

    first, second = worst("proxadam", "P1", decay), worst("adamp_blog", "P2", decay)
    crossed, other = worst("adamp_blog", "P1", decay), worst("proxadam", "P2", decay)
    adam = worst("adam_l2", "P1", 0.0)
    return {
        "P1": first[0],
        "P1/null": crossed[0],
        "P2": second[0],
        "P2/null": other[0],
        "adam": adam[0],
        "adam/null": worst("adam_l2", "P1", decay)[0],
        "minimizer": largest(first[1], second[1], adam[1]),
        "minimizer/null": crossed[1],
    }


@random_cases("002/proximal-operator")
def proximal_operators(random: Random) -> dict[str, float]:
    """Closed forms of proximal operators against their definition."""
    dimension, coefficient = 5, between(random, 0.1, 3.0)
    x, g, w = (normal(random, dimension) for _ in range(3))
    lr = between(random, 0.05, 1.0)
    around = (
        normal(random, 200, dimension) * torch.logspace(-6, 0, 200, dtype=torch.float64)[:, None]
    )

    def beaten(penalty: Penalty, at: Tensor) -> float:
        """By how much a point near by is better, which a minimum has none of."""

        def objective(y: Tensor) -> float:
            return float(penalty.value(y) + 0.5 * (y - x).square().sum())

        own = objective(at)
        return largest(0.0, *((own - objective(at + each)) / own for each in around))

    squared = squared_norm(coefficient)
    shrunk = squared(x)

    def equation_1(y: Tensor) -> Tensor:
        return ((y - w) * g).sum() + squared.value(y) + (y - w).square().sum() / (2.0 * lr)

    return {
        "squared norm": apart(shrunk, x / (1.0 + coefficient)),
        "squared norm/null": apart(shrunk, (1.0 - coefficient) * x),
        "minimum": largest(
            *(
                beaten(p, p(x))
                for p in (squared, absolute_values(coefficient), euclidean_norm(coefficient))
            )
        ),
        "minimum/null": beaten(squared, (1.0 - coefficient) * x),
        "equation 1": slope_at(equation_1, squared(w - lr * g, lr)) / float(g.norm()),
        "equation 1/null": slope_at(equation_1, squared(w - lr * g)) / float(g.norm()),
    }


@random_cases("002/scale-freeness")
def loss_times_constant(random: Random) -> dict[str, float]:
    """Three methods where the loss is multiplied by a power of two, and epsilon is 0."""
    dimension, steps, decay = 6, 10, between(random, 1e-2, 0.3)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)
    factor = 2.0 ** float(random.choice([-9, -5, -2, 3, 7, 11]))

    def run(name: str, c: float, weight_decay: float = decay) -> Tensor:
        return trajectory(name, start, lambda w, t: c * gradient(w, t), lrs,
                    weight_decay=weight_decay, eps=0.0)  # fmt: skip

    adamp = run("adamp_blog", 1.0)
    changed = apart(run("adamp_blog", factor), adamp)
    return {
        "proxadam": apart(run("proxadam", factor), run("proxadam", 1.0)),
        "proxadam/null": changed,
        "adamw": apart(run("adamw", factor), run("adamw", 1.0)),
        "adamw/null": changed,
        "adamp": changed,
        "adamp/null": apart(run("adam_l2", factor), run("adam_l2", 1.0)),
        "adamp, lambda too": apart(run("adamp_blog", factor, factor * decay), adamp),
        "adamp, lambda too/null": changed,
    }


@random_cases("002/proxadam-and-adamw")
def adamw_in_disguise(random: Random) -> dict[str, float]:
    """ProxAdam, and AdamW at a learning rate that is smaller by the decay's share."""
    dimension, steps, decay = 6, 12, between(random, 1e-2, 0.5)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)
    proximal = trajectory("proxadam", start, gradient, lrs, weight_decay=decay)
    smaller = [lr / (1.0 + lr / _PEAK * decay) for lr in lrs]
    same = trajectory("adamw", start, gradient, smaller, weight_decay=decay / _PEAK)
    printed, w, seen = [start], start, []
    for step, lr in enumerate(lrs):
        eta = lr / _PEAK
        seen.append(gradient(w, step))
        m, v = adam_moments(seen)[-1]
        share = decay * eta / (1.0 + decay * eta)
        w = (1.0 - share) * w - eta * _PEAK / (1.0 + decay * eta) * m / (1e-8 + v.sqrt())
        printed.append(w)
    adamw = trajectory("adamw_paper", start, gradient, lrs, weight_decay=decay)
    return {
        "printed": apart(proximal, torch.stack(printed)),
        "printed/null": apart(adamw, torch.stack(printed)),
        "smaller lr": apart(proximal, same),
        "smaller lr/null": apart(proximal, adamw),
    }
