"""Curves against their formulas; warm restarts and normalized decay."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curves import CURVES, RESTARTS, every_curve
from halflife.schedules import (
    Curve,
    Cycle,
    cosine,
    cosine_warm_restarts,
    exponential,
    linear,
    log_time,
    multistep,
    normalized_decay,
    warmup,
)

# Curves against their definitions


@given(st.integers(1, 500), st.integers(0, 1000), st.floats(0, 20), st.floats(0, 20))
def test_transitions_follow_their_formulas(total: int, t: int, start: float, final: float) -> None:
    x = min(t / total, 1.0)
    line = linear(total, final, start=start)
    half = cosine(total, final, start=start)
    assert line(t) == pytest.approx(start + (final - start) * x, abs=1e-12)
    expected = final + (start - final) * (1 + math.cos(math.pi * x)) / 2
    assert half(t) == pytest.approx(expected, abs=1e-12)
    for curve in (line, half):
        assert curve(0) == start
        assert curve(total) == curve(total + t) == final


@given(st.integers(1, 500), st.floats(0, 1))
def test_a_falling_transition_never_exceeds_its_start(total: int, final: float) -> None:
    for curve in (linear(total, final), cosine(total, final)):
        assert max(curve(t) for t in range(total + 1)) == 1.0


def test_increasing_cosine_mirrors_the_decreasing_one() -> None:
    for t in range(9):
        assert cosine(8, 1.0, start=0.0)(t) == pytest.approx(cosine(8)(8 - t), abs=1e-15)
        assert cosine(8)(t) + cosine(8)(8 - t) == pytest.approx(1.0, abs=1e-15)


def test_multistep_drops_at_each_milestone() -> None:
    curve = multistep([80, 160])
    assert [curve(t) for t in (0, 79, 80, 159, 160, 999)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-15
    )
    assert multistep([])(5) == 1.0


def test_exponential_is_a_power_of_its_rate() -> None:
    product = 1.0
    for t in range(50):
        assert exponential(0.9)(t) == pytest.approx(product, rel=1e-13)
        product *= 0.9
    assert exponential.reaching(0.29, 1000)(1000) == pytest.approx(0.29, rel=1e-12)
    # The published rate and run lengths: 100 epochs of ImageNet at batch size 1024.
    assert exponential(0.99999)(125_100) == pytest.approx(math.exp(-1.251), rel=1e-5)


def test_theorem_is_a_power_of_one_minus_mu() -> None:
    curve = exponential.theorem(b2=0.001, c_inf=2.0, delta=0.5)
    assert curve(100) == pytest.approx((1 - 0.008) ** 100, rel=1e-12)
    assert exponential.theorem(b2=0.001, c_inf=0.0, delta=1e-4) == exponential(1.0)


@given(st.floats(0.5, 1e4), st.integers(0, 10**6))
def test_log_time_halves_first_at_t0(t0: float, t: int) -> None:
    assert log_time(t0)(t) == pytest.approx(t0 / (t0 + t), rel=1e-12)


@given(st.integers(0, 20), st.floats(0, 1), st.integers(0, 60))
def test_warmup_rises_linearly_then_hands_over(steps: int, start: float, t: int) -> None:
    then = cosine(30, final=0.5, start=2.0)
    if t < steps:
        expected = 2.0 * (start + (1 - start) * t / steps)
        assert warmup(steps, then, start=start)(t) == pytest.approx(expected, abs=1e-12)
    else:
        assert warmup(steps, then, start=start)(t) == then(t - steps)


@every_curve
def test_curves_are_values(curve: Curve) -> None:
    assert pickle.loads(pickle.dumps(curve)) == curve == copy.deepcopy(curve)
    assert hash(curve) == hash(copy.deepcopy(curve))
    assert curve(torch.tensor(4).item()) == curve(4)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        curve.total = 3  # type: ignore[attr-defined]


def test_all_curves_differ() -> None:
    traces = {tuple(curve(t) for t in range(30)) for curve in CURVES}
    assert len(traces) == len(CURVES)


# Warm restarts


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 7), st.integers(0, 400))
def test_cycles_partition_the_steps(t_0: int, t_mult: int, per_epoch: int, t: int) -> None:
    cycle = cosine_warm_restarts(t_0, t_mult, steps_per_epoch=per_epoch).cycle(t)
    lengths = [t_0 * t_mult**i * per_epoch for i in range(cycle.number + 1)]
    assert cycle.steps == lengths[-1]
    assert 0 <= cycle.position < cycle.steps
    assert sum(lengths[:-1]) + cycle.position == t


def test_restarts_happen_exactly_at_the_published_epochs() -> None:
    per_epoch = 391
    curve = cosine_warm_restarts(100, 2, steps_per_epoch=per_epoch)
    ends = curve.snapshot_epochs(1500)
    assert ends == [100, 300, 700, 1500]
    assert curve.snapshot_epochs(1499) == [100, 300, 700]
    assert curve.snapshot_epochs(99) == []
    for epoch, cycle_epochs in zip(ends, (100, 200, 400, 800), strict=True):
        last = epoch * per_epoch - 1
        steps = cycle_epochs * per_epoch
        # cos is flat: one step short of the end the multiplier is (pi / 2N)^2 to first order.
        assert curve(last) == pytest.approx((math.pi / (2 * steps)) ** 2, rel=1e-6)
        assert curve(last + 1) == 1.0


def test_snapshots_of_equal_cycles_and_of_the_stable_decay_paper() -> None:
    assert cosine_warm_restarts(3, steps_per_epoch=1).snapshot_epochs(10) == [3, 6, 9]
    assert cosine_warm_restarts(14, 2, steps_per_epoch=391).snapshot_epochs(210) == [
        14,
        42,
        98,
        210,
    ]


def test_multipliers_per_cycle_and_the_last_one_stays() -> None:
    curve = cosine_warm_restarts(2, steps_per_epoch=2, eta_max=[1.0, 0.5], eta_min=(0.2, 0.1, 0.0))
    assert [curve(4 * i) for i in range(4)] == [1.0, 0.5, 0.5, 0.5]
    assert [curve(4 * i + 2) for i in range(4)] == pytest.approx([0.6, 0.3, 0.25, 0.25])


def test_normalized_decay_uses_the_length_of_the_current_cycle() -> None:
    lambda_norm, batch, examples, per_epoch = 0.025, 128, 50_048, 391
    restarts = cosine_warm_restarts(100, 2, steps_per_epoch=per_epoch)
    curve = normalized_decay(restarts)
    relative = normalized_decay(restarts, base="first_cycle")
    for cycle, epochs in enumerate((100, 200, 400, 800)):
        first, last = (sum(100 * 2**i for i in range(cycle)) * per_epoch, 0)
        last = first + epochs * per_epoch - 1
        expected = lambda_norm * math.sqrt(batch / (examples * epochs))
        assert lambda_norm * curve(first) == pytest.approx(expected, rel=1e-12)
        assert curve(last) == curve(first)
        assert relative(first) == pytest.approx(2 ** (-cycle / 2), rel=1e-12)
        assert curve(last + 1) / curve(last) == pytest.approx(1 / math.sqrt(2), rel=1e-12)


def test_normalized_decay_of_the_paper_without_restarts() -> None:
    # Loshchilov & Hutter, appendix B.1: 1800 epochs of CIFAR at batch size 128 and 0.025.
    whole_run = cosine_warm_restarts(1800, steps_per_epoch=391)
    assert 0.025 * normalized_decay(whole_run)(0) == pytest.approx(3.0e-5, rel=0.01)


def test_cycle_is_a_readable_triple() -> None:
    assert RESTARTS.cycle(6) == Cycle(number=1, position=0, steps=12)
