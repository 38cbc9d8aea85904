"""Exact studies of Zhou et al., "Towards Understanding ... AdamW" (003): section 4, convergence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...algorithms import algorithm
from ...theory.convergence import (
    Decaying,
    Problem,
    Steady,
    decay_shrinkage,
    slowest_decay_factor,
)
from ...theory.dynamic_loss import DynamicLoss
from ...theory.least_squares import LeastSquares
from ...theory.stagewise import AdamWStep, Stage, adamw, stagewise_adamw, theorem_stages
from .bench_exact import (
    Random,
    adam_moments,
    apart,
    between,
    excess,
    largest,
    noisy_sine,
    normal,
    random_cases,
)

_BETA2 = 0.1
Schedule: TypeAlias = "float | Callable[[int], float]"


@random_cases("003/theorem-1")
def least_squares_problem(
    random: Random, *, horizons: list[int], replicas: int
) -> dict[str, float]:
    """AdamW and l2-Adam on the theorem's problem, and where the minimum is not 0."""
    seed, a = int(random.integers(2**31)), between(random, 0.7, 1.4)
    found: dict[str, float] = {}

    def keep(name: str, value: float) -> None:
        found[name] = largest(found.get(name, 0.0), value)

    for horizon in horizons:
        own, other = (LeastSquares(horizon, mean=mean, a=a) for mean in (0.0, 1.0))
        run: dict[str, Any] = {"replicas": replicas, "seed": seed}
        w, l2 = own.run_adamw(**run), own.run_l2(**run)
        far, far_l2 = other.run_adamw(**run), other.run_l2(**run)
        alone = own.run_adamw(with_gradient=False, **run)
        w_bound, l2_bound = own.bound(w.tau), own.l2_bound(l2.tau)
        keep("adamw", excess(w.error, w_bound))
        keep("adamw/null", excess(far.error, other.bound(far.tau)))
        keep("l2", excess(l2.error, l2_bound))
        keep("l2/null", excess(far_l2.error, other.l2_bound(far_l2.tau)))
        keep("faster", excess(w.error, l2.error))
        keep("faster/null", excess(l2.error, w.error))
        keep("elsewhere", excess(far.error, other.bound(far.tau)))
        keep("elsewhere/null", excess(far_l2.error, other.bound(far.tau)))
        keep("faster elsewhere", excess(far.error, far_l2.error))
        keep("faster elsewhere/null", excess(far.error, 0.1 * far_l2.error))
        keep("by its gradient", excess(w.error, alone.error))
        keep("by its gradient/null", excess(w.error, 0.1 * alone.error))
    return found


class _LogCosh:
    """The sum of log cosh x_j, and noise that is uniform in [-s, s]; rows are replicas."""

    def __init__(self, random: Random, replicas: int, weight_decay: float) -> None:
        self.size, self.start, self.dimension = random.uniform(0.0, 1.0), 1.0, 3
        self.replicas, self.weight_decay = replicas, weight_decay
        self.generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        self.problem = Problem(
            smoothness=1.0, gradient_bound=1.0 + self.size,
            noise=self.size * math.sqrt(self.dimension / 3.0),
            gap=self.dimension * math.log(math.cosh(self.start)), delta=1.0,
            weight_decay=weight_decay, initial_norm=self.start * math.sqrt(self.dimension),
        )  # fmt: skip
        self.mu = decay_shrinkage(
            beta2=_BETA2, gradient_bound=self.problem.gradient_bound, delta=1.0
        )

    def gradient(self, x: Tensor) -> Tensor:
        noise = torch.rand(x.shape, generator=self.generator, dtype=x.dtype)
        return x.tanh() + self.size * (2.0 * noise - 1.0)

    def steps(
        self, count: int, lr: Schedule, beta1: Schedule, l2: bool = False
    ) -> Iterator[AdamWStep]:
        shape = (self.replicas, self.dimension)
        x = torch.full(shape, self.start, dtype=torch.float64)
        return adamw(
            self.gradient, x, steps=count, lr=lr, beta1=beta1, beta2=_BETA2, delta=1.0, l2=l2,
            weight_decay=lambda k: self.weight_decay * (1.0 - self.mu) ** k,
        )  # fmt: skip


