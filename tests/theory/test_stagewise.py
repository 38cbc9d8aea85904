"""AdamW as analysed, against a transcription; stage-wise AdamW, against Theorem 4."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor

from halflife.theory.convergence import Decaying, Problem, Steady
from halflife.theory.stagewise import (
    Stage,
    adamw,
    doubling_stages,
    stagewise_adamw,
    theorem_stages,
)

DOUBLE = torch.float64


def lr(k: int) -> float:
    return 0.1 / math.sqrt(k + 1)


def beta1(k: int) -> float:
    return 0.5 / (k + 1) ** 0.25


def decay(k: int) -> float:
    return 2.0 * 0.9**k


@pytest.mark.parametrize("moments", ["gradient", "zero"])
@pytest.mark.parametrize("l2", [False, True])
def test_algorithm_1_against_a_transcription(
    moments: Literal["gradient", "zero"], l2: bool
) -> None:
    """One coordinate at a time, under schedules for lr, beta_1 and the decay."""
    beta2, delta, noise = 0.2, 0.03, torch.randn(25, 3, dtype=DOUBLE)
    start = torch.randn(3, dtype=DOUBLE)
    met = iter(noise)
    run = list(
        adamw(
            lambda x: x.sin() + next(met),
            start,
            steps=25,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            delta=delta,
            weight_decay=decay,
            moments=moments,
            l2=l2,
        )
    )
    for j in range(3):
        x, m, n = start[j].item(), 0.0, 0.0
        for k, step in enumerate(run):
            g = math.sin(x) + noise[k, j].item() + (decay(k) * x if l2 else 0.0)
            if k == 0 and moments == "gradient":
                m, n = g, g**2
            else:
                m = (1 - beta1(k)) * m + beta1(k) * g
                n = (1 - beta2) * n + beta2 * g**2
            v = math.sqrt(n + delta)
            seen = (step.x[j].item(), step.momentum[j].item(), step.scale[j].item())
            assert seen == pytest.approx((x, m, v), rel=1e-12)
            x = x - (0.0 if l2 else lr(k) * decay(k) * x) - lr(k) * m / v
            assert step.next_x[j].item() == pytest.approx(x, rel=1e-12)
        assert (step.lr, step.weight_decay) == (lr(24), decay(24))
    assert torch.equal(run[0].x, start)


def test_no_gradient_leaves_decay_alone() -> None:
    *_, last = adamw(
        torch.zeros_like,
        torch.ones(2, dtype=DOUBLE),
        steps=10,
        lr=lr,
        beta1=0.1,
        beta2=0.001,
        delta=1e-4,
        weight_decay=decay,
    )
    expected = math.prod(1 - lr(k) * decay(k) for k in range(10))
    assert last.next_x.tolist() == pytest.approx([expected] * 2, rel=1e-14)


NOISE = 0.3
BOWL = Problem(  # F = x^2 / 2 within [-1.2, 1.2], and noise uniform in [-0.3, 0.3]
    smoothness=1.0, gradient_bound=1.5, noise=NOISE / math.sqrt(3), gap=0.5, delta=1.0
)


def bowl(x: Tensor) -> Tensor:
    return x + NOISE * (2 * torch.rand_like(x) - 1)


@pytest.mark.parametrize(("decaying", "count"), [(False, 4), (True, 2)])
def test_every_stage_of_theorem_4_reaches_its_error(decaying: bool, count: int) -> None:
    """In the mean over noise and drawn outputs: one draw alone may be the stage's first point."""
    stages = theorem_stages(BOWL, pl=1.0, stages=count, decaying=decaying)
    start, draws = torch.ones(20, dtype=DOUBLE), 12
    errors = torch.zeros(count, dtype=DOUBLE)
    for _ in range(draws):
        outputs = stagewise_adamw(bowl, start, stages, beta2=0.001, delta=BOWL.delta)
        errors += 0.5 * torch.stack(outputs).square().mean(dim=1) / draws
    for k, error in enumerate(errors.tolist(), start=1):
        assert error <= BOWL.gap / 2**k


