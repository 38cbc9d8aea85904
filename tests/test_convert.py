"""Conversion between conventions: from their definitions, there and back, and by training."""

from __future__ import annotations

import itertools
import json
import math
import re

import pytest
import torch
from typer.testing import CliRunner

import halflife
from halflife.bases.native_decay import native_decay
from halflife.cli import app
from halflife.units.convert import CONVENTIONS, NAMES, REFUSED, conversions, convert, multipliers_of

LR = 0.02
BUDGET = {"batch_size": 16, "dataset_size": 100, "epochs": 4}  # 7 steps an epoch, 28 in all
CURVE = (0.1, 0.5, 1.0, 0.9, 0.6, 0.3, 0.05)
RULES = ("decoupled", "independent", "normalized", "constant", "corrected", "l2", "stable")
RULES += ("proximal", "proximal_independent", "decoupled_after", "scion")
STRENGTHS = ("fraction", "half_life", "timescale", "rms", "rotation", "total")


def options(*names):
    """What a conversion between these needs."""
    sgd = {"optimizer": "sgd", "momentum": 0.75, "dampening": 0.5}
    adam = {"optimizer": "adam", "effective_rate": 7.0}
    return BUDGET | (sgd if "l2" in names else adam)


# --- each convention against its definition -------------------------------------------------------

# The number that removes d = 0.01 a step at lr 0.02, and its lr, by hand.
D = 0.01
BY_HAND = {
    "decoupled": (D / LR, LR),
    "independent": (D, LR),
    "normalized": (D * math.sqrt(28.0), LR),
    "constant": (D, LR),
    "corrected": (D / LR, LR),  # lr^2 / peak at lr = peak
    "stable": (D / (LR * 7.0), LR),
    "l2": (D * (1.0 - 0.75) / (1.0 - 0.5) / LR, LR),
    "proximal": (D / LR, LR / (1.0 - D)),  # lr' v' = d/(1 - d), and the step shrinks by 1 - d
    "proximal_independent": (D / (1.0 - D), LR / (1.0 - D)),
    "decoupled_after": (D * (1.0 - D) / LR, LR / (1.0 - D)),
    "scion": (LR / D, D),
    "fraction": (D, LR),
    "half_life": (math.log(0.5) / math.log(0.99), LR),
    "timescale": (100.0, LR),
    # AdamW's random walk: lr U sqrt((1 + a b)/((1 - a^2)(1 - a b))), U = sqrt((1 - b)/(1 + b))
    "rms": (LR * math.sqrt(0.1 / 1.9 * (1 + 0.891) / ((1 - 0.99**2) * (1 - 0.891))), LR),
    "rotation": (math.asin(math.sqrt((1 - 0.99**2) * (1 - 0.81)) / (1 + 0.891)), LR),
    "total": (D * math.fsum(CURVE), LR),
}


def test_every_convention_has_its_number_by_hand():
    assert set(BY_HAND) == set(CONVENTIONS) == {*RULES, *STRENGTHS}


@pytest.mark.parametrize("name", BY_HAND)
def test_number_and_lr_are_those_of_the_definition(name):
    value, lr = BY_HAND[name]
    result = convert(D, "fraction", name, lr=LR, schedule=CURVE, **options(name))
    assert result.value == pytest.approx(value, rel=1e-13)
    assert result.lr == pytest.approx(lr, rel=1e-13)
    assert result.changes_lr is (lr != LR)
    assert result.fraction == pytest.approx(D, rel=1e-13)
    back = convert(value, name, "fraction", lr=lr, schedule=CURVE, **options(name))
    assert back.value == pytest.approx(D, rel=1e-12)
    assert back.lr == pytest.approx(LR, rel=1e-13)


@pytest.mark.parametrize("reference", ["peak", "mean"])
def test_there_and_back_is_exact(reference):
    for one, other in itertools.product(CONVENTIONS, repeat=2):
        if {one, other} >= {"l2", "rms"}:
            continue  # SGD's updates have no known size
        unlike = "total" in (one, other) and {one, other} & {"constant", "corrected"}
        if unlike and reference == "peak":
            continue  # equal in total, so at the peak they differ
        known = options(one, other)
        value, lr = BY_HAND[one]
        if one == "rotation" and known["optimizer"] == "sgd":
            value = 0.04
        there = convert(value, one, other, lr=lr, schedule=CURVE, reference=reference, **known)
        back = convert(
            there.value, other, one, lr=there.lr, schedule=CURVE, reference=reference, **known
        )
        assert back.value == pytest.approx(value, rel=1e-12), (one, other)
        assert back.lr == pytest.approx(lr, rel=1e-12), (one, other)