def _squared(x: Tensor) -> float:
    return float(x.square().sum(-1).mean())


def _means(steps: Iterator[AdamWStep], l2: bool = False) -> tuple[float, float, float]:
    """Means over a run: |grad F_k|^2, |v (x_k - x_{k+1})|^2 / lr^2, |m_k - grad F|^2."""
    rows = [
        (
            _squared(s.x.tanh() + s.weight_decay * (1.0 if l2 else s.scale) * s.x),
            _squared(s.scale * (s.x - s.next_x)) / s.lr**2,
            _squared(s.momentum - s.x.tanh()),
        )
        for s in steps
    ]
    gradient, movement, moment = np.mean(rows, axis=0)
    return float(gradient), float(movement), float(moment)


@random_cases("003/theorem-2")
def constant_settings(random: Random, *, replicas: int) -> dict[str, float]:
    """AdamW on log cosh with the theorem's constants, and two problems that have more to show."""
    task = _LogCosh(random, replicas, random.uniform(0.0, 1.0))
    squared = between(random, 0.4, 0.8) * (0.5 + task.problem.variance)
    constants = Steady(task.problem, math.sqrt(squared))
    run = (constants.steps, constants.lr, constants.beta1)
    gradient, movement, moment = _means(task.steps(*run))
    l2 = _means(task.steps(*run, l2=True), l2=True)[0]

    # A slope down to a rounded minimum, without noise.
    slope, delta, gap = math.sqrt(squared / 6.0), 0.01, 0.1
    calm = Steady(Problem(1.0, slope, 0.0, gap, delta), math.sqrt(squared))
    x0 = torch.tensor([gap / slope + 0.5 * slope], dtype=torch.float64)
    printed = 0.0
    for s in adamw(lambda x: x.clamp(-slope, slope), x0, steps=calm.steps, lr=calm.lr,
                   beta1=calm.beta1, beta2=0.001, delta=delta):  # fmt: skip
        printed += float((s.scale * (s.x - s.next_x) ** 2).sum()) / calm.steps
    told = calm.lr**2 * squared / 4.0

    # Little noise, for which the printed lr has no limit.
    quiet = _LogCosh(random, 4, 0.0)
    quiet.size = 0.01
    p = Problem(1.0, 1.01, 0.01, quiet.problem.gap, 1.0)
    large = 0.25 / (6.0 * p.c2**1.5 * p.noise**2)
    without = _means(quiet.steps(60, large, 1.0))[0]
    fine = squared / 100.0
    return {
        "gradient": excess(gradient, squared),
        "gradient/null": excess(gradient, fine),
        "movement": excess(movement, 4.0 * squared),
        "movement/null": excess(movement, 4.0 * fine),
        "moment": excess(moment, 8.0 * squared),
        "moment/null": excess(moment, 8.0 * fine),
        "corollary 2": excess(l2, squared),
        "corollary 2/null": excess(l2, fine),
        "printed movement": excess(printed, told),
        "printed movement/null": excess(printed, told / 100.0),
        "printed lr": excess(without, 0.25),
        "printed lr/null": excess(without, 0.0025),
    }


@random_cases("003/theorem-3")
def falling_settings(random: Random, *, replicas: int) -> dict[str, float]:
    """AdamW on log cosh with the theorem's schedules, at several lengths."""
    task = _LogCosh(random, replicas, random.uniform(0.0, 1.0))
    problem = task.problem
    schedules = Decaying(problem)
    found = {"bound": 0.0, "bound/null": 0.0}
    squares: list[float] = []
    for s in task.steps(300, schedules.lr, schedules.beta1):
        squares.append(_squared(s.x.tanh() + s.weight_decay * s.scale * s.x))
        if len(squares) in (10, 30, 100, 300):
            bound = schedules.bound(len(squares))
            found["bound"] = largest(found["bound"], excess(float(np.mean(squares)), bound))
            fine = excess(float(np.mean(squares)), bound / 1000.0)
            found["bound/null"] = largest(found["bound/null"], fine)
    g, c2 = schedules.gamma, math.sqrt(problem.gradient_bound**2 + 1.0)
    late = math.ceil(16.0 * g**2 * c2 * (1.0 + problem.weight_decay) ** 2)
    printed = g / (2.0 * math.sqrt(c2) * math.sqrt(late + 1.0))  # delta = L = 1
    return found | {
        "schedule": apart(schedules.lr(late), printed),
        "schedule/null": apart(schedules.lr(0), printed),
        "printed beta": largest(0.0, g - 1.0),
        "printed beta/null": largest(0.0, 2.0 * g - 1.0),
    }


