"""The ensemble equals training its members one by one with halflife's own optimizers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

import cases
from halflife.lab.tasks import Digits
from halflife.lab.tasks.ensemble import Ensemble, train_ensemble, train_one
from halflife.lab.tasks.single import Single, train
from halflife.lab.tasks.training import Member, Training
from halflife.rules import DecayMap
from halflife.rules.contract import as_rule, rule_names
from halflife.rules.scalar import Decoupled, L2Regularization, Proximal, Stable
from halflife.theory import equilibrium
from halflife.theory.transient import mean_square

# Coefficients at which each rule removes a clearly visible share within the short run.
COEFFICIENTS = {name: coefficient for name, (_, coefficient) in cases.in_lab(cases.RULES).items()}
MAPS = cases.in_lab(cases.MAPS)
SCALARS = ["test_error", "test_loss", "train_loss", "weight_rms"]


def training(
    optimizer="adam", schedule="cosine", *, batch_norm=False, dtype=torch.float64, epochs=3
):
    task = Digits("digits", batch_norm=batch_norm, images=120)
    return Training(task, optimizer, epochs, 10, schedule, dtype)


def members(lr=3e-3, seed=1):
    """Every rule twice, with its own lr and coefficient, and one run without decay."""
    decayed = [
        Member(as_rule(name), lr * factor, coefficient / factor, seed)
        for name, coefficient in COEFFICIENTS.items()
        for factor in (1.0, 3.0)
    ]
    small_mean = Member(Stable(eps=1e-5), lr, COEFFICIENTS["stable"], seed)
    return [*decayed, small_mean, Member(Decoupled(), lr, 0.0, seed)]


def worst_difference(ensemble, index, model):
    """Largest difference of a weight, relative to the largest weight of its tensor."""
    pairs = ((ensemble.params[name][index], p) for name, p in model.named_parameters())
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def test_every_scalar_rule_is_covered():
    own = {
        name
        for name in rule_names()
        if as_rule(name).__class__.__module__ == "halflife.rules.scalar"
    }
    assert set(COEFFICIENTS) == own


@pytest.mark.parametrize(
    ("optimizer", "schedule", "batch_norm"),
    # Each two of them together: the schedule is a number by the time that a stack sees it.
    [
        ("adam", "cosine", True),
        ("adam", "warmup-cosine", False),
        ("sgd", "cosine", False),
        ("sgd", "warmup-cosine", True),
    ],
)
def test_equals_one_by_one(optimizer, schedule, batch_norm):
    run = training(optimizer, schedule, batch_norm=batch_norm)
    ensemble = Ensemble(run, members(lr=3e-3 if optimizer == "adam" else 3e-2))
    together = train(run, ensemble)
    for index, member in enumerate(ensemble.members):
        single = Single(run, member)
        (alone,) = train(run, single)
        assert worst_difference(ensemble, index, single.model) < 1e-9, member
        for name in SCALARS:
            expected = pytest.approx(getattr(alone, name), rel=1e-9)
            assert getattr(together[index], name) == expected, (member, name)
        assert together[index].curve["step"] == alone.curve["step"]
        assert together[index].curve["val_error"] == pytest.approx(alone.curve["val_error"])


@dataclass(frozen=True)
class WhereTheGradientAgrees(DecayMap):
    """A user's map: decay only where the gradient pulls toward zero too."""

    name = "planted_where_the_gradient_agrees"
    elementwise = True

    def apply(self, view):
        view.elementwise(lambda w, d, g: w.sub_((w * g > 0).to(w) * w * d), view.gradients())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_map_that_reads_gradients_equals_one_by_one(optimizer):
    rule = WhereTheGradientAgrees()
    chosen = [Member(rule, 3e-3 * f, 3.0, 1) for f in (1.0, 2.0)]
    chosen.insert(0, Member(Decoupled(), 3e-3, 3.0, 1))
    run = training(optimizer)
    ensemble = Ensemble(run, chosen)
    train(run, ensemble)
    for index, member in enumerate(chosen):
        single = Single(run, member)
        train(run, single)
        assert worst_difference(ensemble, index, single.model) < 1e-9, member


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_maps_equal_one_by_one(optimizer):
    """Beside each other and a plain rule in one stack."""
    lr = 3e-3 if optimizer == "adam" else 3e-2
    chosen = [Member(rule, lr * f, c, 1) for rule, c in MAPS.values() for f in (1.0, 3.0)]
    if optimizer == "sgd":
        chosen = [m for m in chosen if "preconditioner" not in m.rule.needs]
    chosen.append(Member(Decoupled(), lr, 1.0, 1))
    run = training(optimizer)
    ensemble = Ensemble(run, chosen)
    train(run, ensemble)
    ends = []
    for index, member in enumerate(ensemble.members):
        single = Single(run, member)
        train(run, single)
        assert worst_difference(ensemble, index, single.model) < 1e-9, member
        ends.append(torch.cat([p.detach().flatten() for p in single.model.parameters()]))
    assert all((ends[-1] - end).abs().max() > 1e-4 for end in ends[:-1])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_every_pair_of_rules_ends_elsewhere(optimizer):
    """Otherwise the comparison above would not tell the rules apart."""
    run = training(optimizer)
    outcomes = train_ensemble(run, members()[::2])
    ends = [outcome.weight_rms for outcome in outcomes]
    assert len({round(end, 9) for end in ends}) == len(ends)


