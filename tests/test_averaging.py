"""Decay as an average: by unrolling, in closed form, and against the published kind of table."""

from __future__ import annotations

import math

import pytest
import torch

import cases
import halflife
from halflife import averaging_of
from halflife.rules.step import Step
from halflife.schedules import constant, cosine, linear, warmup
from halflife.theory.averaging import averaging

STEPS = 20_000
PEAK = 1e-3
TOTAL = 10.0  # peak lr times weight_decay times steps, as in the table below


def wsd(step: int) -> float:
    """Constant, then linear to 0 over the last fifth."""
    return min(1.0, (STEPS - step) / (0.2 * STEPS))


SCHEDULES = {
    "constant": constant(),
    "cosine": cosine(STEPS),
    "linear": linear(STEPS),
    "wsd": wsd,
    "cosine to 10%": cosine(STEPS, final=0.1),
}
# K, share of the initial weights left, n_eff / T, mean position.
TABLE = {
    ("constant", "decoupled"): (10.0, 0.0000, 0.20, 0.90),
    ("constant", "corrected"): (10.0, 0.0000, 0.20, 0.90),
    ("cosine", "decoupled"): (5.0, 0.007, 0.64, 0.54),
    ("cosine", "corrected"): (3.75, 0.023, 0.67, 0.47),
    ("cosine", "constant"): (10.0, 0.000, 0.50, 0.72),
    ("linear", "decoupled"): (5.0, 0.007, 0.70, 0.61),
    ("linear", "corrected"): (3.33, 0.036, 0.79, 0.52),
    ("wsd", "decoupled"): (9.0, 0.0001, 0.33, 0.81),
    ("wsd", "corrected"): (8.67, 0.0002, 0.33, 0.81),
    ("cosine to 10%", "decoupled"): (5.5, 0.004, 0.73, 0.63),
    ("cosine to 10%", "corrected"): (4.04, 0.018, 0.77, 0.54),
}


@pytest.mark.parametrize(("schedule", "rule"), TABLE)
def test_table_of_schedules_and_rules(schedule: str, rule: str) -> None:
    lrs = [PEAK * SCHEDULES[schedule](t) for t in range(STEPS)]
    wd = TOTAL / STEPS if rule == "constant" else TOTAL / STEPS / PEAK
    result = averaging_of(rule, lrs, wd)
    total, survival, share, position = TABLE[schedule, rule]
    assert result.total_decay == pytest.approx(total, rel=2e-3)
    assert result.survival == pytest.approx(survival, abs=6e-4)
    assert result.survival == pytest.approx(math.exp(-result.total_decay), rel=0.01)
    assert result.effective_share == pytest.approx(share, abs=0.006)
    assert result.mean_position == pytest.approx(position, abs=0.006)


RULES = [case.rule for case in cases.removing_a_fraction()]


