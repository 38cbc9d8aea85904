"""What is said of a group's decay: numbers that exist, bounds said as bounds, and no others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import halflife
from halflife import rules
from halflife.checks import Scalar
from halflife.diagnostics import Monitor, audit
from halflife.rules import DecayMap
from halflife.rules.contract import DecayRule
from halflife.rules.step import Step
from halflife.testing import check_rule
from halflife.units.reading import read_group

THRESHOLDS = [
    rules.ProximalL1(),
    rules.ProximalL1(metric="preconditioned"),
    rules.ProximalNorm(),
    rules.ProximalNorm(per_tensor=True),
    rules.Preconditioned(),
    rules.PowerDecay(),
    rules.PowerDecay(power=0.5),
]
BOUNDS = [rules.Cautious(), rules.HuberDecay(delta=0.1), rules.NormControl(target=0.5)]


def made(rule: Any, cls: Any = halflife.AdamW, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 6, bias=False)
    known = {"lr": 0.01, "weight_decay": 0.1, **settings}
    return model, cls(model.parameters(), decay=rule, **known)


def train(model: Any, optimizer: Any, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("rule", THRESHOLDS, ids=repr)
def test_a_threshold_has_no_half_life(rule: Any) -> None:
    model, optimizer = made(rule)
    row = halflife.describe(optimizer).groups[0]
    assert (row.fraction, row.half_life, row.timescale, row.rms, row.rotation) == (None,) * 5
    assert "no half-life" in row.note
    text = str(halflife.describe(optimizer))
    assert row.note in text
    assert "steps" not in text
    found = audit(model, optimizer, steps=100)
    assert found.parameters[0].fraction is None
    assert found.parameters[0].predicted_rms is None
    assert found.parameters[0].decays
    with Monitor(optimizer, every=1) as monitor:
        train(model, optimizer, 2)
    record = monitor.history[-1]
    assert record["fraction"] is None
    assert record["weight_rms_predicted"] is None


@pytest.mark.parametrize("rule", THRESHOLDS, ids=repr)
def test_without_weight_decay_a_threshold_removes_nothing(rule: Any) -> None:
    _, optimizer = made(rule, weight_decay=0.0)
    row = halflife.describe(optimizer).groups[0]
    assert (row.fraction, row.half_life, row.note) == (0.0, math.inf, "")


@pytest.mark.parametrize("rule", BOUNDS, ids=repr)
def test_an_upper_bound_is_said_to_be_one(rule: Any) -> None:
    model, optimizer = made(rule)
    row = halflife.describe(optimizer).groups[0]
    assert row.fraction == pytest.approx(0.001)
    assert (row.rms, row.rotation) == (None, None)
    assert row.note.startswith("an upper bound, the half-life a lower one: ")
    found = audit(model, optimizer, steps=100)
    assert found.parameters[0].fraction == pytest.approx(0.001)
    assert found.parameters[0].predicted_rms is None


def test_it_is_a_bound() -> None:
    """The share that the step really removes, by running it without a gradient."""
    for rule in BOUNDS:
        model, optimizer = made(rule)
        model.double()
        before = model.weight.detach().clone()
        model.weight.grad = torch.zeros_like(before)
        optimizer.step()
        removed = (before - model.weight.detach()) / before
        assert float(removed.max()) <= 0.001 * (1 + 1e-5)
        assert float(removed.min()) < 0.001 * (1 - 1e-3) or isinstance(rule, rules.Cautious)


def test_an_anchored_fraction_is_of_the_distance() -> None:
    _, optimizer = made(rules.Anchored())
    row = halflife.describe(optimizer).groups[0]
    assert row.fraction == pytest.approx(0.001)
    assert (row.rms, row.rotation) == (None, None)
    assert "of the distance to the anchor" in row.note


@pytest.mark.parametrize("rule", ["decoupled", "independent", "corrected", "proximal"])
def test_a_plain_fraction_needs_no_note(rule: str) -> None:
    _, optimizer = made(rule)
    row = halflife.describe(optimizer).groups[0]
    assert row.note == ""
    assert row.rms is not None


@pytest.mark.parametrize("rule", ["stable", "adaptive"])
def test_what_follows_the_gradients_is_known_after_a_step(rule: str) -> None:
    model, optimizer = made(rule)
    before = halflife.describe(optimizer).groups[0]
    assert before.fraction is None
    assert "known in a training step only" in before.note
    train(model, optimizer, 1)
    after = halflife.describe(optimizer).groups[0]
    assert after.fraction is not None
    assert after.fraction > 0.0
    assert (
        after.note == "the fraction follows the gradients: it is that of the last step's measures."
    )


def test_the_small_value_under_the_mean_is_in_what_a_group_says() -> None:
    model, optimizer = made(rules.Stable(eps=0.25))
    train(model, optimizer, 1)
    group = optimizer.param_groups[0]
    mean = optimizer.last_measured("mean_square")
    assert optimizer.last_effective_rate == pytest.approx(mean**-0.5, rel=1e-14)
    expected = group["lr"] * group["weight_decay"] / math.sqrt(mean + 0.25)
    assert halflife.describe(optimizer).groups[0].fraction == pytest.approx(expected, rel=1e-14)


def test_a_tensor_of_lrs_is_read_at_once() -> None:
    _, optimizer = made("corrected")
    reading = read_group(optimizer, optimizer.param_groups[0])
    lrs = torch.tensor([0.0, 0.004, 0.01], dtype=torch.float64)
    together = reading.fraction_at(lrs, torch.full_like(lrs, 0.1))
    assert together.tolist() == pytest.approx([reading.fraction_at(float(x), 0.1) for x in lrs])


# --- a rule of a user's that joins the gradient --------------------------------------------------


@dataclass(frozen=True)
class HalfOfL2(DecayRule):
    """wd/2 w joins the gradient."""

    name = "planted_half_of_l2"

    def rate(self, step: Step) -> Scalar:
        return 0.0

    def gradient_coefficient(self, step: Step) -> Scalar:
        return 0.5 * step.weight_decay


@dataclass(frozen=True)
class Both(DecayRule):
    """One half as a fraction, one in the gradient."""

    name = "planted_both"

    def rate(self, step: Step) -> Scalar:
        return 0.5 * step.lr

    def gradient_coefficient(self, step: Step) -> Scalar:
        return 0.5 * step.weight_decay


@pytest.mark.parametrize(("rule", "share"), [(HalfOfL2(), 0.5), (Both(), 1.0)])
def test_a_rule_that_joins_the_gradient_is_read_as_decay(rule: DecayRule, share: float) -> None:
    """On SGD with momentum 0.5 what joins the gradient acts twice in the long run."""
    model, optimizer = made(rule, halflife.SGD, momentum=0.5)
    row = halflife.describe(optimizer).groups[0]
    long_run = 0.001 * (0.5 * 2.0 + (share - 0.5))
    assert row.fraction == pytest.approx(long_run)
    assert "joins the gradient" in row.note
    assert math.isfinite(row.half_life)  # type: ignore[arg-type]
    found = audit(model, optimizer, steps=10)
    assert found.parameters[0].decays
    assert found.parameters[0].fraction == pytest.approx(long_run)
    with Monitor(optimizer, every=1) as monitor:
        train(model, optimizer, 1)
    assert monitor.history[-1]["fraction"] == pytest.approx(long_run)


@pytest.mark.parametrize("rule", [HalfOfL2(), Both()], ids=repr)
def test_on_adam_its_fraction_is_not_known(rule: DecayRule) -> None:
    model, optimizer = made(rule)
    row = halflife.describe(optimizer).groups[0]
    assert row.fraction is None
    assert row.half_life is None
    found = audit(model, optimizer, steps=10)
    assert found.parameters[0].decays
    assert "coupled-l2" in {f.code for f in found.findings}


@pytest.mark.parametrize("rule", [HalfOfL2(), Both()], ids=repr)
@pytest.mark.parametrize(
    "wrapper", [halflife.Proximal, rules.Cautious, rules.ProximalL1, rules.Anchored]
)
def test_no_rule_is_built_on_one_that_it_would_ignore(wrapper: Any, rule: DecayRule) -> None:
    with pytest.raises(ValueError, match=type(rule).__name__):
        wrapper(rule)


@pytest.mark.parametrize("cls", [halflife.SGD, halflife.Adam, halflife.AdamW, halflife.Lion])
@pytest.mark.parametrize("flags", [{}, {"foreach": True}], ids=str)
def test_both_parts_are_carried_out(cls: Any, flags: dict[str, bool]) -> None:
    """Against the native step with the gradient and the weights changed by hand."""
    w, q = (torch.nn.Parameter(torch.linspace(-1, 1, 8, dtype=torch.float64)) for _ in range(2))
    ours = cls([w], lr=0.02, weight_decay=0.8, decay=Both(), **flags)
    native = cls([q], lr=0.02, weight_decay=0.0, **flags)
    for lr in (0.02, 0.013, 0.004):
        gradient = torch.cos(torch.arange(8.0, dtype=torch.float64) * lr * 100)
        ours.param_groups[0]["lr"] = native.param_groups[0]["lr"] = lr
        w.grad = gradient.clone()
        q.grad = gradient + 0.4 * q.detach()
        with torch.no_grad():
            q.mul_(1 - 0.5 * lr * 0.8)
        ours.step()
        native.step()
        torch.testing.assert_close(w, q, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("rule", [HalfOfL2(), Both()], ids=repr)
def test_the_conformance_suite_runs_it(rule: DecayRule) -> None:
    report = check_rule(rule, weight_decay=0.3)
    assert not report.of("failed")
    assert "described as it decays" in {c.name for c in report.of("passed")}


def test_fraction_is_not_overridden() -> None:
    with pytest.raises(TypeError, match="override rate instead"):

        class Overrides(DecayRule):
            name = "planted_overrides"

            def rate(self, step: Step) -> Scalar:
                return step.lr

            def fraction(self, step: Step) -> Scalar:  # type: ignore[misc]
                return 0.5


def test_what_is_added_by_hand_is_scaled_as_the_gradient_is() -> None:
    """A fused step divides the gradients by the scale itself, under a gradient scaler."""
    w, q = (torch.nn.Parameter(torch.linspace(-1, 1, 8)) for _ in range(2))
    gradient = torch.cos(torch.arange(8.0))
    for p, scale in ((w, 1.0), (q, 1024.0)):
        optimizer = halflife.AdamW([p], lr=0.1, weight_decay=0.8, decay=Both(), fused=True)
        p.grad = gradient * scale
        optimizer.grad_scale = torch.tensor(scale)
        optimizer.found_inf = torch.tensor(0.0)
        optimizer.step()
    torch.testing.assert_close(w, q)


@pytest.mark.parametrize(
    "name", ["cautious", "anchored", "huber", "norm_control", "proximal_l1", "l2"]
)
def test_proximal_takes_no_rule_that_it_would_flatten(name: str) -> None:
    with pytest.raises(ValueError, match="is not one of a fraction alone"):
        halflife.Proximal(name)


@dataclass(frozen=True)
class FollowsAndJoins(DecayRule):
    name = "planted_follows_and_joins"
    requires = ("gradient_norm", "weight_norm")

    def rate(self, step: Step) -> Scalar:
        return step.lr * step.measured("gradient_norm") / step.measured("weight_norm")

    def gradient_coefficient(self, step: Step) -> Scalar:
        return step.weight_decay


@dataclass(frozen=True)
class MapThatJoins(DecayMap):
    name = "planted_map_that_joins"
    elementwise = True

    def gradient_coefficient(self, step: Step) -> Scalar:
        return step.weight_decay

    def apply(self, view: Any) -> None:
        view.elementwise(lambda w, d: w.mul_(1.0 - d))


@pytest.mark.parametrize("rule", [FollowsAndJoins(), MapThatJoins(), Both()], ids=repr)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_ensemble_carries_both_parts_out_alike(rule: DecayRule, optimizer: str) -> None:
    from halflife.lab.tasks import Digits
    from halflife.lab.tasks.ensemble import Ensemble
    from halflife.lab.tasks.single import Single
    from halflife.lab.tasks.single import train as train_trial
    from halflife.lab.tasks.training import Member, Training

    run = Training(Digits("digits", images=60), optimizer, 1, 10, "cosine", torch.float64)
    member = Member(rule, 3e-3, 0.3, 1)
    ensemble, single = Ensemble(run, [member, member]), Single(run, member)
    train_trial(run, ensemble)
    train_trial(run, single)
    for name, p in single.model.named_parameters():
        torch.testing.assert_close(ensemble.params[name][0], p, rtol=1e-9, atol=1e-12)


def test_a_map_that_joins_the_gradient_joins_it_with_the_weights_as_they_are() -> None:
    runs = []
    for flags in ({}, {"implementation": "compiled"}):
        w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))  # one element is not compiled
        optimizer = halflife.SGD([w], lr=0.5, weight_decay=0.5, decay=MapThatJoins(), **flags)
        w.grad = torch.zeros(1, dtype=torch.float64)
        optimizer.step()
        runs.append(w.item())
    assert runs == [0.5, 0.5]  # (1 - 0.25) - 0.5 * 0.5