def exactly(outcome):
    return [getattr(outcome, name) for name in SCALARS], outcome.curve


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_member_does_not_depend_on_its_company(optimizer, batch_norm):
    """Bit for bit: a resumed landscape stacks what is missing anew and must get the same."""
    run = training(optimizer, batch_norm=batch_norm, dtype=torch.float32, epochs=1)
    everyone = [*members(), *members(lr=1e-2), *members(lr=1e-3)[:7]]
    whole = train_ensemble(run, everyone)
    for chosen in ([0], [3, 4, 5], [30, 2, 17, 11], list(range(20))):
        part = train_ensemble(run, [everyone[i] for i in chosen])
        for i, outcome in zip(chosen, part, strict=True):
            assert exactly(outcome) == exactly(whole[i]), everyone[i]


def test_a_member_that_diverges_touches_no_other_and_is_recorded():
    run = training("sgd")
    good = Member(Decoupled(), 0.03, 1e-2, 1)
    bad = Member(L2Regularization(), 10.0, 1e4, 1)
    (alone,) = train_ensemble(run, [good])
    outcomes = train_ensemble(run, [good, bad, good])
    assert [outcome.diverged for outcome in outcomes] == [False, True, False]
    assert math.isfinite(outcomes[1].test_error)
    assert outcomes[1].test_error > 80  # chance is 90 %
    assert exactly(outcomes[0]) == exactly(outcomes[2]) == exactly(alone)
    assert train_one(run, bad).diverged


