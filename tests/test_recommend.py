"""Recommendations: the rules' own arithmetic, what is said about them, and code that runs."""

from __future__ import annotations

import json
import math

import pytest
import torch
from typer.testing import CliRunner

import halflife
from halflife.cli import app
from halflife.units.recommend import recommend

RUN = {"lr": 1e-3, "batch": 128, "data": 50_000, "epochs": 100}  # 391 steps an epoch
LANGUAGE = {"lr": 6e-4, "batch": 5e5, "data": 2.5e9, "unit": "tokens"}  # 5000 steps
FINETUNE = {"lr": 2e-5, "batch": 32, "data": 32_000, "epochs": 3, "schedule": "linear"}


def named(plan, text):
    (option,) = (option for option in plan.options if text in option.name)
    return option


def test_averages_range_from_one_epoch_to_the_run():
    plan = recommend(11e6, **RUN)
    assert (plan.steps, plan.steps_per_epoch) == (39_100, 391)
    assert named(plan, "average over one epoch").value == pytest.approx(1 / (1e-3 * 391), rel=1e-12)
    assert named(plan, "over the whole run").value == pytest.approx(1 / (1e-3 * 39_100), rel=1e-12)
    assert plan.best.timescale == pytest.approx(3910, rel=1e-12)  # the geometric mean
    assert plan.best.timescale_epochs == pytest.approx(10, rel=1e-12)
    assert plan.best.half_life == pytest.approx(math.log(2) / -math.log1p(-1 / 3910), rel=1e-12)


def test_normalized_weight_decay_is_the_papers():
    plan = recommend(11e6, **RUN)
    for value in (0.025, 0.05):
        option = named(plan, f"normalized weight decay {value}")
        assert option.fraction == pytest.approx(value / math.sqrt(391 * 100), rel=1e-12)


def test_language_models_have_the_tokens_per_parameter_rule():
    plan = recommend(124e6, **LANGUAGE)
    share = 1.084 * (2.5e9 / 124e6) ** -0.527
    assert plan.best.name == "tokens per parameter"
    assert plan.best.timescale == pytest.approx(5000 * share, abs=0.5)
    assert "unverified" in plan.best.note
    # 0.22 of the run at 20 tokens per parameter, 0.066 at 200
    tau = recommend(1e8, **LANGUAGE | {"data": 2e9}).best.timescale
    assert tau / 4000 == pytest.approx(0.22, abs=0.005)
    tau = recommend(1e7, **LANGUAGE | {"data": 2e9}).best.timescale
    assert tau / 4000 == pytest.approx(0.066, abs=0.001)


def test_repeated_data():
    plan = recommend(124e6, **LANGUAGE, epochs=8)
    assert plan.best.name != "tokens per parameter"
    assert "repeats its data" in named(plan, "tokens per parameter").note
    assert any("seen 8 times" in note and "30 times" in note for note in plan.notes)
    assert not any("30 times" in note for note in recommend(124e6, **LANGUAGE).notes)


def test_fine_tuning_says_what_each_option_removes():
    plan = recommend(1e8, **FINETUNE, finetune=True)
    assert plan.best.value == pytest.approx(0.01, rel=1e-12)
    # linear to 0 over 3000 steps: half of 3000 * 2e-5 * 0.01
    assert plan.best.total == pytest.approx(3e-4, rel=1e-3)
    assert "takes 0.03 % of the pretrained weights" in plan.best.note
    assert "99.97 % of the pretrained weights" in str(plan)
    for option in plan.options:
        lrs = (2e-5 * (1 - t / 3000) for t in range(3000))
        left = math.prod(1 - lr * option.value for lr in lrs)
        assert option.removed == pytest.approx(1 - left, rel=1e-3)
    removed = [option.removed for option in plan.options]
    assert removed == sorted(removed)
    assert removed[1] > 0.3  # these are the ones that must not go without a word
    for option in plan.options[1:]:
        share = f"removes {100 * option.removed:.3g} % of the pretrained weights"
        assert share in option.note
        assert share in str(plan)
    assert any("Anchored" in note for note in plan.notes)
    assert "too short to reach" in str(plan)


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "sgd"])
@pytest.mark.parametrize("lr", [1e-5, 1e-3, 0.1])
@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_the_first_choice_of_a_fine_tuning_leaves_the_weights(optimizer, lr, schedule):
    known = FINETUNE | {"lr": lr, "schedule": schedule, "optimizer": optimizer, "epochs": 30}
    plan = recommend(1e8, **known, finetune=True)
    assert plan.best.removed <= 0.05 + 1e-9
    assert plan.best.removed == min(option.removed for option in plan.options)
    yours = recommend(1e8, **known, finetune=True, weight_decay=0.5 / lr / 3e4)
    assert any("of the pretrained weights" in note and "removes" in note for note in yours.notes)


def test_an_anchored_decay_removes_nothing_of_the_pretrained_weights():
    """As the note says; under the strength that it names."""
    (note,) = (n for n in recommend(1e8, **FINETUNE, finetune=True).notes if "Anchored" in n)
    assert "removes nothing" in note
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    settings = {"decay": halflife.Anchored(), "weight_decay": halflife.Timescale(steps=3000)}
    assert "Timescale(steps=3000)" in note
    optimizer = halflife.AdamW([weight], lr=2e-5, **settings)
    for _ in range(10):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert weight.tolist() == [1.0, -2.0]