def test_theorem_4_constants_are_the_published_ones() -> None:
    problem, pl = Problem(2.0, 1.5, 3.0, 0.7, 0.25, batch=4), 0.5
    c, delta, b = 1.5**2 + 0.25, 0.25, 4
    for k, stage in enumerate(theorem_stages(problem, pl=pl, stages=3), start=1):
        error = 0.7 / 2**k
        lr_k = delta**1.25 * pl * b * error / (12 * c**0.75 * 9.0 * 2.0)
        beta1_k = delta**0.5 * pl * b * error / (6 * c**0.5 * 9.0)
        assert stage.lr == pytest.approx(lr_k, rel=1e-12)
        assert stage.beta1 == pytest.approx(beta1_k, rel=1e-12)
        again = Steady(Problem(2.0, 1.5, 3.0, 2 * error, 0.25, batch=4), (pl * error / 2) ** 0.5)
        assert stage.steps == pytest.approx(again.steps, abs=1)


def test_steps_double_and_with_fresh_moments_quadruple_in_the_end() -> None:
    """The published T_k ~ 1/e_k is what the gap takes; fresh moments' noise takes 1/e_k^2."""
    noisy = Problem(1.0, 1.0, 0.5, 1.0, 3.0)
    steps = [stage.steps for stage in theorem_stages(noisy, pl=1.0, stages=12)]
    assert [b / a for a, b in itertools.pairwise(steps)] == pytest.approx([2.0] * 11, rel=0.01)
    carried = theorem_stages(noisy, pl=1.0, stages=9)
    fresh = theorem_stages(noisy, pl=1.0, stages=9, moments="fresh")
    assert [(s.lr, s.beta1) for s in carried] == [(s.lr, s.beta1) for s in fresh]
    steps = [stage.steps for stage in fresh]
    ratios = [b / a for a, b in itertools.pairwise(steps)]
    assert ratios[:4] == pytest.approx([2.0] * 4, rel=0.01)
    assert ratios[5:] == pytest.approx([4.0] * 3, rel=0.01)
    falling = [stage.steps for stage in theorem_stages(noisy, pl=1.0, stages=9, decaying=True)]
    assert falling[-1] / falling[-2] > 4.0


def test_decaying_stages_start_their_schedules_anew() -> None:
    stages = theorem_stages(BOWL, pl=1.0, stages=2, decaying=True)
    for k, stage in enumerate(stages, start=1):
        schedule = Decaying(Problem(1.0, 1.5, BOWL.noise, 2 * 0.5 / 2**k, 1.0))
        assert callable(stage.lr)
        assert callable(stage.beta1)
        assert [stage.lr(i) for i in (0, 9)] == [schedule.lr(i) for i in (0, 9)]
        assert [stage.beta1(i) for i in (0, 9)] == [schedule.beta1(i) for i in (0, 9)]


@pytest.mark.parametrize("smoothness", [1.0, 7.0])
@pytest.mark.parametrize("noise", [0.0, 0.01, 1.0, 30.0])
def test_carried_moments_never_take_longer_than_the_gap(noise: float, smoothness: float) -> None:
    """Their error by Theorem 2's third claim, 8 accuracy^2 of the stage before, is small enough."""
    problem = Problem(smoothness, 1.5, noise, 2.0, 0.5)
    for k, stage in enumerate(theorem_stages(problem, pl=1.0, stages=8), start=1):
        error = 2.0 / 2**k
        travel = 6 * problem.c2 * 2 * error / (stage.lr * 0.5 * error)
        assert stage.steps == math.ceil(travel) or k == 1


