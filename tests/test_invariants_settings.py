"""Models, schedules and strengths drawn by Hypothesis: partitions, closed forms, round trips."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import cases
import halflife
from halflife import schedules
from halflife.bases.noise import Base
from halflife.groups.policies import POLICIES
from halflife.rules.contract import as_rule
from halflife.rules.step import Step
from halflife.theory import equilibrium
from strategies import examples

# --- 7: policies partition the parameters --------------------------------------------------------


class Gains(nn.Module):
    """Parameters of its own, one of them a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.gain = nn.Parameter(torch.ones(3))
        self.table = nn.Parameter(torch.ones(3, 4))


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(4, 4),
    "no bias": lambda: nn.Linear(4, 4, bias=False),
    "conv": lambda: nn.Conv2d(2, 3, 3),
    "norm": lambda: nn.LayerNorm(4),
    "batch norm": lambda: nn.BatchNorm1d(4),
    "embedding": lambda: nn.Embedding(4, 4),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "gains": Gains,
    "nothing": nn.ReLU,
}


@st.composite
def models(draw: Any) -> nn.Module:
    """Nested layers; some weights frozen, some tied, some layers used twice."""
    layers: list[nn.Module] = [
        LAYERS[name]() for name in draw(st.lists(st.sampled_from(list(LAYERS)), min_size=1))
    ]
    if draw(st.booleans()):
        layers.append(layers[0])
    inner = draw(st.integers(0, len(layers)))
    model = nn.Sequential(nn.Sequential(*layers[:inner]), *layers[inner:])
    tables = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Embedding))]
    if len(tables) > 1 and draw(st.booleans()):
        tables[-1].weight = tables[0].weight
    for p in model.parameters():
        p.requires_grad_(draw(st.integers(0, 4)) > 0)
    return model


@examples(60)
@given(models(), st.sampled_from(list(POLICIES)), st.booleans(), st.data())
def test_every_parameter_is_in_one_group(
    model: nn.Module, policy: str, named: bool, data: Any
) -> None:
    wanted = [p for p in model.parameters() if p.requires_grad]
    assume(wanted)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=2))
    overrides = {name: {"weight_decay": data.draw(st.sampled_from([0.0, 0.3]))} for name in chosen}
    groups = halflife.param_groups(model, policy, overrides, weight_decay=0.1, named=named)
    members = [[p[1] if named else p for p in group["params"]] for group in groups]
    found = [id(p) for own in members for p in own]
    assert sorted(found) == sorted(map(id, wanted))
    assert all(members)  # no empty group
    settings = [{k: v for k, v in group.items() if k != "params"} for group in groups]
    assert all(a != b for i, a in enumerate(settings) for b in settings[:i])
    by_name = dict(model.named_parameters(remove_duplicate=False))
    assert {id(by_name[d.name]) for d in groups.decisions} == set(map(id, model.parameters()))
    assert len(groups.decisions) == len(list(model.parameters()))
    for d in groups.decisions:
        p = by_name[d.name]
        assert all(by_name[name] is p for name in d.tied_names)
        assert (d.group is None) == (not p.requires_grad)
        if d.group is not None:
            assert any(p is q for q in members[d.group])
            assert d.decays == (groups[d.group]["weight_decay"] != 0)
        if d.group is not None and d.name not in overrides and policy in ("all", "none"):
            assert d.decays == (policy == "all")
    for name, override in overrides.items():
        assert (
            groups[next(d.group for d in groups.decisions if d.name == name)]["weight_decay"]
            == (override["weight_decay"])
        )
    torch.optim.SGD(groups, lr=0.1)  # accepted: nothing twice


# --- 8: schedules --------------------------------------------------------------------------------

small = st.integers(1, 12)
multiple = st.floats(0.0, 3.0)
Closed = tuple[Any, Callable[[int], float]]


