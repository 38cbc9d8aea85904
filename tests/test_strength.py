"""Strengths: what they mean under every rule, what a trained optimizer then does, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import cases
import halflife
from cases import RuleCase
from halflife import (
    Fraction,
    HalfLife,
    Normalized,
    Rotation,
    TargetRMS,
    Timescale,
    TotalDecay,
    describe,
    schedules,
)

by_id: Any = {"ids": lambda case: case.id}
FRACTIONAL = cases.removing_a_fraction()


def decayed_weight(steps: int, lrs: list[float] | None = None, **arguments: Any) -> float:
    """A weight of 1 after steps with nothing but decay."""
    w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = halflife.AdamW([w], **arguments)
    w.grad = torch.zeros_like(w)
    for t in range(steps):
        if lrs:
            optimizer.param_groups[0]["lr"] = lrs[t]
        optimizer.step()
    return w.item()


@pytest.mark.parametrize("rule", FRACTIONAL, **by_id)
def test_half_is_left_after_a_half_life(rule: RuleCase) -> None:
    left = decayed_weight(40, lr=0.03, weight_decay=HalfLife(steps=40), decay=rule.rule)
    assert left == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("rule", FRACTIONAL, **by_id)
def test_an_eth_is_left_after_a_timescale(rule: RuleCase) -> None:
    left = decayed_weight(1000, lr=0.03, weight_decay=Timescale(steps=1000), decay=rule.rule)
    assert left == pytest.approx((1 - 1e-3) ** 1000, rel=1e-10)
    epochs = Timescale(epochs=4, steps_per_epoch=250)
    assert epochs.total_steps == 1000


@pytest.mark.parametrize("rule", FRACTIONAL, **by_id)
@pytest.mark.parametrize("name", cases.schedules())
def test_total_decay_is_the_sum_over_the_schedule(rule: RuleCase, name: str) -> None:
    lrs = cases.schedules()[name]
    total = TotalDecay(0.8, schedule=[lr / cases.PEAK for lr in lrs])
    w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    arguments = {"lr": cases.PEAK, "weight_decay": total, "decay": rule.rule}
    optimizer = halflife.AdamW([w], **arguments)
    w.grad = torch.zeros_like(w)
    fractions = []
    for lr in lrs:
        before = w.item()
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        fractions.append(1 - w.item() / before)
    assert math.fsum(fractions) == pytest.approx(0.8, rel=1e-9)


def test_total_decay_takes_a_curve() -> None:
    curve = schedules.cosine(100)
    by_curve = TotalDecay(2.0, schedule=curve, steps=100)
    multipliers = [0.5 * (1 + math.cos(math.pi * t / 100)) for t in range(100)]
    by_hand = TotalDecay(2.0, schedule=multipliers)
    lr = {"lr": 0.1}
    a = halflife.AdamW([torch.zeros(1, requires_grad=True)], weight_decay=by_curve, **lr)
    b = halflife.AdamW([torch.zeros(1, requires_grad=True)], weight_decay=by_hand, **lr)
    assert a.param_groups[0]["weight_decay"] == pytest.approx(b.param_groups[0]["weight_decay"])


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_target_rms_is_reached_in_training_on_noise(beta1: float) -> None:
    """Adam on white-noise gradients is the random walk of the theory; 3 % as for diagnostics."""
    torch.manual_seed(0)
    target, lr = 0.05, 1e-2
    w = torch.nn.Parameter(torch.zeros(4000))
    optimizer = halflife.AdamW(
        [w], lr=lr, betas=(beta1, 0.999), weight_decay=TargetRMS(target), decay="corrected"
    )
    squares = []
    for t in range(900):
        w.grad = torch.randn_like(w)
        optimizer.step()
        if t > 300:
            squares.append(w.detach().square().mean().item())
    assert math.sqrt(np.mean(squares)) == pytest.approx(target, rel=0.03)


def test_corrected_holds_the_target_rms_over_a_schedule_and_decoupled_does_not() -> None:
    torch.manual_seed(0)
    rms = {}
    for rule in ("corrected", "decoupled"):
        w = torch.nn.Parameter(torch.full((4000,), 0.1))
        optimizer = halflife.AdamW([w], lr=0.01, weight_decay=TargetRMS(0.1), decay=rule)
        for t in range(5000):
            optimizer.param_groups[0]["lr"] = 0.01 * max(0.4, 1 - t / 2000)
            w.grad = torch.randn_like(w)
            optimizer.step()
        rms[rule] = w.detach().square().mean().sqrt().item()
    assert rms["corrected"] == pytest.approx(0.1, rel=0.06)
    assert rms["decoupled"] == pytest.approx(0.1 * math.sqrt(0.4), rel=0.06)


def test_normalized_follows_the_papers_appendix() -> None:
    """B.1: lambda = lambda_norm sqrt(b / (B T)); 391 batches an epoch as in the authors' code."""
    strength = Normalized(0.025, batch_size=128, dataset_size=50_000, epochs=100)
    optimizer = halflife.AdamW(
        [torch.zeros(1, requires_grad=True)], weight_decay=strength, decay="independent"
    )
    expected = 0.025 / math.sqrt(391 * 100)
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(expected, rel=1e-14)
    longer = Normalized(0.025, batch_size=128, dataset_size=50_000, epochs=400)
    base: Any = None
    assert longer.fraction(base) == pytest.approx(strength.fraction(base) / 2)