def drawn_errors(
    moments: Literal["carried", "fresh"], first: int = 5, count: int = 9
) -> list[float]:
    """E F / e_k at the ends of stages with Theorem 4's lr and beta_1, and steps that double."""
    theirs = theorem_stages(BOWL, pl=1.0, stages=count)
    stages = [Stage(s.lr, s.beta1, first * 2**k) for k, s in enumerate(theirs)]
    torch.manual_seed(0)
    start, draws, errors = torch.ones(50, dtype=DOUBLE), 8, torch.zeros(count, dtype=DOUBLE)
    for _ in range(draws):
        outputs = stagewise_adamw(bowl, start, stages, beta2=0.001, delta=1.0, moments=moments)
        errors += 0.5 * torch.stack(outputs).square().mean(dim=1) / draws
    return [e / (BOWL.gap / 2**k) for k, e in enumerate(errors.tolist(), start=1)]


def test_t_of_order_one_over_e_holds_with_moments_carried_over() -> None:
    """Few steps, so that it shows soon: carried, the errors keep to e_k; fresh, they leave it."""
    carried, fresh = drawn_errors("carried"), drawn_errors("fresh")
    assert carried[0] == fresh[0]  # one first stage
    assert max(carried[6:]) < 0.1
    assert fresh[6] < fresh[7] < fresh[8]
    assert fresh[8] > 0.5


def test_carried_moments_are_those_of_the_drawn_step() -> None:
    """By hand: the next stage goes on from x, m and n of the step whose point was drawn."""
    kinds = {"beta2": 0.1, "delta": 0.01}
    stages = doubling_stages(0.2, 0.4, 8, stages=3)
    start = torch.tensor([1.0, -2.0], dtype=DOUBLE)
    generator = torch.Generator().manual_seed(1)
    found = stagewise_adamw(
        torch.sin, start, stages, weight_decay=decay, generator=generator, **kinds
    )
    x, moments = start, "gradient"
    for stage, output in zip(stages, found, strict=True):
        settings = {"lr": stage.lr, "beta1": stage.beta1, "weight_decay": decay, **kinds}
        run = list(adamw(torch.sin, x, steps=stage.steps, moments=moments, **settings))
        (step,) = [s for s in run if torch.equal(s.x, output)]
        torch.testing.assert_close(step.square, step.scale**2 - kinds["delta"])
        x, moments = step.x, (step.momentum, step.square)
    assert not torch.equal(
        found[1],
        stagewise_adamw(
            torch.sin,
            start,
            stages,
            weight_decay=decay,
            moments="fresh",
            generator=torch.Generator().manual_seed(1),
            **kinds,
        )[1],
    )


def test_stages_are_fresh_runs_from_the_output_before() -> None:
    """Moments and the decay's schedule start again: the same as a new call for every stage."""
    stages = doubling_stages(0.2, 0.4, 8, stages=3)
    kinds = {"beta2": 0.1, "delta": 0.01}
    x = torch.tensor([1.0, -2.0], dtype=DOUBLE)
    together = stagewise_adamw(
        torch.sin,
        x,
        stages,
        weight_decay=decay,
        moments="fresh",
        generator=torch.Generator().manual_seed(1),
        **kinds,
    )
    generator = torch.Generator().manual_seed(1)
    for stage, output in zip(stages, together, strict=True):
        (x,) = stagewise_adamw(
            torch.sin, x, [stage], weight_decay=decay, generator=generator, **kinds
        )
        assert torch.equal(x, output)


