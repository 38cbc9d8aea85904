"""Exact studies of Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (001)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ...algorithms import algorithm
from ...bases.noise import Base
from ...optim import SGD
from ...schedules import cosine_warm_restarts, normalized_decay
from ...theory.filtering import Belief, bayesian_filter, settled_variance
from ...units.strength import Normalized
from .bench_exact import (
    Gradient,
    Random,
    adam_moments,
    apart,
    between,
    changing_rates,
    largest,
    no_gradient,
    noisy_sine,
    normal,
    random_cases,
    trajectory,
)

_PEAK = 0.05


def _nearest(distance: Callable[[float], float], low: float, high: float) -> float:
    """The smallest distance over a coefficient: on a grid of its logarithm, then between points."""
    grid = np.linspace(math.log(low), math.log(high), 9)
    values = [distance(math.exp(x)) for x in grid]
    best = int(np.argmin(values))
    ends = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(lambda x: distance(math.exp(x)), bounds=ends, method="bounded",
                            options={"xatol": 1e-5, "maxiter": 25})  # fmt: skip
    return float(np.min([found.fun, *values]))


@random_cases("001/proposition-1")
def decay_as_l2(random: Random) -> dict[str, float]:
    """SGD under a schedule, with the decay of Algorithm 1 and with an L2 penalty."""
    dimension, steps, decay = 7, 15, between(random, 1e-3, 0.05)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)

    def l2(coefficient: float, momentum: float) -> Tensor:
        return trajectory(
            "sgd_l2", start, gradient, lrs, weight_decay=coefficient, momentum=momentum
        )

    def sgdw(momentum: float) -> Tensor:
        return trajectory("sgdw", start, gradient, lrs, weight_decay=decay, momentum=momentum)

    plain, heavy = sgdw(0.0), sgdw(0.9)
    same = decay / _PEAK
    without = l2(0.0, 0.9)[-1]

    def distance(coefficient: float) -> float:
        return float((l2(coefficient, 0.9) - heavy)[-1].norm())

    return {
        "no momentum": apart(l2(same, 0.0), plain),
        "no momentum/null": apart(l2(decay, 0.0), plain),
        "momentum": apart(l2(same, 0.9), heavy),
        "momentum/null": apart(l2(decay, 0.9), heavy),
        "some coefficient": _nearest(distance, 0.01 * same, 10.0 * same)
        / float((without - heavy[-1]).norm()),
        "some coefficient/null": apart(l2(decay, 0.9), heavy),
    }


@random_cases("001/algorithm-1")
def decay_and_momentum(random: Random) -> dict[str, float]:
    """Where momentum has the learning rate, and what it makes of an L2 penalty."""
    dimension, steps, decay = 5, 12, between(random, 1e-3, 0.05)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs, constant = changing_rates(random, steps, _PEAK), [_PEAK] * steps
    settings: dict[str, Any] = {"weight_decay": decay, "momentum": 0.9}
    in_buffer = trajectory("sgdw_paper", start, gradient, lrs, **settings)
    w, m, by_hand = start, torch.zeros_like(start), [start]
    for step, lr in enumerate(lrs):
        m = 0.9 * m + lr * gradient(w, step)
        w = w - m - lr / _PEAK * decay * w
        by_hand.append(w)
    after = trajectory("sgdw", start, gradient, lrs, **settings)

    # Without a gradient w' = (1 + b - lr lambda) w - b w_before, which ends at its larger root.
    momentum, penalty = random.uniform(0.3, 0.6), between(random, 0.05, 0.5)
    free = trajectory("sgd_l2", start[:2], no_gradient, [_PEAK] * 100,
                weight_decay=penalty, momentum=momentum)  # fmt: skip
    half = 0.5 * (1.0 + momentum - _PEAK * penalty)
    root = half + math.sqrt(half * half - momentum)
    removed = 1.0 - float(free[-1, 0] / free[-2, 0])
    own = trajectory("sgdw", start[:2], no_gradient, [_PEAK] * 20,
               weight_decay=_PEAK * penalty, momentum=momentum)  # fmt: skip
    return {
        "line 8": apart(in_buffer, torch.stack(by_hand)),
        "line 8/null": apart(after, torch.stack(by_hand)),
        "outside": apart(after, in_buffer),
        "outside/null": apart(after, trajectory("sgd_l2", start, gradient, lrs, **settings)),
        "outside at constant lr": apart(
            trajectory("sgdw", start, gradient, constant, **settings),
            trajectory("sgdw_paper", start, gradient, constant, **settings),
        ),
        "outside at constant lr/null": apart(after, in_buffer),
        "accumulates": apart(removed, 1.0 - root),
        "accumulates/null": apart(removed, _PEAK * penalty),
        "decoupled": apart(own[-1] / own[-2], 1.0 - _PEAK * penalty),
        "decoupled/null": apart(free[-1] / free[-2], 1.0 - _PEAK * penalty),
    }


def _preconditioned(scales: Tensor, gradient: Tensor) -> Gradient:
    return lambda w, step: scales * gradient


@random_cases("001/proposition-2")
def no_coefficient(random: Random) -> dict[str, float]:
    """One step along ``M g``, M diagonal: the L2 penalty nearest to a decay, found by search."""
    dimension, decay = 6, between(random, 1e-3, 0.05)
    start, gradient = normal(random, dimension), normal(random, dimension)
    scales = torch.exp(normal(random, dimension))

    def smallest_gap(scales: Tensor) -> float:
        wanted = trajectory("sgdw", start, lambda w, t: scales * gradient, [_PEAK],
                      weight_decay=decay, momentum=0.0)[-1]  # fmt: skip

        def gap(coefficient: float) -> float:
            def penalised(w: Tensor, step: int) -> Tensor:
                return scales * (gradient + coefficient * w)

            w = trajectory(SGD, start, penalised, [_PEAK], weight_decay=0.0, groups=1)[-1]
            return float((w - wanted).norm()) / (decay * float(start.norm()))

        same = decay / _PEAK
        return _nearest(gap, 1e-3 * same, 1e3 * same)

    pulled = scales * start
    cosine = float(start @ pulled) / float(start.norm() * pulled.norm())
    least = math.sqrt(1.0 - cosine**2)  # the decay's part across M w, of which L2 has nothing
    even = torch.full_like(scales, between(random, 0.1, 10.0))
    return {
        "gap": largest(0.0, 1.0 - smallest_gap(scales) / least),
        "gap/null": largest(0.0, 1.0 - smallest_gap(even) / least),
    }


@random_cases("001/proposition-2-adam")
def no_coefficient_for_adam(random: Random) -> dict[str, float]:
    """Seven steps of Adam: the L2 coefficient that comes nearest to AdamW."""
    dimension, steps, decay = 6, 7, between(random, 3e-3, 0.03)
    start, noise = normal(random, dimension), normal(random, steps, dimension)
    spread = normal(random, dimension)
    lrs = changing_rates(random, steps, _PEAK)

    def left(decayed: str, penalised: str, sizes: Tensor) -> float:
        """Share of what decay does that the nearest L2 does not."""

        def gradient(w: Tensor, step: int) -> Tensor:
            return sizes * (w.sin() + noise[step])

        def ends(name: str, weight_decay: float) -> Tensor:
            momentum: dict[str, Any] = {"momentum": 0.0} if name.startswith("sgd") else {}
            return trajectory(
                name, start, gradient, lrs, groups=1, weight_decay=weight_decay, **momentum
            )[-1]

        wanted, plain = ends(decayed, decay), ends(penalised, 0.0)
        whole = float((wanted - plain).norm())

        def gap(coefficient: float) -> float:
            return float((ends(penalised, coefficient) - wanted).norm()) / whole

        return _nearest(gap, 1e-3, 1e2)

    return {
        "left": left("adamw_paper", "adam_l2", spread.exp()),
        "left/null": left("sgdw", "sgd_l2", spread.exp()),
        "left/planted": left("adamw_paper", "adam_l2", (3.0 * spread).exp()),
    }


@random_cases("001/proposition-3")
def scale_adjusted(random: Random) -> dict[str, float]:
    """SGD along ``g / s``, with decay and with the penalty ``lambda/(2 alpha) |w sqrt(s)|^2``."""
    dimension, steps, decay = 7, 15, between(random, 1e-3, 0.05)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)
    s = torch.exp(normal(random, dimension))
    coefficient = decay / _PEAK

    def penalised(power: float) -> Tensor:
        def regularised(w: Tensor, step: int) -> Tensor:
            return (gradient(w, step) + coefficient * s**power * w) / s

        return trajectory(SGD, start, regularised, lrs, weight_decay=0.0, momentum=0.0)

    wanted = trajectory("sgdw", start, lambda w, t: gradient(w, t) / s, lrs,
                  weight_decay=decay, momentum=0.0)  # fmt: skip

    # Adam's s changes with every step. With the s of each step the loss of that step is this one.
    adamw = trajectory("adamw_paper", start, gradient, lrs, weight_decay=decay, betas=(0.0, 0.999))
    moments = adam_moments([gradient(w, t) for t, w in enumerate(adamw[:-1])], (0.0, 0.999))
    roots = [v.sqrt() + 1e-8 for _, v in moments]

    def steps_on(scales: Sequence[Tensor]) -> Tensor:
        w, found = start, [start]
        for t, (lr, own, used) in enumerate(zip(lrs, roots, scales, strict=True)):
            w = w - lr * (gradient(w, t) + coefficient * used * w) / own
            found.append(w)
        return torch.stack(found)

    return {
        "fixed": apart(penalised(1.0), wanted),
        "fixed/null": apart(penalised(0.0), wanted),
        "adam": apart(steps_on(roots), adamw),
        "adam/null": apart(steps_on([roots[0]] * steps), adamw),
    }


@random_cases("001/algorithm-2")
def where_decay_enters(random: Random) -> dict[str, float]:
    """Adam with either line of Algorithm 2, transcribed, and in torch's unit."""
    dimension, steps, decay = 7, 12, between(random, 1e-3, 0.05)
    start, gradient = normal(random, dimension), noisy_sine(random, dimension, steps)
    lrs = changing_rates(random, steps, _PEAK)

    def transcribed(line_6: float, line_12: float) -> Tensor:
        w, seen, found = start, [], [start]
        for step, lr in enumerate(lrs):
            seen.append(gradient(w, step) + line_6 * w)
            m, v = adam_moments(seen)[-1]
            w = w - lr / _PEAK * (_PEAK * m / (v.sqrt() + 1e-8) + line_12 * w)
            found.append(w)
        return torch.stack(found)

    run = functools.partial(trajectory, start=start, gradient=gradient, lrs=lrs)
    paper = run("adamw_paper", weight_decay=decay)
    l2 = run("adam_l2", weight_decay=decay / _PEAK)

    def survivor(name: str, peak: float, weight_decay: float) -> Tensor:
        own = [lr * peak / _PEAK for lr in lrs]
        return trajectory(name, start, no_gradient, own, weight_decay=weight_decay)[-1]

    other = between(random, 2.0, 10.0) * _PEAK
    return {
        "line 12": apart(transcribed(0.0, decay), paper),
        "line 12/null": apart(transcribed(decay / _PEAK, 0.0), paper),
        "line 6": apart(transcribed(decay / _PEAK, 0.0), l2),
        "line 6/null": apart(transcribed(0.0, decay), l2),
        "torch": apart(run("adamw", weight_decay=decay / _PEAK), paper),
        "torch/null": apart(run("adamw", weight_decay=decay), paper),
        "decoupled": apart(
            survivor("adamw_paper", _PEAK, decay), survivor("adamw_paper", other, decay)
        ),
        "decoupled/null": apart(
            survivor("adamw", _PEAK, decay / _PEAK), survivor("adamw", other, decay / _PEAK)
        ),
    }