@st.composite
def curves(draw: Any) -> Closed:
    """A curve of the package and its closed form, written here."""
    total, final, start = draw(small), draw(multiple), draw(multiple)
    kind = draw(
        st.sampled_from(["linear", "cosine", "multistep", "exponential", "log", "restarts"])
    )
    if kind == "linear":
        curve: Any = schedules.linear(total, final, start=start)
        return curve, lambda t: start + (final - start) * min(t / total, 1)
    if kind == "cosine":
        return schedules.cosine(
            total, final, start=start
        ), lambda t: final + (start - final) * (1 + math.cos(math.pi * min(t / total, 1))) / 2
    if kind == "multistep":
        stones = sorted(draw(st.sets(small, min_size=1)))
        return schedules.multistep(stones, gamma=0.5), lambda t: 0.5 ** sum(m <= t for m in stones)
    if kind == "exponential":
        rate = draw(st.floats(0.5, 1.0))
        return schedules.exponential(rate), lambda t: math.exp(t * math.log(rate))
    if kind == "log":
        return schedules.log_time(total), lambda t: total / (total + t)
    factor, per = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def restarts(t: int) -> float:
        length = total * per
        while t >= length:
            t, length = t - length, length * factor
        return final + (start - final) * (1 + math.cos(math.pi * t / length)) / 2

    options = {"steps_per_epoch": per, "eta_max": start, "eta_min": final}
    return schedules.cosine_warm_restarts(total, factor, **options), restarts


@st.composite
def warmed(draw: Any) -> Closed:
    (curve, closed), steps = draw(curves()), draw(st.integers(0, 6))
    start = draw(st.floats(0.0, 1.0))

    def form(t: int) -> float:
        if t >= steps:
            return closed(t - steps)
        return (start + (1 - start) * t / steps) * closed(0)

    return schedules.warmup(steps, curve, start=start), form