# --- each optimizer has its own numbers -----------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "momentum", "value", "source"),
    [
        ("adamw", None, 0.01, "torch.optim.AdamW"),
        ("lion", None, 0.1, "Chen et al. 2023"),
        ("sgd", None, 5e-4 / (1 - 0.9), "Zagoruyko & Komodakis 2016"),  # L2, in the long run
        ("sgd", 0.0, 5e-4, "Zagoruyko & Komodakis 2016"),
    ],
)
def test_the_usual_number_is_that_of_the_optimizer(optimizer, momentum, value, source):
    for finetune in (False, True):
        known = RUN | {"optimizer": optimizer, "momentum": momentum, "lr": 1e-5}
        (usual,) = (
            o for o in recommend(1e6, **known, finetune=finetune).options if source in o.source
        )
        assert usual.value == pytest.approx(value, rel=1e-9)
    assert torch.optim.AdamW([torch.ones(1)]).defaults["weight_decay"] == 0.01


def test_a_rule_that_was_not_tested_with_the_optimizer_says_so():
    for optimizer, name in (("sgd", "SGD"), ("lion", "Lion")):
        plan = recommend(11e6, **RUN, optimizer=optimizer)
        for option in plan.options:
            tested = "usual" in option.name or "AdamW's default" in option.name
            tested |= optimizer == "sgd" and "normalized" in option.name
            assert (f"not tested with {name}" in option.note) == (not tested)
    assert not any("not tested" in o.note for o in recommend(11e6, **RUN).options)


# --- no recommendation argues against itself ------------------------------------------------------

RUNS = [
    *(RUN | {"steps": s, "epochs": None} for s in (5, 99, 100, 1000)),
    *(LANGUAGE | {"data": 10.0**e} for e in (6, 9, 12)),
    RUN | {"epochs": 1},
    RUN | {"epochs": 3000},
    RUN | {"batch": 50_000, "epochs": 200},
    RUN | {"lr": 1e-6},
    RUN | {"schedule": lambda step: 0.05},
]


@pytest.mark.parametrize("run", range(len(RUNS)))
@pytest.mark.parametrize("finetune", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "lion", "sgd"])
@pytest.mark.parametrize("parameters", [1e5])
def test_nothing_is_said_against_the_first_choice(run, finetune, optimizer, parameters):
    plan = recommend(parameters, **RUNS[run], finetune=finetune, optimizer=optimizer)
    said = " ".join((*plan.notes, plan.best.note)).replace("removes nothing of", "")
    for against in ("inert", "less than a tenth", "removes"):
        assert against not in said
    assert f"weight_decay {plan.best.value:.4g} " not in " ".join(plan.notes)
    assert plan.best.timescale >= 99


@pytest.mark.parametrize("steps", [2, 5, 50, 99])
@pytest.mark.parametrize("lr", [1e-4, 1e-3])
def test_a_run_of_a_few_steps_gets_the_usual_number_and_is_told(steps, lr):
    plan = recommend(1e8, **RUN | {"steps": steps, "epochs": None, "lr": lr})
    assert plan.best.value == pytest.approx(0.01, rel=1e-12)
    assert f"{steps} steps are fewer than any rule" in plan.best.note
    whole = named(plan, "over the whole run")
    assert whole.timescale == pytest.approx(100, rel=1e-12)
    assert f"clipped to 100 steps from {steps}" in whole.note
    assert all(option.timescale >= 99 for option in plan.options)


def test_a_long_run_is_not_clipped():
    assert not any("clipped" in option.note for option in recommend(11e6, **RUN).options)
    assert recommend(1e8, **RUN | {"steps": 100, "epochs": None}).best.timescale == 100


def test_a_number_of_your_own_is_judged():
    weak = recommend(11e6, **RUN, weight_decay=5e-4)
    assert any("0.0005 is inert" in note for note in weak.notes)
    strong = recommend(11e6, **RUN, weight_decay=100.0)
    assert any(
        "100 averages over 10 steps, less than a tenth of an epoch" in n for n in strong.notes
    )
    fine = recommend(11e6, **RUN, weight_decay=0.1)
    assert not any("inert" in note or "tenth" in note for note in fine.notes)
    assert named(fine, "yours").total == pytest.approx(0.5 * 39_100 * 1e-4, rel=1e-3)


def test_total_decay_follows_rule_and_schedule():
    """Corrected over a cosine removes 3/8 of steps times fraction, decoupled 1/2, constant all."""
    for decay, share in (("decoupled", 0.5), ("corrected", 0.375), ("constant", 1.0)):
        best = recommend(11e6, **RUN, decay=decay).best
        assert best.total == pytest.approx(39_100 / 3910 * share, rel=1e-3)
    best = recommend(11e6, **RUN, schedule=lambda step: 0.25).best
    assert best.total == pytest.approx(2.5, rel=1e-12)