@pytest.mark.parametrize("rule", FRACTIONAL, **by_id)
@pytest.mark.parametrize(
    ("strength", "entry"),
    [
        (HalfLife(steps=5000), "half_life"),
        (Timescale(steps=5000), "timescale"),
        (TargetRMS(0.03), "rms"),
        (Rotation(1e-3), "rotation"),
        (Fraction(1e-4), "fraction"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_describe_gives_back_what_was_asked_for(strength: Any, entry: str, rule: RuleCase) -> None:
    w = torch.zeros(1, requires_grad=True)
    optimizer = halflife.AdamW([w], lr=3e-4, weight_decay=strength, decay=rule.rule)
    got = getattr(describe(optimizer).groups[0], entry)
    asked = next(v for v in vars(strength).values() if v is not None)
    assert got == pytest.approx(asked, rel=1e-9)


def test_each_group_resolves_the_constructors_strength_at_its_own_peak() -> None:
    params = cases.make_params()
    groups = [
        {"params": params[:1]},
        {"params": params[1:2], "lr": 1e-2},
        {"params": params[2:3], "lr": 1e-4, "peak_lr": 1e-2},
        {"params": params[3:], "weight_decay": HalfLife(steps=10)},
    ]
    optimizer = halflife.AdamW(groups, lr=1e-3, weight_decay=Fraction(1e-4))
    found = [g["weight_decay"] for g in optimizer.param_groups]
    assert found[:3] == pytest.approx([0.1, 0.01, 0.01])
    assert found[3] == pytest.approx((1 - 2**-0.1) / 1e-3)
    optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": 1e-1})
    assert optimizer.param_groups[4]["weight_decay"] == pytest.approx(1e-3)


def test_strengths_work_on_sgd_and_stable_sgd() -> None:
    w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    arguments: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": HalfLife(steps=20)}
    optimizer = halflife.SGD([w], decay="stable", **arguments)
    w.grad = torch.zeros_like(w)
    for _ in range(20):
        optimizer.step()
    assert w.item() == pytest.approx(0.5, rel=1e-12)


# --- describe ------------------------------------------------------------------------------------


def test_describe_native_torch_optimizers() -> None:
    w = torch.zeros(3, requires_grad=True)
    adamw = describe(torch.optim.AdamW([w], lr=1e-3, weight_decay=0.1)).groups[0]
    assert (adamw.rule, adamw.fraction) == ("decoupled", pytest.approx(1e-4))
    sgd = describe(torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=5e-4)).groups[0]
    assert sgd.fraction == pytest.approx(0.1 * 5e-4 / (1 - 0.9))
    adam = describe(torch.optim.Adam([w], weight_decay=0.1)).groups[0]
    assert adam.fraction is None
    assert "no fraction" in adam.note


def test_describe_stable_on_adam_once_it_has_stepped() -> None:
    w = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = halflife.AdamW([w], lr=1e-2, weight_decay=1e-3, decay="stable")
    assert describe(optimizer).groups[0].fraction is None
    w.grad = torch.full_like(w, 0.5)  # v_hat is its square
    optimizer.step()
    assert describe(optimizer).groups[0].fraction == pytest.approx(1e-2 * 1e-3 / 0.5, rel=1e-12)


def test_description_prints_a_table_and_counts_epochs() -> None:
    w = torch.zeros(10, 10, requires_grad=True)
    groups = [{"params": [w]}, {"params": [torch.zeros(3, requires_grad=True)], "weight_decay": 0}]
    optimizer = halflife.AdamW(groups, lr=1e-3, weight_decay=HalfLife(epochs=2, steps_per_epoch=50))
    description = describe(optimizer, steps_per_epoch=50)
    text = str(description)
    assert "100 steps = 2 epochs" in text
    assert "never" in text.splitlines()[-1]
    assert description.as_dicts()[0]["half_life_epochs"] == pytest.approx(2)
    assert all(len(line) < 160 for line in text.splitlines())


def test_describe_refuses_what_it_does_not_know() -> None:
    muon = torch.optim.Muon([torch.zeros(2, 2, requires_grad=True)], weight_decay=0.1)
    assert describe(muon).groups[0].rule == "decoupled"
    rprop = torch.optim.Rprop([torch.zeros(2, 2, requires_grad=True)])
    with pytest.raises(TypeError, match=r"native decay of Rprop is no rule of ours .absent"):
        describe(rprop)
    with pytest.raises(ValueError, match="steps_per_epoch=0: must be a positive number"):
        describe(muon, steps_per_epoch=0)