def make(kind: str, curve: Any, other: Any) -> tuple[Any, Any]:
    groups = [
        {"params": [torch.zeros(1, requires_grad=True)], "lr": lr, "weight_decay": wd}
        for lr, wd in ((0.5, 0.25), (0.125, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups)
    if kind == "lr":
        return optimizer, schedules.CurveLR(optimizer, curve)
    if kind == "weight_decay":
        return optimizer, schedules.WeightDecayScheduler(optimizer, curve)
    return optimizer, schedules.JointScheduler(optimizer, lr=curve, weight_decay=other)


def entries(optimizer: Any) -> list[tuple[float, float]]:
    return [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("kind", ["lr", "weight_decay", "both"])
def test_a_schedule_is_its_closed_form_and_resumes(kind: str) -> None:
    @examples(40)
    @given(warmed(), warmed(), st.integers(0, 20))
    def check(first: Closed, second: Closed, stop: int) -> None:
        lr_form = first[1] if kind != "weight_decay" else lambda t: 1.0
        wd_form = {"lr": lambda t: 1.0, "weight_decay": first[1], "both": second[1]}[kind]
        optimizer, scheduler = make(kind, first[0], second[0])
        resumed = None
        for t in range(25):
            expected = [(0.5 * lr_form(t), 0.25 * wd_form(t)), (0.125 * lr_form(t), 0.0)]
            for got, wanted in zip(entries(optimizer), expected, strict=True):
                assert got == pytest.approx(wanted, rel=1e-12, abs=1e-14)
            if resumed is not None:
                assert entries(resumed[0]) == entries(optimizer)
            if t == stop:
                file = io.BytesIO()
                torch.save([optimizer.state_dict(), scheduler.state_dict()], file)
                file.seek(0)
                resumed = make(kind, first[0], second[0])
                for part, saved in zip(resumed, torch.load(file), strict=True):
                    part.load_state_dict(saved)
                assert entries(resumed[0]) == entries(optimizer)
            optimizer.step()
            scheduler.step()
            if resumed is not None:
                resumed[0].step()
                resumed[1].step()

    check()


@examples(40)
@given(small, st.integers(1, 3), st.integers(1, 3), st.integers(0, 80))
def test_normalized_decay_is_one_over_the_root_of_its_cycle(
    first: int, factor: int, per: int, t: int
) -> None:
    restarts = schedules.cosine_warm_restarts(first, factor, steps_per_epoch=per)
    length, end = first * per, first * per
    while t >= end:
        length *= factor
        end += length
    norm = schedules.normalized_decay(restarts)
    relative = schedules.normalized_decay(restarts, base="first_cycle")
    assert norm(t) == pytest.approx(length**-0.5, rel=1e-14)
    assert relative(t) == pytest.approx((first * per / length) ** 0.5, rel=1e-14)


# --- 8: strengths --------------------------------------------------------------------------------

REMOVING = ["decoupled", "independent", "constant", "corrected", "stable", "proximal"]
rules = st.sampled_from([*REMOVING, "cautious", "anchored", "huber", "norm_control"]).map(as_rule)
positive = st.floats(1e-6, 10.0)


@examples(60)
@given(rules, positive, st.floats(1e-3, 1.0), st.floats(1e-9, 0.9), positive)
def test_coefficient_and_fraction_are_inverse(
    rule: Any, peak: float, multiplier: float, fraction: float, rate: float
) -> None:
    lr = peak * multiplier
    step = Step(lr, peak, measured=cases.measured(rate))
    coefficient = rule.coefficient(fraction, step)
    again = Step(lr, peak, coefficient, measured=cases.measured(rate))
    assert rule.fraction(again) == pytest.approx(fraction, rel=1e-12)
    assert rule.coefficient(rule.fraction(again), again) == pytest.approx(coefficient, rel=1e-12)


@st.composite
def strengths(draw: Any) -> tuple[Any, float]:
    """A strength and the fraction that it is, by its definition."""
    kind = draw(st.sampled_from(["fraction", "half-life", "timescale", "normalized"]))
    steps = draw(st.floats(1.5, 1e7))
    if kind == "fraction":
        return halflife.Fraction(1 / steps), 1 / steps
    epochs = {"epochs": steps / 100, "steps_per_epoch": 100}
    given_as = epochs if draw(st.booleans()) else {"steps": steps}
    if kind == "half-life":
        return halflife.HalfLife(**given_as), -math.expm1(math.log(0.5) / steps)
    if kind == "timescale":
        return halflife.Timescale(**given_as), 1 / steps
    batch, size, epochs = draw(small), draw(st.integers(1, 1000)), draw(small)
    per_epoch = -(-size // batch)
    strength = halflife.Normalized(0.05, batch_size=batch, dataset_size=size, epochs=epochs)
    return strength, 0.05 / math.sqrt(per_epoch * epochs)


@examples(60)
@given(strengths(), rules, st.floats(1e-6, 1.0))
def test_a_strength_is_its_fraction_under_every_rule(
    strength: tuple[Any, float], rule: Any, lr: float
) -> None:
    base = Base("SGD", lr, 0.9, effective_rate=10.0)
    coefficient = strength[0].coefficient(rule, base)
    found = rule.fraction(base.step(weight_decay=coefficient))
    assert found == pytest.approx(strength[1], rel=1e-12)


@examples(60)
@given(st.floats(1e-8, 0.5), st.floats(0.0, 0.99), st.floats(1e-5, 0.1), st.floats(0.01, 1.0))
def test_equilibria_are_inverted(d: float, momentum: float, lr: float, size: float) -> None:
    """TargetRMS and Rotation ask for what a fraction predicts, and get that fraction back."""
    base = Base("AdamW", lr, momentum, size)
    rms = equilibrium.rms(d, lr, momentum, size)
    angle = equilibrium.rotation(d, momentum)
    assume(angle < 1.0)
    assert halflife.TargetRMS(rms).fraction(base) == pytest.approx(d, rel=1e-9)
    assert halflife.Rotation(angle).fraction(base) == pytest.approx(d, rel=1e-9)


@examples(40)
@given(st.floats(1e-3, 3.0), st.integers(20, 60), rules, st.floats(1e-5, 1.0))
def test_total_decay_is_the_sum_over_the_schedule(
    total: float, steps: int, rule: Any, lr: float
) -> None:
    multipliers = [0.5 * (1 + math.cos(math.pi * t / steps)) for t in range(steps)]
    base = Base("SGD", lr, 0.9, effective_rate=10.0)
    strength = halflife.TotalDecay(total, schedule=multipliers)
    coefficient = strength.coefficient(rule, base)
    found = math.fsum(
        rule.fraction(base.step(m, weight_decay=coefficient)) for m in multipliers if m > 0
    )
    assert found == pytest.approx(total, rel=1e-12)