def test_same_fraction_under_every_rule():
    for decay in ("constant", "independent", "proximal"):
        best = recommend(11e6, **RUN, decay=decay).best
        assert best.fraction == pytest.approx(1 / 3910, rel=1e-12)
    assert recommend(11e6, **RUN, decay="independent").best.value == pytest.approx(1 / 3910)


def test_rms_is_predicted_where_it_can_be():
    adam = recommend(11e6, **RUN).best
    assert adam.rms == pytest.approx(math.sqrt(1e-3 / (2 * adam.value)), rel=5e-3)
    assert recommend(11e6, **RUN, optimizer="sgd").best.rms is None
    assert recommend(11e6, **RUN, optimizer="sgd").best.rotation is not None


# --- the code -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "schedule", "decay"),
    [
        ("adamw", "cosine", "decoupled"),
        ("adamw", "wsd", "constant"),
        ("adamw", "constant", "independent"),
        ("lion", "linear", "corrected"),
        ("sgd", "cosine", "proximal"),
        ("sgd", "wsd", "decoupled"),
    ],
)
def test_pasted_code_runs_and_decays_as_promised(optimizer, schedule, decay):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    plan = recommend(model, **RUN, optimizer=optimizer, schedule=schedule, decay=decay)
    scope = {"model": model}
    exec(plan.code, scope)
    made, scheduler = scope["optimizer"], scope["scheduler"]
    described = halflife.describe(made).groups[0]
    assert described.fraction == pytest.approx(plan.best.fraction, rel=1e-12)
    assert described.rms == (None if plan.best.rms is None else pytest.approx(plan.best.rms))
    model(torch.ones(2, 3)).square().sum().backward()
    made.step()
    scheduler.step()
    assert made.param_groups[0]["lr"] <= 1e-3


def test_pasted_code_of_the_other_kinds_runs():
    model = torch.nn.Linear(3, 4)
    for known in (
        FINETUNE | {"finetune": True},
        RUN | {"momentum": 0.5},
        RUN | {"momentum": 0.5, "optimizer": "lion"},
        RUN | {"momentum": 0.0},  # torch takes no int among the betas
        {"lr": 0.1, "batch": 10, "data": 10, "epochs": 2},  # a timescale below 100 steps
        RUN | {"lr": 1.0 / 3000.0},
    ):
        plan = recommend(model, **known)
        scope = {"model": model}
        exec(plan.code, scope)
        described = halflife.describe(scope["optimizer"]).groups[0]
        assert described.peak_lr == known["lr"]
        assert described.fraction == pytest.approx(plan.best.fraction, rel=1e-5)


def test_parameters_of_a_model_are_counted():
    model = torch.nn.Linear(10, 100, bias=False)
    known = {"lr": 1e-3, "batch": 100, "data": 20_000, "unit": "tokens"}
    assert recommend(model, **known).options == recommend(1000, **known).options


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"model": 0}, "model=0: must be a model or its number of parameters"),
        ({"model": "resnet"}, "model='resnet': must be a model"),
        ({"lr": 0.0}, "lr=0.0: must be a finite number > 0"),
        ({"batch": 0}, "batch=0: must be a positive number"),
        ({"data": math.nan}, "data=nan: must be a positive number"),
        ({"steps": 10}, "steps=10, epochs=100: either says how long"),
        ({"steps": 1, "epochs": None}, "steps=1: must be an integer >= 2"),
        ({"steps": 1.5, "epochs": None}, "steps=1.5: must be an integer >= 2"),
        ({"unit": "images"}, "unit='images': must be 'samples' or 'tokens'"),
        ({"optimizer": "adafactor"}, "optimizer='adafactor': must be one of"),
        ({"decay": "l2"}, "decay='l2': must be one of constant, corrected, decoupled"),
        ({"schedule": "cosin"}, "schedule='cosin': must be one of"),
        ({"weight_decay": -1}, "weight_decay=-1: must be a number >= 0"),
        ({"weight_decay": 1000.0}, "weight_decay=1000.0 with decay='decoupled' at lr=0.001: must"),
        ({"weight_decay": 1, "decay": "constant"}, "weight_decay=1 with decay='constant'"),
    ],
)
def test_bad_input(known, message):
    known = {"model": 1e6} | RUN | known
    with pytest.raises(ValueError, match=message):
        recommend(known.pop("model"), **known)


# --- command line ---------------------------------------------------------------------------------


def invoke(*arguments):
    result = CliRunner().invoke(app, ["recommend", *map(str, arguments)], terminal_width=200)
    return result.exit_code, result.output


def test_command():
    options = [*("--parameters", 11e6, "--lr", 1e-3, "--batch", 128), *("--data", 50_000)]
    code, output = invoke(*options, "--epochs", 100)
    assert code == 0, output
    assert output.split() == str(recommend(11e6, **RUN)).split()  # wrapped to the terminal
    code, output = invoke(*options, "--epochs", 100, "--json")
    assert json.loads(output)["options"][0]["value"] == recommend(11e6, **RUN).best.value
    code, output = invoke(*options, "--unit", "bytes")
    assert (code, "--unit bytes: " in output, "Traceback" in output) == (2, True, False)