def test_mean_makes_the_sums_over_the_schedule_equal():
    corrected = convert(0.5, "torch", "corrected", lr=LR, schedule=CURVE, reference="mean")
    assert corrected.exactness == "in total"
    wanted = math.fsum(LR * m * 0.5 for m in CURVE)
    got = math.fsum(LR * m * m * corrected.value for m in CURVE)
    assert got == pytest.approx(wanted, rel=1e-13)
    proximal = convert(0.5, "torch", "proximal", lr=LR, schedule=CURVE, reference="mean")
    bent = (proximal.lr * m * proximal.value for m in CURVE)
    assert math.fsum(d / (1.0 + d) for d in bent) == pytest.approx(wanted, rel=1e-13)
    timescale = convert(0.5, "torch", "timescale", lr=LR, schedule=CURVE, reference="mean")
    assert timescale.value == pytest.approx(len(CURVE) / wanted, rel=1e-13)


def test_peak_and_mean_of_a_linear_schedule_differ_by_two():
    known = {"lr": LR, "schedule": "linear", "steps": 10_000}
    peak = convert(0.5, "torch", "timescale", **known)
    mean = convert(0.5, "torch", "timescale", reference="mean", **known)
    assert mean.value / peak.value == pytest.approx(2.0, rel=2e-4)  # 1 + 1/steps


def test_named_schedules():
    assert multipliers_of("constant", 3) == (1.0, 1.0, 1.0)
    assert multipliers_of("cosine", 4) == pytest.approx(
        [0.5 + 0.5 * math.cos(math.pi * t / 4) for t in range(4)]
    )
    assert multipliers_of("wsd", 10) == pytest.approx([1.0] * 9 + [0.5])
    assert multipliers_of(lambda step: 1.0 / (1 + step), 2) == (1.0, 0.5)


# --- exactness, by training -----------------------------------------------------------------------


def trained(make, lr, curve, after=None):
    """Weights after steps whose gradients depend on the weights, the lr following a curve."""
    torch.manual_seed(0)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    optimizer = make([weight], lr)
    targets = torch.randn(len(curve), 5, dtype=torch.float64)
    for multiplier, target in zip(curve, targets, strict=True):
        optimizer.param_groups[0]["lr"] = lr * multiplier
        weight.grad = (weight - target).detach()
        optimizer.step()
        if after is not None:
            with torch.no_grad():
                after(weight, lr * multiplier)
    return weight.detach()


def adamw(value, rule, peak):
    return lambda params, lr: halflife.AdamW(
        params, lr, weight_decay=value, decay=rule, peak_lr=peak
    )


OURS = {
    "decoupled": "decoupled",
    "independent": "independent",
    "constant": "constant",
    "corrected": "corrected",
    "proximal": halflife.Proximal(),
    "proximal_independent": halflife.Proximal(halflife.Independent()),
}
FLAT = (1.0,) * 7


@pytest.mark.parametrize("curve", [FLAT, CURVE], ids=["constant lr", "changing lr"])
@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(OURS, 2)))
def test_exact_means_the_same_weights(one, other, curve):
    value, lr = 5.0 if one in ("decoupled", "corrected", "proximal") else 0.1, LR
    result = convert(value, one, other, lr=lr, schedule=curve)
    first = trained(adamw(value, OURS[one], lr), lr, curve)
    second = trained(adamw(result.value, OURS[other], result.lr), result.lr, curve)
    same = torch.allclose(first, second, rtol=1e-12, atol=0.0)
    assert same is (result.exactness == "exact")
    if curve is FLAT:
        assert same


def test_decay_after_the_step_by_training():
    def multiply(weight, lr):
        weight.mul_(1.0 - lr * 5.0)

    native = trained(lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=0.0), LR, FLAT, multiply)
    ours = convert(5.0, "bitsandbytes", "torch", lr=LR)
    assert ours.lr == pytest.approx(LR * 0.9, rel=1e-13)
    same = trained(adamw(ours.value, "decoupled", ours.lr), ours.lr, FLAT)
    torch.testing.assert_close(same, native, rtol=1e-12, atol=0.0)


def test_scion_by_training_with_signs():
    class SignScion(torch.optim.Optimizer):  # (1 - lr) w - lr radius sign(g)
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self):
            for p in self.param_groups[0]["params"]:
                lr = self.param_groups[0]["lr"]
                p.copy_((1.0 - lr) * p - lr * 4.0 * p.grad.sign())

    native = trained(SignScion, 0.1, CURVE)
    ours = convert(4.0, "scion", "torch", lr=0.1)
    assert (ours.lr, ours.value) == (pytest.approx(0.4), pytest.approx(0.25))
    signs = trained(  # Lion without memory is sign descent
        lambda p, lr: halflife.Lion(p, lr, (0.0, 0.5), weight_decay=ours.value), ours.lr, CURVE
    )
    torch.testing.assert_close(signs, native, rtol=1e-12, atol=0.0)