@random_cases("001/section-3")
def filtered_weights(random: Random) -> dict[str, float]:
    """The filter of section 3 on quadratic likelihoods, which it should treat exactly."""
    dimension, steps, decay = 5, 10, between(random, 1e-3, 0.1)
    precision = 0.5 + torch.from_numpy(random.uniform(size=dimension))
    seen = normal(random, steps, dimension)
    start = Belief(normal(random, dimension), 0.1 + 0.4 * normal(random, dimension).square())
    settings: dict[str, Any] = {"steps": steps, "drift": 0.05, "precision": precision}

    def run(shrinkage: float, penalty: float = 0.0) -> list[Belief]:
        rows = iter(seen)
        return list(
            bayesian_filter(
                lambda w: precision * (next(rows) - w) - penalty * w, start,
                shrinkage=shrinkage, **settings,
            )
        )  # fmt: skip

    beliefs = run(decay)
    means = torch.stack([start.mean, *(b.mean for b in beliefs)])

    def decayed(inside: float) -> Tensor:
        """SGDW along the variances, with the gradient at the weights times 1 - inside."""

        def gradient(w: Tensor, step: int) -> Tensor:
            g = precision * ((1.0 - inside) * w - seen[step])
            return beliefs[step].variance * g / _PEAK

        return trajectory("sgdw", start.mean, gradient, [_PEAK] * steps,
                    weight_decay=decay, momentum=0.0)  # fmt: skip

    # All of it at once: a Gaussian over the weights at every step, conditioned on what was seen.
    exact = torch.empty(dimension, dtype=torch.float64)
    for j in range(dimension):
        inverse = torch.zeros(steps + 1, steps + 1, dtype=torch.float64)
        pulled = torch.zeros(steps + 1, dtype=torch.float64)
        inverse[0, 0] = 1.0 / start.variance[j]
        pulled[0] = start.mean[j] / start.variance[j]
        for t in range(steps):
            link = torch.tensor([-(1.0 - decay), 1.0], dtype=torch.float64)
            inverse[t : t + 2, t : t + 2] += torch.outer(link, link) / settings["drift"]
            inverse[t + 1, t + 1] += precision[j]
            pulled[t + 1] += precision[j] * seen[t, j]
        exact[j] = torch.linalg.solve(inverse, pulled)[-1]
    size, slope = 1e-6, between(random, 0.1, 10.0)
    settled = settled_variance(drift=size**2, precision=slope**2)
    return {
        "bayes": apart(means[-1], exact),
        "bayes/null": apart(run(0.0, penalty=decay)[-1].mean, exact),
        "decay": apart(means, decayed(inside=decay)),
        "decay/null": apart(means, torch.stack([start.mean, *(b.mean for b in run(0.0, decay))])),
        "equation 1": apart(means, decayed(inside=0.0)),
        "equation 1/null": apart(means, decayed(inside=0.5)),
        "adam": apart(settled, size / slope),
        "adam/null": apart(settled, size / slope**2),
    }