@pytest.mark.parametrize("rule", [*RULES, halflife.Proximal(halflife.Corrected())], ids=repr)
def test_coefficients_make_the_weights_of_the_optimizer_itself(rule: halflife.DecayRule) -> None:
    """Plain SGD's direction is the gradient, so a run gives back what went into the weights."""
    weight_decay = float(rule.coefficient(0.03, Step(PEAK, PEAK)))
    generator = torch.Generator().manual_seed(0)
    lrs = [PEAK * max(0.05, warmup(5, cosine(40))(t)) for t in range(40)]
    start, *gradients = torch.randn(41, 7, generator=generator, dtype=torch.float64)
    w = torch.nn.Parameter(start.clone())
    optimizer = halflife.SGD([w], PEAK, decay=rule, weight_decay=weight_decay)
    for lr, gradient in zip(lrs, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        w.grad = gradient.clone()
        optimizer.step()
    result = averaging_of(rule, lrs, weight_decay, peak_lr=PEAK)
    expected = result.survival * start - result.coefficients @ torch.stack(gradients)
    torch.testing.assert_close(w.detach(), expected, rtol=1e-13, atol=1e-15)


def test_constant_lr_is_an_exponential_average() -> None:
    d, steps = 0.01, 3000
    result = averaging([d] * steps, [0.5] * steps)
    age = torch.arange(steps, dtype=torch.float64).flip(0)
    torch.testing.assert_close(result.coefficients, 0.5 * (1 - d) ** age)
    assert result.effective_updates == pytest.approx((2 - d) / d, rel=1e-6)  # sums of a^k and a^2k
    assert result.survival == pytest.approx((1 - d) ** steps, rel=1e-12)


def test_without_decay_every_step_counts_by_its_lr() -> None:
    result = averaging([0.0, 0.0], [1.0, 3.0])
    assert result.coefficients.tolist() == [1.0, 3.0]
    assert (result.survival, result.total_decay) == (1.0, 0.0)
    assert result.effective_updates == pytest.approx(16 / 10)
    assert result.mean_position == pytest.approx((0.25 * 1 + 0.75 * 3) / 4)


def test_a_step_that_removes_everything_is_the_first_that_counts() -> None:
    result = averaging([0.1, 1.0, 0.5], [1.0, 1.0, 1.0])
    assert result.coefficients.tolist() == [0.0, 0.5, 1.0]
    assert result.survival == 0.0


def test_tiny_coefficients_do_not_underflow() -> None:
    assert averaging([0.0] * 3, [1e-200] * 3).effective_updates == pytest.approx(3.0)


def test_strengths_mean_what_they_say() -> None:
    lrs = [PEAK * cosine(100)(t) for t in range(100)]
    multipliers = [lr / PEAK for lr in lrs]
    strength = halflife.TotalDecay(2.0, schedule=multipliers)
    assert averaging_of("corrected", lrs, strength).total_decay == pytest.approx(2.0, rel=1e-12)
    half = averaging_of("decoupled", [PEAK] * 50, halflife.HalfLife(steps=50))
    assert half.survival == pytest.approx(0.5, rel=1e-12)


def test_stable_follows_the_effective_rate() -> None:
    lrs, rates = [1e-3, 5e-4], [10.0, 40.0]
    result = averaging_of("stable", lrs, 2.0, effective_rate=rates)
    assert result.total_decay == pytest.approx(2.0 * (1e-2 + 2e-2))
    alike = averaging_of("stable", lrs, 2.0, effective_rate=10.0)
    assert alike.total_decay == pytest.approx(averaging_of("decoupled", lrs, 20.0).total_decay)


ERRORS = [
    (lambda: averaging([0.1], [1.0, 1.0]), "sizes must be 1 numbers, got 2"),
    (lambda: averaging([1.5], [1.0]), r"fractions must be in \[0, 1\], got 1.5"),
    (lambda: averaging([0.5], [-1.0]), "sizes must be >= 0, got -1.0"),
    (lambda: averaging([0.5], [0.0]), "sizes must be not all zero"),
    (lambda: averaging([math.nan], [0.0]), "fractions must be finite numbers"),
    (lambda: averaging([], []), "fractions must be finite numbers"),
    (lambda: averaging_of("l2", [1e-3], 0.1), "rule=L2Regularization"),
    (lambda: averaging_of("cautious", [1e-3], 0.1), "rule=Cautious"),
    (lambda: averaging_of("decoupled", [], 0.1), r"lrs=\[\]"),
    (lambda: averaging_of("decoupled", 1e-3, 0.1), "lrs=0.001: must be a list"),
    (lambda: averaging_of("decoupled", "1", 0.1), "lrs='1': must be a list"),
    (lambda: averaging_of("decoupled", [-1e-3], 0.1), "lrs: -0.001 in it must be"),
    (lambda: averaging_of("decoupled", [True], 0.1), "lrs: True in it must be"),
    (lambda: averaging_of("decoupled", [1e-3], -0.1), "weight_decay=-0.1: must be"),
    (lambda: averaging_of("decoupled", [1e-3], "0.1"), "weight_decay='0.1': must be"),
    (lambda: averaging_of("decoupled", [1e-3], 0.1, peak_lr=0.0), "peak_lr=0.0: must be"),
    (lambda: averaging(["0.1"], [1.0]), r"fractions must be numbers, got \['0.1'\]"),
    (lambda: averaging_of("decoupled", [1e-3, 2.0], 0.6), "got 1.2"),
    (lambda: averaging_of("corrected", [2.0], 0.1, peak_lr=1.0), "above its peak_lr"),
    (lambda: averaging_of("stable", [1e-3], 0.1), "effective rate"),
    (lambda: averaging_of("stable", [1e-3], 0.1, effective_rate=[1.0, 2.0]), "2 numbers for 1"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_refused_with_the_reason(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