def test_l2_without_momentum_is_exact_and_with_momentum_holds_in_the_long_run():
    result = convert(0.5, "torch.sgd", "torch", lr=LR, momentum=0.0)
    assert result.exactness == "exact"
    native = trained(lambda p, lr: torch.optim.SGD(p, lr, weight_decay=0.5), LR, CURVE)
    ours = trained(
        lambda p, lr: halflife.SGD(p, lr, weight_decay=result.value, decay="decoupled"), LR, CURVE
    )
    torch.testing.assert_close(ours, native, rtol=1e-13, atol=0.0)

    result = convert(0.005, "torch.sgd", "torch", lr=LR, momentum=0.75, dampening=0.5)
    assert result.exactness == "approximate"
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], LR, 0.75, 0.5, weight_decay=0.005)
    sizes = []
    for _ in range(200):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        sizes.append(float(weight.detach()))
    # The recurrence's larger root; to first order in the fraction it is 1 - fraction.
    assert 1.0 - sizes[-1] / sizes[-2] == pytest.approx(result.fraction, rel=5 * result.fraction)


# --- what has no conversion -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "known", "message"),
    [
        ((0.1, "adam", "torch"), {}, "source='adam' has no conversion: an L2 term in an adaptive"),
        ((0.1, "torch", "torch.adam"), {}, "target='torch.adam' has no conversion"),
        ((0.1, "l2", "torch"), {"optimizer": "adam"}, "optimizer='adamw' with L2"),
        ((0.1, "l2", "torch"), {}, "momentum=None: 'l2' on SGD"),
        ((0.1, "torch", "cautious"), {}, "a fraction of its own"),
        (
            (0.1, "torch", "adams"),
            {},
            "effective_rate=None: 'stable' on adamw follows the gradients",
        ),
        ((0.1, "torch", "normalized"), {"epochs": 3}, "batch_size=None: the normalized"),
        ((0.1, "torch", "total"), {}, "schedule=None: 'total' sums over the whole run"),
        ((0.1, "torch", "constant"), {"reference": "mean"}, "schedule=None: reference='mean'"),
        ((0.1, "torch", "constant"), {"reference": "end"}, "reference='end': must be 'peak' or"),
        (
            (0.1, "tocrh", "constant"),
            {},
            "source='tocrh': unknown convention; did you mean 'torch'",
        ),
        ((0.1, "torch", "half-live"), {}, "did you mean 'half_life'"),
        ((100.0, "torch", "constant"), {}, "would remove the fraction 2 of each weight"),
        ((1.0, "constant", "torch"), {}, "would remove the fraction 1 of each weight"),
        ((-0.1, "torch", "constant"), {}, "value=-0.1: must be a number >= 0"),
        ((float("nan"), "torch", "constant"), {}, "value=nan: must be a number >= 0"),
        (("0.1", "torch", "constant"), {}, "value='0.1': must be a number >= 0"),
        ((0.1, "torch", "constant"), {"schedule": "cosin"}, "schedule='cosin': must be one of"),
        (
            (0.1, "torch", "constant"),
            {"schedule": "cosine"},
            "steps must be an integer >= 1, got None",
        ),
        ((0.1, "torch", "rms"), {"optimizer": "sgd"}, "optimizer='sgd' with 'rms'"),
        ((0.1, "torch", "rms"), {"optimizer": "adagrad"}, "optimizer='adagrad': must be one of"),
        ((0.1, "torch", "constant"), {"schedule": [2.0, 1.0]}, "schedule: must give multipliers"),
        ((0.1, "torch", "constant"), {"schedule": [0.0, 0.0]}, "schedule: must give multipliers"),
        ((0.1, "torch", "constant"), {"schedule": ["1"]}, "schedule: must give multipliers"),
        ((0.1, "torch", "constant"), {"schedule": 3}, "schedule=3: must be a name"),
        ((0.1, "torch", "constant"), {"optimizer": ["adam"]}, "optimizer=['adam']: must be one"),
        ((0.1, None, "constant"), {}, "source=None: unknown convention"),
        ((0.0, "torch", "scion"), {}, "no decay is no radius"),
        ((0.0, "torch", "rms"), {}, "without decay there is no equilibrium"),
        ((0.0, "torch", "rotation"), {}, "without decay there is no equilibrium"),
    ],
)
def test_refused_with_the_reason(arguments, known, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        convert(*arguments, lr=LR, **known)


@pytest.mark.parametrize("lr", [0.0, -1.0, math.inf, math.nan, "3e-4", True])
def test_lr_must_be_positive(lr):
    with pytest.raises(ValueError, match=r"lr=.*: must be a finite number > 0"):
        convert(0.1, "torch", "independent", lr=lr)


def test_no_decay_stays_none():
    for name in ("independent", "constant", "corrected", "proximal", "decay_after", "normalized"):
        assert convert(0.0, "torch", name, lr=LR, **BUDGET).value == 0.0
    assert convert(0.0, "torch", "half_life", lr=LR).value == math.inf
    assert convert(math.inf, "half_life", "torch", lr=LR).value == 0.0


# --- names ----------------------------------------------------------------------------------------


def test_names_lead_to_conventions_and_are_none_themselves():
    assert all(name.convention in CONVENTIONS for name in NAMES.values())
    assert not {*NAMES, *REFUSED} & set(CONVENTIONS)
    assert not set(NAMES) & set(REFUSED)
    assert "unverified" in convert(0.1, "apex", "constant", lr=LR).note
    assert "unverified" not in convert(0.1, "composer", "constant", lr=LR).note


KINDS = {"decoupled": "decoupled", "independent": "independent", "constant": "constant", "l2": "l2"}
LIBRARIES = [
    ("torch.adamw", "torch.optim", "AdamW", {}),
    ("torch.muon", "torch.optim", "Muon", {}),
    ("torch.sgd", "torch.optim", "SGD", {}),
    ("optimi", "optimi", "AdamW", {}),
    ("optimi.decouple_lr", "optimi", "AdamW", {"decouple_lr": True}),
    ("lion_pytorch", "lion_pytorch", "Lion", {}),
    ("lion_pytorch.decoupled", "lion_pytorch", "Lion", {"decoupled_weight_decay": True}),
    ("pytorch_optimizer", "pytorch_optimizer", "AdaBelief", {"weight_decouple": True}),
    (
        "pytorch_optimizer.fixed_decay",
        "pytorch_optimizer",
        "AdaBelief",
        {"weight_decouple": True, "fixed_decay": True},
    ),
]


@pytest.mark.parametrize(("name", "module", "cls", "known"), LIBRARIES, ids=lambda v: str(v))
def test_names_of_libraries_mean_what_their_optimizers_do(name, module, cls, known):
    package = pytest.importorskip(module)
    weight = torch.ones(2, 2, requires_grad=True)
    optimizer = getattr(package, cls)([weight], lr=0.01, weight_decay=5e-4, **known)
    assert KINDS[native_decay(optimizer).kind] == NAMES[name].convention


# --- command line ---------------------------------------------------------------------------------


def invoke(*arguments):
    result = CliRunner().invoke(app, ["convert", *map(str, arguments)], terminal_width=200)
    return result.exit_code, result.output


def test_command():
    code, output = invoke(0.1, "--from", "torch", "--to", "independent", "--lr", "3e-4")
    assert code == 0, output
    assert "independent: 3e-05" in output
    assert "agreement: exact" in output
    code, output = invoke(0.1, "--from", "torch", "--to", "proximal", "--lr", "3e-4", "--json")
    assert json.loads(output)["lr"] == pytest.approx(3e-4 / (1 - 3e-5), rel=1e-13)


def test_command_prints_what_json_has_no_word_for_as_null():
    """No decay has a half-life without end."""
    code, output = invoke(0, "--from", "torch", "--to", "half_life", "--lr", "1e-3", "--json")

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    assert code == 0, output
    assert json.loads(output, parse_constant=refuse)["value"] is None


def test_command_shows_every_convention():
    code, output = invoke(0.1, "--from", "torch", "--lr", "3e-4")
    assert code == 0, output
    assert all(name in output for name in CONVENTIONS)
    code, output = invoke(0.1, "--from", "torch", "--lr", "3e-4", "--json")
    found = json.loads(output)
    assert found["scion"]["value"] == pytest.approx(10.0)
    assert found["normalized"].startswith("--batch-size: ")


def test_command_explains():
    code, output = invoke(0.1, "--from", "adam", "--to", "torch", "--lr", "3e-4")
    assert code == 2
    assert "has no conversion" in output
    assert "Traceback" not in output


def test_everything_at_once_is_what_each_gives():
    found = conversions(0.1, "torch", lr=LR)
    assert found["corrected"] == convert(0.1, "torch", "corrected", lr=LR)
    assert found["l2"].startswith("momentum=None")