def test_outputs_are_points_where_gradients_were_taken() -> None:
    start, kinds = torch.ones(1, dtype=DOUBLE), {"beta2": 0.1, "delta": 0.01}
    steps = adamw(torch.sin, start, steps=3, lr=lr, beta1=beta1, weight_decay=decay, **kinds)
    visited = {step.x.item() for step in steps}
    stage = Stage(lr, beta1, 3)
    drawn = {
        stagewise_adamw(torch.sin, start, [stage], weight_decay=decay, **kinds)[0].item()
        for _ in range(60)
    }
    assert drawn == visited


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [(0.5, [1 / 3] * 3), (lambda k: (0.6, 0.3, 0.1)[k], [0.6, 0.3, 0.1])],
)
def test_outputs_are_drawn_in_proportion_to_lr(
    schedule: float | Callable[[int], float], shares: list[float]
) -> None:
    generator = torch.Generator().manual_seed(0)
    start, draws = torch.tensor([1.0], dtype=DOUBLE), 3000
    stage = Stage(schedule, 1.0, 3)
    found: dict[float, int] = {}
    for _ in range(draws):
        (x,) = stagewise_adamw(
            torch.clone, start, [stage], beta2=0.1, delta=1.0, generator=generator
        )
        found[x.item()] = found.get(x.item(), 0) + 1
    counts = [found[x] / draws for x in sorted(found, reverse=True)]  # x falls from step to step
    assert counts == pytest.approx(shares, abs=4 * 0.5 / math.sqrt(draws))


def run(**change: object) -> Iterator[object]:
    settings = {"steps": 2, "lr": 0.1, "beta1": 0.1, "beta2": 0.1, "delta": 1.0} | change
    return adamw(torch.sin, torch.ones(2), **settings)  # type: ignore[arg-type]


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: list(run(steps=0)), "adamw: steps must be an integer >= 1, got 0; pass the number"),
    (lambda: list(run(delta=0.0)), "adamw: delta must be a finite number > 0, got 0.0; pass the"),
    (lambda: list(run(beta2=1.1)), r"adamw: beta2 must be in \[0, 1\], got 1.1; pass 1 - beta of"),
    (lambda: list(run(moments="none")), "adamw: moments must be one of .* got 'none'; pass one of"),
    (
        lambda: stagewise_adamw(torch.sin, torch.ones(1), [], beta2=0.1, delta=1.0, moments="kept"),
        "stagewise_adamw: moments must be one of .* got 'kept'; pass one of them",
    ),
    (
        lambda: theorem_stages(BOWL, pl=1.0, stages=1, moments="kept"),
        "theorem_stages: moments must be one of .* got 'kept'; pass one of them",
    ),
    (
        lambda: Steady(BOWL, 1.0, moment_error=-1.0),
        "moment_error must be a finite number >= 0, got",
    ),
    (lambda: list(run(lr=lambda k: -k)), "adamw: lr at step 0 must be a finite number > 0, got 0"),
    (lambda: list(run(beta1=lambda k: 1 + k)), r"beta1 at step 1 must be in \[0, 1\], got 2; pass"),
    (lambda: list(run(weight_decay=-1.0)), "weight_decay at step 0 must be a finite number >= 0, "),
    (lambda: Stage(0.1, 0.1, 0), "Stage: steps must be an integer >= 1, got 0; pass the number"),
    (lambda: doubling_stages(0.0, 0.1, 5, stages=1), "lr must be a finite number > 0, got 0.0; "),
    (lambda: doubling_stages(0.1, 1.5, 5, stages=1), r"beta1 must be in \[0, 1\], got 1.5; pass"),
    (lambda: doubling_stages(0.1, 0.1, 0, stages=1), "steps must be an integer >= 1, got 0; pass"),
    (lambda: doubling_stages(0.1, 0.1, 5, stages=0), "stages must be an integer >= 1, got 0; pass"),
    (
        lambda: theorem_stages(BOWL, pl=0.0, stages=1),
        r"pl must be in \(0, smoothness = 1\], got 0.0",
    ),
    (lambda: theorem_stages(BOWL, pl=2.0, stages=1), "got 2.0; no smooth function has more"),
    (lambda: theorem_stages(BOWL, pl=1.0, stages=0), "stages must be an integer >= 1, got 0; pass"),
    (
        lambda: theorem_stages(Problem(1.0, 1.0, 0.0, 0.0, 1.0), pl=1.0, stages=1),
        "gap of the problem must be a finite number > 0, got 0.0; at the minimum there is nothing",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