@random_cases("001/restarts")
def cycles_and_decay(random: Random) -> dict[str, float]:
    """Cosine cycles by fractions of an epoch, and the decay that belongs to their length."""
    first, factor, batches = (
        int(random.integers(low, high)) for low, high in ((1, 5), (2, 4), (3, 9))
    )
    curve = cosine_warm_restarts(first, factor, steps_per_epoch=batches)
    lengths = [first * factor**i for i in range(3)]  # epochs
    ends = np.cumsum(lengths).tolist()
    coefficient, batch = between(random, 0.02, 0.06), int(random.integers(16, 129))
    data = batch * batches

    def by_epochs(per_batch: bool) -> list[tuple[float, float]]:
        found = []
        for length in lengths:
            for k in range(length * batches):
                now = k / batches if per_batch else k // batches
                eta = 0.5 + 0.5 * math.cos(math.pi * now / length)
                found.append((eta, coefficient * math.sqrt(batch / (data * length))))
        return found

    wanted = by_epochs(True)
    etas = torch.tensor([curve(step) for step in range(len(wanted))], dtype=torch.float64)
    of_cycle = normalized_decay(curve)
    decays = torch.tensor(
        [coefficient * of_cycle(k) for k in range(len(wanted))], dtype=torch.float64
    )
    strength = Normalized(coefficient, batch_size=batch, dataset_size=data, epochs=first)
    fraction = strength.fraction(Base("AdamW", lr=_PEAK))

    steps = min(len(wanted), 24)
    start, gradient = normal(random, 4), noisy_sine(random, 4, steps)
    entry = algorithm("adamwr")
    p = start.clone().requires_grad_()
    optimizer = entry.create([p], lr=_PEAK, weight_decay=coefficient)
    assert entry.schedule is not None
    scheduler = entry.schedule(optimizer, steps_per_epoch=batches, T_0=first, T_mult=factor)
    for step in range(steps):
        p.grad = gradient(p.detach(), step)
        optimizer.step()
        scheduler.step()

    def transcribed(steps_of: list[tuple[float, float]]) -> Tensor:
        w, seen = start, []
        for step, (eta, decay) in enumerate(steps_of[:steps]):
            seen.append(gradient(w, step))
            m, v = adam_moments(seen)[-1]
            w = w - eta * (_PEAK * m / (v.sqrt() + 1e-8) + decay * w)
        return w

    eta_of = torch.tensor([eta for eta, _ in wanted], dtype=torch.float64)
    by_epoch = torch.tensor([eta for eta, _ in by_epochs(False)], dtype=torch.float64)
    decay_of = torch.tensor([decay for _, decay in wanted], dtype=torch.float64)
    wrong = [(eta, decay_of[0].item()) for eta, _ in by_epochs(False)]
    snapshots = torch.tensor(curve.snapshot_epochs(ends[-1]), dtype=torch.float64)
    even = torch.tensor([first * (i + 1) for i in range(3)], dtype=torch.float64)
    return {
        "cosine": apart(etas, eta_of),
        "cosine/null": apart(etas, by_epoch),
        "snapshots": apart(snapshots, torch.tensor(ends, dtype=torch.float64)),
        "snapshots/null": apart(snapshots, even),
        "normalized": largest(apart(decays, decay_of), apart(fraction, float(decay_of[0]))),
        "normalized/null": apart(decays, torch.full_like(decays, float(decay_of[0]))),
        "adamwr": apart(p.detach(), transcribed(wanted)),
        "adamwr/null": apart(p.detach(), transcribed(wrong)),
    }
