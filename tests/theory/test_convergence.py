"""Theorems 2 and 3 of the analysis of AdamW on problems whose constants are known exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from halflife.schedules import exponential
from halflife.theory.convergence import (
    Decaying,
    Problem,
    Steady,
    decay_shrinkage,
    slowest_decay_factor,
)
from halflife.theory.stagewise import AdamWStep, adamw

DOUBLE = torch.float64


@dataclass(frozen=True)
class LogCosh:
    """F(x) = sum log cosh x_j, and noise that is uniform in [-s, s]: everything is known.

    grad F = tanh x, so L = 1, c = 1 + s, sigma^2 = d s^2 / 3. Rows are independent replicas.
    """

    size: float
    start: float = 1.0
    dimension: int = 3

    def problem(self, delta: float, weight_decay: float = 0.0) -> Problem:
        return Problem(
            smoothness=1.0,
            gradient_bound=1.0 + self.size,
            noise=self.size * math.sqrt(self.dimension / 3),
            gap=self.dimension * math.log(math.cosh(self.start)),
            delta=delta,
            weight_decay=weight_decay,
            initial_norm=self.start * math.sqrt(self.dimension),
        )

    def grad(self, x: Tensor) -> Tensor:
        return x.tanh() + self.size * (2 * torch.rand_like(x) - 1)

    def x0(self, replicas: int) -> Tensor:
        return torch.full((replicas, self.dimension), self.start, dtype=DOUBLE)


def norms(x: Tensor) -> float:
    """Mean over replicas of the squared norm."""
    return x.square().sum(-1).mean().item()


def means(steps: Iterator[AdamWStep]) -> tuple[float, float, float]:
    """Means over a run: |grad F_k|^2, |v (x_k - x_{k+1})|^2 / lr^2, |m_k - grad F|^2."""
    gradient = movement = momentum = 0.0
    count = 0
    for s in steps:
        count += 1
        gradient += norms(s.x.tanh() + s.weight_decay * s.scale * s.x)
        movement += norms(s.scale * (s.x - s.next_x)) / s.lr**2
        momentum += norms(s.momentum - s.x.tanh())
    return gradient / count, movement / count, momentum / count


@pytest.mark.parametrize(
    ("size", "accuracy", "weight_decay"),
    [(0.5, 0.7, 0.0), (0.5, 0.7, 0.2), (0.5, 0.5, 1.0), (0.0, 0.1, 0.3), (1.5, 1.4, 0.1)],
)
def test_theorem_2(size: float, accuracy: float, weight_decay: float) -> None:
    task, delta = LogCosh(size), 1.0
    problem = task.problem(delta, weight_decay)
    constants = Steady(problem, accuracy)
    beta2 = 0.1
    mu = decay_shrinkage(beta2=beta2, gradient_bound=problem.gradient_bound, delta=delta)
    gradient, movement, momentum = means(
        adamw(
            task.grad,
            task.x0(30),
            steps=constants.steps,
            lr=constants.lr,
            beta1=constants.beta1,
            beta2=beta2,
            delta=delta,
            weight_decay=lambda k: weight_decay * (1 - mu) ** k,
        )
    )
    assert gradient <= accuracy**2
    assert movement <= 4 * accuracy**2
    assert momentum <= 8 * accuracy**2


@pytest.mark.parametrize(("gap", "dominant"), [(0.01, 1), (0.7, 0)])
def test_theorem_2_constants_are_the_published_ones_at_small_accuracy(
    gap: float, dominant: int
) -> None:
    p, accuracy = Problem(2.0, 1.5, 3.0, gap, 0.25, batch=4), 0.01
    constants = Steady(p, accuracy)
    c, delta, b = 1.5**2 + 0.25, 0.25, 4
    lr = delta**1.25 * b * accuracy**2 / (6 * c**0.75 * 9.0 * 2.0)
    beta1 = delta**0.5 * b * accuracy**2 / (3 * c**0.5 * 9.0)
    assert constants.lr == pytest.approx(lr, rel=1e-12)
    assert constants.beta1 == pytest.approx(beta1, rel=1e-12)
    first = 6 * c**0.5 * gap / (lr * accuracy**2)
    second = 3 * c**0.5 * 9.0 / (delta**0.5 * beta1 * b * accuracy**2)
    assert constants.steps == pytest.approx((first, second)[dominant], rel=1e-9)
    assert constants.steps >= max(first, second) * (1 - 1e-12)


def test_without_the_supplements_limit_on_lr_theorem_2_diverges() -> None:
    """Its lr <= delta^1.25 b e^2 / (6 c2^1.5 sigma^2 L) is no limit where there is little noise."""
    task, accuracy = LogCosh(0.01), 0.5
    problem = task.problem(1.0)
    published = accuracy**2 / (6 * problem.c2**1.5 * problem.noise**2)
    constants = Steady(problem, accuracy)
    assert published > 200 * constants.lr
    lrs = (published, constants.lr)
    found = [
        means(adamw(task.grad, task.x0(5), steps=200, lr=lr, beta1=1.0, beta2=0.1, delta=1.0))[0]
        for lr in lrs
    ]
    assert found[0] > 10 * accuracy**2
    assert found[1] <= accuracy**2


def test_the_main_texts_bound_on_the_movement_is_false() -> None:
    """A slope of e / sqrt(6) down to a rounded minimum, no noise: six times lr^2 e^2 / 4."""
    accuracy, delta, gap = 0.1, 0.01, 0.1
    slope = accuracy / math.sqrt(6)
    problem = Problem(1.0, slope, 0.0, gap, delta)
    constants = Steady(problem, accuracy)
    x0 = torch.tensor([gap / slope + 0.5 * slope], dtype=DOUBLE)  # where F - min F is the gap
    total = supplement = 0.0
    for s in adamw(
        lambda x: x.clamp(-slope, slope),
        x0,
        steps=constants.steps,
        lr=constants.lr,
        beta1=constants.beta1,
        beta2=0.001,
        delta=delta,
    ):
        movement = s.x - s.next_x
        total += (s.scale * movement**2).sum().item() / constants.steps
        supplement += (s.scale * movement).square().sum().item() / constants.steps
    lr = constants.lr
    assert total > 5 * lr**2 * accuracy**2 / 4
    assert supplement <= 4 * lr**2 * accuracy**2


def test_constants_respect_the_limits_of_the_proof() -> None:
    noisy, calm = LogCosh(1.0).problem(0.1, 0.5), LogCosh(0.0).problem(0.1, 0.5)
    for problem in (noisy, calm):
        for accuracy in (0.1, 1.0, 100.0):
            constants = Steady(problem, accuracy)
            assert 0 < constants.beta1 <= 1
            assert constants.lr <= problem.ratio * constants.beta1
            assert constants.lr <= problem.c1**2 / (2 * problem.c2 * (1 + 0.5 * problem.c1))
            assert constants.lr * problem.weight_decay <= 0.5
    assert Steady(calm, 0.1).beta1 == 1.0


def test_batches_and_the_decays_share_of_the_gap() -> None:
    problem = Problem(1.0, 1.0, 2.0, 1.0, 3.0, weight_decay=0.5, initial_norm=2.0)
    assert problem.first_gap == 1.0 + 0.25 * 2.0 * 4.0
    assert problem.variance == 4.0
    four = replace(problem, batch=4)
    assert four.variance == 1.0
    assert Steady(four, 0.1).beta1 == pytest.approx(4 * Steady(problem, 0.1).beta1)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_theorem_3(weight_decay: float) -> None:
    task, delta, accuracy, beta2 = LogCosh(0.3, start=2.0), 1.0, 0.9, 0.1
    schedule = Decaying(task.problem(delta, weight_decay))
    for goal in (2.0, 1.3, 0.5, 0.01, accuracy):
        steps = schedule.steps(goal)
        assert schedule.bound(steps) <= goal**2 < schedule.bound(steps - 1)
    factor = slowest_decay_factor(beta2 * 1.3**2 / delta)
    gradient, _, _ = means(
        adamw(
            task.grad,
            task.x0(30),
            steps=steps,
            lr=schedule.lr,
            beta1=schedule.beta1,
            beta2=beta2,
            delta=delta,
            weight_decay=lambda k: weight_decay * factor**k,
        )
    )
    assert gradient <= accuracy**2


def test_theorem_3_constants() -> None:
    """The published schedules, where the limits they lack do not bind; gamma > 1 starts at 1."""
    problem = Problem(2.0, 1.5, 0.5, 3.0, 0.25)
    schedule = Decaying(problem)
    gamma = 1.5**0.25 * 2**0.5 * 3**0.5 / (0.25**0.125 * 0.5)
    assert schedule.gamma == pytest.approx(gamma, rel=1e-12)
    c = 1.5**2 + 0.25
    for k in (1000, 5000):
        lr = gamma * 0.25**0.75 / (2 * c**0.25 * 2.0 * math.sqrt(k + 1))
        assert schedule.lr(k) == pytest.approx(lr, rel=1e-12)
        assert schedule.beta1(k) == pytest.approx(gamma / math.sqrt(k + 1), rel=1e-12)
    assert gamma > 5
    assert schedule.beta1(0) == 1.0
    assert schedule.lr(0) == problem.lr_limit
    assert Decaying(Problem(2.0, 1.5, 100.0, 3.0, 0.25)).gamma == 1.0


def test_shrinkage_is_that_of_the_schedule() -> None:
    mu = decay_shrinkage(beta2=0.001, gradient_bound=2.0, delta=0.01)
    assert mu == pytest.approx(0.4, rel=1e-12)
    curve = exponential.theorem(b2=0.001, c_inf=2.0, delta=0.01)
    assert curve(7) == pytest.approx((1 - mu) ** 7, rel=1e-12)
    floored = decay_shrinkage(beta2=0.001, gradient_bound=2.0, delta=0.01, gradient_floor=0.3)
    assert floored == pytest.approx(0.04, rel=1e-12)  # Lemma 1


def test_what_the_shrinkage_is_for() -> None:
    """lambda_k v_k never grows, for 1 - mu and for the slower 1 / sqrt(1 + mu), which is tight."""
    beta2, delta, bound = 0.1, 0.3, 1.0
    mu = decay_shrinkage(beta2=beta2, gradient_bound=bound, delta=delta)
    slowest = slowest_decay_factor(mu)
    assert 1 - mu < slowest < 1

    def growth(gradients: Tensor, factor: float) -> float:
        met = iter(gradients)
        x = torch.zeros(gradients.shape[1], dtype=DOUBLE)
        steps = list(
            adamw(
                lambda x: next(met),
                x,
                steps=len(gradients),
                lr=1e-3,
                beta1=0.1,
                beta2=beta2,
                delta=delta,
            )
        )
        ratios = [b.scale / a.scale * factor for a, b in itertools.pairwise(steps)]
        return max(r.max().item() for r in ratios)

    random = (2 * torch.rand(200, 50, dtype=DOUBLE) - 1).sign() * torch.rand(200, 1, dtype=DOUBLE)
    worst = torch.tensor([[0.0], [bound]], dtype=DOUBLE)
    for gradients in (random, worst):
        assert growth(gradients, slowest) <= 1 + 1e-15
        assert growth(gradients, 1 - mu) < 1
    assert growth(worst, slowest) == pytest.approx(1.0, rel=1e-15)


OK = Problem(1.0, 1.0, 0.0, 1.0, 1.0)
BAD: list[tuple[Callable[[], object], str]] = [
    (
        lambda: decay_shrinkage(beta2=0.001, gradient_bound=1.0, delta=1e-4),
        r"mu = beta2 c\^2 / \(s\^2 \+ delta\) must be below 1, got 10.0; raise delta above 0.001, ",
    ),
    (
        lambda: decay_shrinkage(beta2=1.0, gradient_bound=1.0, delta=1.0),
        "beta2 must be above 0 and below 1, got 1.0; pass 1 - beta_2 of torch",
    ),
    (
        lambda: decay_shrinkage(beta2=0.1, gradient_bound=-1.0, delta=1.0),
        "gradient_bound must be a finite number >= 0, got -1.0; pass a bound",
    ),
    (
        lambda: decay_shrinkage(beta2=0.1, gradient_bound=1.0, delta=0.0),
        "delta must be a finite number > 0, got 0.0; pass the constant",
    ),
    (
        lambda: decay_shrinkage(beta2=0.1, gradient_bound=1.0, delta=1.0, gradient_floor=-1.0),
        "gradient_floor must be a finite number >= 0, got -1.0; pass 0 if unknown",
    ),
    (lambda: slowest_decay_factor(-0.1), "mu must be a finite number >= 0, got -0.1; pass beta2"),
    (lambda: replace(OK, smoothness=-1.0), "smoothness must be a finite number > 0, got -1.0"),
    (
        lambda: replace(OK, gradient_bound=0.0),
        "gradient_bound must be a finite number > 0, got 0.0",
    ),
    (lambda: replace(OK, noise=-1.0), "noise must be a finite number >= 0, got -1.0; pass a stand"),
    (lambda: replace(OK, gap=math.nan), "gap must be a finite number >= 0, got nan; pass F"),
    (lambda: replace(OK, delta=0.0), "delta must be a finite number > 0, got 0.0; pass the const"),
    (lambda: replace(OK, weight_decay=-0.1), "weight_decay must be a finite number >= 0, got -0.1"),
    (lambda: replace(OK, initial_norm=-1.0), "initial_norm must be a finite number >= 0, got -1.0"),
    (lambda: replace(OK, batch=0), "batch must be an integer >= 1, got 0; pass samples per grad"),
    (lambda: Steady(OK, 0.0), "accuracy must be a finite number > 0, got 0.0; pass a gradient"),
    (lambda: Decaying(OK), "problem.noise must be a finite number > 0, got 0.0; use Steady"),
    (
        lambda: Decaying(replace(OK, noise=1.0)).steps(-1.0),
        "accuracy must be a finite number > 0, got -1.0; pass a gradient norm",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