@random_cases("003/theorem-4")
def stage_by_stage(random: Random, *, replicas: int, draws: int, stages: int) -> dict[str, float]:
    """Stages on a bowl with noise: by the theorem's constants, and with T_k that doubles."""
    noise = 0.3
    bowl = Problem(smoothness=1.0, gradient_bound=1.5, noise=noise / math.sqrt(3.0), gap=0.5,
                   delta=1.0)  # fmt: skip
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))

    def gradient(x: Tensor) -> Tensor:
        return x + noise * (2.0 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1.0)

    def errors(
        plan: list[Stage], start: float, count: int, moments: Literal["carried", "fresh"]
    ) -> Tensor:
        """E F at the end of each stage."""
        total = torch.zeros(len(plan), dtype=torch.float64)
        for _ in range(count):
            x = torch.full((replicas,), start, dtype=torch.float64)
            ends = stagewise_adamw(gradient, x, plan, beta2=0.001, delta=bowl.delta,
                                   moments=moments, generator=generator)  # fmt: skip
            total += 0.5 * torch.stack(ends).square().mean(1) / count
        return total

    goals = bowl.gap * 0.5 ** torch.arange(1.0, stages + 1.0, dtype=torch.float64)
    plan = theorem_stages(bowl, pl=1.0, stages=stages)
    own = (errors(plan[:2], 1.0, 6 * draws, "carried") / goals[:2]).tolist()
    # The later stages, from the minimum: what they lose of it is the noise of their moments.
    later = [Stage(s.lr, s.beta1, 5 * 2**k) for k, s in enumerate(plan)][3:]
    carried, fresh = (
        (errors(later, 0.0, draws, moments) / goals[3:])[-3:].tolist()
        for moments in ("carried", "fresh")
    )
    return {
        "stages": largest(*(excess(e, 1.0) for e in own)),
        "stages/null": largest(*(excess(e, 0.001) for e in own)),
        "carried": largest(*(excess(e, 0.2) for e in carried)),
        "carried/null": largest(*(excess(e, 0.2) for e in fresh)),
        "fresh": largest(*(excess(e, 0.2) for e in fresh)),
        "fresh/null": largest(*(excess(e, 0.002) for e in fresh)),
    }


@random_cases("003/dynamic-loss")
def regularised_by_scale(random: Random) -> dict[str, float]:
    """F_k, which a step of AdamW descends; Corollary 1, where it is tight and where it is void."""
    dimension = 5
    h = 0.5 + torch.from_numpy(random.uniform(size=dimension))
    minimum, decay = 3.0 * normal(random, dimension), between(random, 0.1, 0.5)

    def gradient(x: Tensor) -> Tensor:
        return h * (x - minimum)

    step = l2 = 0.0
    x, v = minimum, h
    for k, s in enumerate(adamw(gradient, minimum, steps=2000, lr=0.05, beta1=0.2, beta2=0.05,
                                delta=1e-4, weight_decay=decay)):  # fmt: skip
        if k < 50:
            loss = DynamicLoss(s.scale, s.weight_decay)
            wanted = s.x - s.lr * loss.gradient(s.momentum, s.x) / s.scale
            plain = s.x - s.lr * (s.momentum + decay * s.x) / s.scale
            step = largest(step, apart(s.next_x, wanted))
            l2 = largest(l2, apart(s.next_x, plain))
        x, v = s.next_x, s.scale
    settled = DynamicLoss(v, decay)
    end = settled.gradient_bound(gradient(x), x)

    # A random point at which the premise holds, and one at which the bound is reached.
    g, at, scale = (
        normal(random, dimension),
        normal(random, dimension),
        normal(random, dimension).exp(),
    )
    premise = random.uniform(0.05, 0.95)
    most = float(scale.norm() * at.abs().max() / g.norm())
    there = DynamicLoss(scale, premise / most).gradient_bound(g, at)
    tight = DynamicLoss(g.abs(), premise).gradient_bound(g, -g.sign())
    loose = DynamicLoss(g.abs(), premise).gradient_bound(g, g.sign())
    return {
        "step": step,
        "step/null": l2,
        "settles": float(settled.gradient(gradient(x), x).norm() / gradient(x).norm()),
        "settles/null": float((gradient(x) + decay * x).norm() / gradient(x).norm()),
        "corollary 1": excess(there.gradient, there.bound),
        "corollary 1/null": excess(there.gradient, there.dynamic * (1.0 - premise)),
        "tight": apart(tight.bound, tight.gradient),
        "tight/null": apart(loose.bound, loose.gradient),
        "premise": excess(end.premise, 1.0),
        "premise/null": excess(10.0 * end.premise, 1.0),
    }


