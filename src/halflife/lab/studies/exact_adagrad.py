"""Exact studies of Zhuang et al., appendix B (004): AdaGrad with restarts, Theorems 2 and 3."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...theory.adagrad import AdaGrad, Restarts, adagrad, adagrad_with_restarts, regret_bound
from .bench_exact import Random, apart, between, excess, largest, normal, random_axes, random_cases

Slope = Callable[[Tensor], Tensor]


def _regret(gradients: Tensor, lr: float, radius: float, sign: float = 1.0) -> float:
    """Regret of AdaGrad against the best corner of its cube, where losses are ``<g_t, x>``."""
    x = torch.zeros(gradients.shape[1], dtype=torch.float64)
    optimizer, total = AdaGrad([x], lr, radius=radius), 0.0
    for g in gradients:
        total += float(g @ x)
        x.grad = sign * g
        optimizer.step()
    return total + radius * float(gradients.sum(0).abs().sum())


@random_cases("004/theorem-2")
def regret_of_adagrad(random: Random) -> dict[str, float]:
    """Games that drive the weights to one side, slowly or at once, and then to the other."""
    steps, dimension = int(random.integers(6, 35)), int(random.integers(1, 4))
    turn, radius = int(random.integers(0, steps // 2)), between(random, 0.1, 10.0)
    sizes = torch.from_numpy(random.uniform(size=(steps, dimension))) ** between(random, 0.2, 4.0)
    turned = torch.arange(steps)[:, None] < turn
    gradients = torch.where(turned, -sizes, sizes) * between(random, 1e-3, 1e3)
    diameter = 2.0 * radius
    lr = diameter / math.sqrt(2.0)
    other = diameter * between(random, 0.05, 3.0)
    published = regret_bound(gradients, diameter)
    # A game that first pushes to one end of the cube, and then to the other.
    pushes = [-1e-6, -1e-3, *[1.0] * int(random.integers(3, 6))]
    game = between(random, 0.1, 10.0) * torch.tensor(pushes, dtype=torch.float64)[:, None]
    small = radius / math.sqrt(2.0)  # the published lr of a round: its half-width over sqrt 2
    usual, reversed_ = (
        excess(_regret(gradients, lr, radius, sign), published) for sign in (1.0, -1.0)
    )
    met, told = _regret(game, small, radius), regret_bound(game, radius)
    at_other = regret_bound(gradients, diameter, other)
    return {
        "published": usual,
        "published/null": reversed_,
        "any lr": excess(_regret(gradients, other, radius), at_other),
        "any lr/null": reversed_,
        "half-width": excess(met, told),
        "half-width/null": excess(_regret(game, small, radius, -1.0), told),
        "diameter": excess(met, regret_bound(game, diameter, small)),
        "diameter/null": excess(met, told),
    }


@random_cases("004/theorem-3")
def restarted_adagrad(random: Random, *, rounds: int) -> dict[str, float]:
    """Three kinds of strongly convex functions of 3 weights; error after each round."""
    dimension, radius = 3, between(random, 0.1, 10.0)
    start = normal(random, dimension)
    minimum = start + radius * torch.from_numpy(random.uniform(-1.0, 1.0, dimension))
    minimum[0] = start[0] + radius  # as far away as is allowed

    def worst(slope: Slope, constants: Restarts, steps: int | None = None) -> float:
        """Largest error of a round, over what is allowed after it, in excess of 1."""
        if steps is None:
            ends = adagrad_with_restarts(slope, start, constants, rounds=rounds)
        else:
            ends, x = [], start
            for k in range(rounds):
                x = adagrad(slope, x, steps=steps, lr=constants.lr / 2**k, radius=radius / 2**k)
                ends.append(x)
        errors = [float((x - minimum).abs().max()) for x in ends]
        return largest(
            *(excess(e, constants.error_bound(k)) for k, e in enumerate(errors, start=1))
        )

    h = torch.exp(torch.from_numpy(random.uniform(0.0, math.log(1e6), dimension)))
    even = Restarts(radius, dimension, 1.0)
    condition = between(random, 1.5, 4.0)
    basis = random_axes(random, dimension)
    spectrum = torch.tensor([1.0, between(random, 1.0, condition), condition]).double()
    full = basis @ torch.diag(spectrum) @ basis.T
    # Curvature 1, and one more beyond each of some planes, so that it jumps there; along the
    # normals of all of them at once it is at most the condition number.
    normals = random_axes(random, dimension) * math.sqrt(condition - 1.0)
    offsets = radius * normal(random, dimension)

    def kinked(x: Tensor) -> Tensor:
        y = x - minimum
        hinges = (normals @ y - offsets).clamp_min(0.0) - (-offsets).clamp_min(0.0)
        return y + normals.T @ hinges

    def diagonal(x: Tensor) -> Tensor:
        return h * (x - minimum)

    def rotated(x: Tensor) -> Tensor:
        return full @ (x - minimum)

    own = Restarts(radius, dimension, condition)
    proved = Restarts(radius, dimension, 1.0, proved=True)
    powers = 2.0 ** torch.from_numpy(random.integers(0, 20, dimension)).double()
    runs = [
        torch.stack(adagrad_with_restarts(slope, start, even, rounds=rounds))
        for slope in (lambda x: powers * (x - minimum), lambda x: x - minimum, rotated)
    ]
    one = torch.ones(1, 1, dtype=torch.float64)
    needed = [(regret_bound(one, 2.0, lr) / regret_bound(one, 1.0)) ** 2
              for lr in (math.sqrt(0.5), math.sqrt(2.0))]  # fmt: skip
    return {
        "diagonal": worst(diagonal, even),
        "diagonal/null": worst(diagonal, even, steps=1),
        "rotated": worst(rotated, own),
        "rotated/null": worst(rotated, own, steps=1),
        "kinked": worst(kinked, own),
        "kinked/null": worst(kinked, own, steps=1),
        "proved": worst(diagonal, proved),
        "proved/null": worst(diagonal, proved, steps=1),
        "twin": apart(runs[0], runs[1]),
        "twin/null": apart(runs[2], runs[1]),
        "constant": excess(needed[0], 1.0),
        "constant/null": excess(needed[1], 1.0),
    }