def test_members_must_share_a_seed():
    mixed = [Member(Decoupled(), 0.1, 0.0, seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"seeds=\[0, 1\]: .* train each seed by itself"):
        Ensemble(training(), mixed)


def test_a_whole_weight_in_one_step_is_refused():
    heavy = Member(Decoupled(), 0.1, 10.0, 0)
    with pytest.raises(ValueError, match=r"weight_decay=10.0 of a member .* at lr=0.1: .*flips"):
        Ensemble(training(), [heavy])


def test_stable_is_clamped_at_the_whole_weight():
    run = training(epochs=1)
    member = Member(Stable(), 0.1, 1e6, 0)
    ensemble = Ensemble(run, [member])
    data = run.data(0)
    fraction, _ = ensemble.step(data.train_inputs[:10], data.train_targets[:10], 1.0)
    assert fraction.tolist() == [1.0]
    single = Single(run, member)
    with pytest.warns(UserWarning, match="clamped to 1"):
        single.step(data.train_inputs[:10], data.train_targets[:10], 1.0)
    assert worst_difference(ensemble, 0, single.model) < 1e-12


# --- what is recorded ----------------------------------------------------------------------------


def test_fraction_is_the_rules_at_the_peak():
    lr, coefficient = 3e-3, 2.0
    fractions = {
        name: train_ensemble(
            training(epochs=1), [Member(as_rule(name), lr, coefficient / factor, 0)]
        )[0].fraction
        for name, factor in {"decoupled": 1, "corrected": 1, "independent": 10, "l2": 1}.items()
    }
    assert fractions["decoupled"] == fractions["corrected"] == lr * coefficient
    assert fractions["independent"] == coefficient / 10
    assert fractions["l2"] is None


def test_fraction_of_stable_is_the_mean_over_the_run():
    run = training("sgd", epochs=2)  # on SGD its rate is known: 1 / (1 - momentum)
    (outcome,) = train_ensemble(run, [Member(Stable(), 0.01, 0.1, 0)])
    assert outcome.fraction == pytest.approx(0.01 * 0.1 / (1 - 0.9), rel=1e-9)


def test_initial_and_final_weight_rms_are_of_the_matrices():
    run = training()
    ensemble = Ensemble(run, members()[:2])
    matrices = [p for p in run.model(1).parameters() if p.dim() >= 2]
    entries = torch.cat([p.flatten() for p in matrices]).square().mean()
    torch.testing.assert_close(ensemble.mean_square(), entries.expand(2), rtol=1e-12, atol=0)


def test_prediction_equals_a_simulation_of_noise():
    """Adam itself on pure noise, many weights: the mean square must follow the recurrence."""
    generator = torch.Generator().manual_seed(0)
    lr, weight_decay, steps, beta1 = 0.05, 0.5, 40, 0.9
    w = torch.full((100_000,), 0.3, dtype=torch.float64, requires_grad=True)
    # With beta2 next to 1 and noise of one size, sqrt(v) is that size and the direction is m.
    optimizer = torch.optim.AdamW([w], lr, (beta1, 0.9999), weight_decay=weight_decay)
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    multipliers = [1.0 - t / steps for t in range(steps)]
    for multiplier in multipliers:
        optimizer.param_groups[0]["lr"] = lr * multiplier
        w.grad = signs[torch.randint(2, w.shape, generator=generator)]
        optimizer.step()
    sizes = lr * torch.tensor(multipliers, dtype=torch.float64)[:, None]
    predicted = mean_square(weight_decay * sizes, sizes, beta1, torch.tensor([0.09]))
    assert predicted.item() == pytest.approx(w.detach().square().mean().item(), rel=0.01)


def test_prediction_settles_at_the_equilibrium():
    d, lr, beta1 = 0.01, 0.1, 0.9
    ones = torch.ones(3000, 1, dtype=torch.float64)
    long_run = mean_square(d * ones, lr * ones, beta1, torch.tensor([5.0])).sqrt().item()
    expected = equilibrium.rms(d, lr, beta1, equilibrium.adam_update_rms(beta1))
    assert long_run == pytest.approx(expected, rel=1e-9)


def test_proximal_equals_decoupled_at_its_own_coordinates():
    """Proximal at (lr, wd) is Decoupled at (lr / (1 + lr wd), wd) while the lr is constant."""
    run = training(schedule="constant")
    lr, wd = 1e-2, 5.0
    pair = [Member(Proximal(), lr, wd, 0), Member(Decoupled(), lr / (1 + lr * wd), wd, 0)]
    ensemble = Ensemble(run, pair)
    train(run, ensemble)
    for stack in ensemble.params.values():
        torch.testing.assert_close(stack[0], stack[1], rtol=1e-9, atol=1e-12)