@random_cases("003/decay-schedules")
def falling_decay(random: Random) -> dict[str, float]:
    """The lambda_k of Theorem 2, whose lambda_k v_k must not grow, and that of AdamW-D."""
    beta2, bound = between(random, 1e-3, 0.3), between(random, 0.3, 3.0)
    delta = beta2 * bound**2 * between(random, 1.2, 100.0)
    mu = decay_shrinkage(beta2=beta2, gradient_bound=bound, delta=delta)
    # Gradients that are nothing at first, and then as large as they may be.
    n, scales = 0.0, []
    for k in range(60):
        n = (1.0 - beta2) * n + beta2 * (bound**2 if k >= 5 else 0.0)
        scales.append(math.sqrt(n + delta))
    growth = largest(*(b / a for a, b in itertools.pairwise(scales)))
    steepest = math.sqrt(1.0 + mu)
    torchs = 0.001 * 1.0**2 / 1e-4  # beta_2 of 0.999, gradients of at most 1, the paper's delta

    steps, c1, rate = 12, between(random, 1e-2, 0.5), random.uniform(0.5, 0.99)
    start, gradient = normal(random, 4), noisy_sine(random, 4, steps)

    def run(short: bool) -> tuple[Tensor, float]:
        p = start.clone().requires_grad_()
        entry = algorithm("adamw_d")
        optimizer = entry.create([p], lr=0.05, weight_decay=c1)
        assert entry.schedule is not None
        length = {"total": steps} if short else {"rate": rate}
        scheduler = entry.schedule(optimizer, **length)
        for t in range(steps):
            p.grad = gradient(p.detach(), t)
            optimizer.step()
            scheduler.step()
        return p.detach(), optimizer.param_groups[0]["weight_decay"] / c1

    def transcribed(factor: float) -> Tensor:
        w, seen = start, []
        for k in range(steps):
            seen.append(gradient(w, k))
            m, v = adam_moments(seen)[-1]
            w = w - 0.05 * (m / (v.sqrt() + 1e-8) + c1 * factor**k * w)
        return w

    hundred = 0.99999 ** (100 * 1_281_167 / 1024)  # epochs of ImageNet, at its batch size
    return {
        "not growing": excess((1.0 - mu) * growth, 1.0),
        "not growing/null": excess(growth, 1.0),
        "slowest": excess(slowest_decay_factor(mu) * growth, 1.0),
        "slowest/null": excess(steepest**-0.5 * growth, 1.0),
        "defaults": max(0.0, torchs - 1.0),
        "defaults/null": max(0.0, 1e4 * torchs - 1.0),
        "adamw-d": apart(run(short=False)[0], transcribed(rate)),
        "adamw-d/null": apart(run(short=False)[0], transcribed(1.0)),
        "short run": apart(run(short=True)[1], hundred),
        "short run/null": apart(0.99999**steps, hundred),
    }
