"""Transfer rules: each factor from its definition, and how they combine."""

from __future__ import annotations

import json
import math
import re

import pytest
from typer.testing import CliRunner

from halflife.cli import app
from halflife.theory import equilibrium
from halflife.units.transfer import RULES, transfer

WD, LR = 0.1, 1e-3
EPOCHS, TOKENS = "fixed timescale in epochs", "tokens per parameter"
NORMALIZED, SQRT = "normalized weight decay", "fixed timescale, lr by the square root of the batch"
LINEAR, REPEATED = "linear scaling", "repeated data, upper end"


def found(**known):
    """Name -> (factor of the number, factor of the lr)."""
    answers = transfer(WD, **{"lr": LR} | known)
    return {a.name: (a.value / WD, a.lr / LR) for a in answers}


def table(**rows):
    return {name: tuple(pytest.approx(x, rel=1e-12) for x in pair) for name, pair in rows.items()}


@pytest.mark.parametrize(
    ("change", "factors"),
    [
        # batch x 4: the timescale in steps is a quarter, or half by the normalized rule
        (
            {"batch": (32, 128)},
            {EPOCHS: (4, 1), TOKENS: (4, 1), NORMALIZED: (2, 1), SQRT: (2, 2), LINEAR: (1, 4)},
        ),
        (
            {"batch": (32, 128), "lr_scaling": "sqrt"},
            {EPOCHS: (2, 2), TOKENS: (2, 2), NORMALIZED: (1, 2), SQRT: (2, 2)},
        ),
        (
            {"batch": (32, 128), "lr_scaling": "linear"},
            {EPOCHS: (1, 4), TOKENS: (1, 4), NORMALIZED: (0.5, 4), LINEAR: (1, 4)},
        ),
        (
            {"batch": (32, 128), "lr_scaling": "none"},
            {EPOCHS: (4, 1), TOKENS: (4, 1), NORMALIZED: (2, 1)},
        ),
        # data x 10 at the same epochs: wd / data; D^-0.473; D^-0.5
        (
            {"data": (1, 10)},
            {EPOCHS: (0.1, 1), TOKENS: (10**-0.473, 1), NORMALIZED: (10**-0.5, 1)},
        ),
        # a model 10 times larger on the same tokens has a tenth of them per parameter
        ({"parameters": (1, 10)}, {TOKENS: (10**-0.527, 1)}),
        # epochs x 4: timescale in epochs fixed
        (
            {"epochs": (2, 8)},
            {EPOCHS: (1, 1), TOKENS: (4**-0.473, 1), NORMALIZED: (0.5, 1)},
        ),
        (
            {"epochs": (1, 4)},
            {EPOCHS: (1, 1), TOKENS: (4**-0.473, 1), NORMALIZED: (0.5, 1), REPEATED: (30, 1)},
        ),
        ({"steps": (100, 400)}, {EPOCHS: (1, 1), TOKENS: (4**-0.473, 1), NORMALIZED: (0.5, 1)}),
        # twice the steps on twice the data is the same number of epochs
        (
            {"steps": (100, 200), "data": (1, 2)},
            {EPOCHS: (0.5, 1), TOKENS: (2**-0.473, 1), NORMALIZED: (2**-0.5, 1)},
        ),
        (
            {"width": (256, 1024)},
            {
                "fixed fraction, muP lr": (4, 0.25),
                "square root of the width, muP lr": (2, 0.25),
                "inverse square of the width": (1 / 16, 1),
            },
        ),
        # at the old lr one timescale is one number; at another lr the product is
        *(
            (
                {"width": (256, 1024), **at},
                {
                    "fixed fraction per step": (1 / lr, lr),
                    "inverse square of the width": (1 / 16 / lr, lr),
                },
            )
            for at, lr in (
                ({"lr_scaling": "none"}, 1),
                ({"lr": (LR, LR)}, 1),
                ({"lr": (LR, LR / 2)}, 0.5),
            )
        ),
        ({"lr": (LR, 2 * LR)}, {"fixed fraction per step": (0.5, 2)}),
    ],
    ids=str,
)
def test_factors(change, factors):
    assert found(**change) == table(**factors)


def test_answers_state_fraction_and_timescale_of_the_new_recipe():
    for answer in transfer(WD, lr=LR, batch=(32, 128)):
        assert answer.fraction == pytest.approx(answer.value * answer.lr, rel=1e-12)
        assert answer.timescale == pytest.approx(1.0 / answer.fraction, rel=1e-12)


def test_the_number_stays_in_its_convention():
    """Independent decay does not contain the lr; corrected decay at the peak is torch's."""
    independent = {a.name: a.value for a in transfer(1e-4, lr=LR, rule="composer", batch=(1, 4))}
    assert independent[EPOCHS] == pytest.approx(4e-4, rel=1e-12)
    assert independent[SQRT] == pytest.approx(4e-4, rel=1e-12)
    (only,) = transfer(1e-4, lr=(LR, 5 * LR), rule="independent")
    assert only.value == pytest.approx(1e-4, rel=1e-12)
    half_life = {a.name: a.value for a in transfer(1e5, lr=LR, rule="half_life", batch=(1, 4))}
    assert half_life[EPOCHS] == pytest.approx(25_000, rel=1e-4)
    l2 = {a.name: a.value for a in transfer(5e-4, lr=0.1, rule="l2", batch=(1, 4))}
    assert l2[LINEAR] == pytest.approx(5e-4, rel=1e-12)


def test_optimizer_keeps_timescale_or_rotation():
    known = {"lr": (LR, 2e-4), "optimizer": ("adamw", "lion")}
    timescale, rotation = transfer(WD, **known)
    assert timescale.value == pytest.approx(0.5, rel=1e-12)
    assert timescale.fraction == pytest.approx(1e-4, rel=1e-12)
    memory = equilibrium.effective_momentum(equilibrium.sign_memory(0.9, 0.99))
    turned = equilibrium.rotation(rotation.fraction, memory)
    assert turned == pytest.approx(equilibrium.rotation(1e-4, 0.9), rel=1e-10)
    # Both momenta equal: the rotation is a function of the fraction alone.
    _, same = transfer(WD, lr=(LR, 0.5), optimizer=("adam", "sgd"), momentum=0.9)
    assert same.fraction == pytest.approx(1e-4, rel=1e-10)


@pytest.mark.parametrize(
    ("pair", "word"),
    [
        (("adamw", "lion"), "Chen et al. 2023"),
        (("lion", "adam"), "Chen et al. 2023"),
        (("sgd", "adam"), "SGDW and AdamW"),
        (("adamw", "sgd"), "SGDW and AdamW"),
        (("lion", "sgd"), None),
        (("sgd", "lion"), None),
    ],
)
def test_a_source_is_of_the_pair_it_speaks_of(pair, word):
    answers = {a.name: a for a in transfer(1e-3, lr=(1e-2, 1e-3), optimizer=pair)}
    assert ("fixed timescale" in answers) == (word is not None)
    assert {"fixed rotation per step"} <= set(answers)
    if word is not None:
        found = answers["fixed timescale"]
        assert word in found.source
        assert found.fraction == pytest.approx(1e-5, rel=1e-12)
    if "lion" not in pair:
        assert not any("Lion" in a.source + a.note for a in answers.values() if a.name[6] == "t")


@pytest.mark.parametrize("momentum", [None, 0.9, 0.5, 0.0])
@pytest.mark.parametrize("new", ["adam", "adamw", "lion"])
def test_l2_at_another_optimizer_names_the_call_that_answers(new, momentum):
    known = {"lr": (0.1, 1e-3), "optimizer": ("sgd", new)}
    with pytest.raises(ValueError, match="rule='l2'") as error:
        transfer(5e-4, rule="l2", momentum=momentum, **known)
    call = re.search(r"call (transfer\(.*?\)), and use a decoupled rule", str(error.value))[1]
    answers = eval(call, {"transfer": transfer})
    old = 0.1 * 5e-4 / (1 - (0.9 if momentum is None else momentum))
    turned = [a for a in answers if a.name == "fixed timescale"]
    assert len(turned) == (new != "lion")
    for answer in turned:
        assert answer.fraction == pytest.approx(old, rel=1e-5)


@pytest.mark.parametrize("pair", [("adam", "sgd"), ("adam", "lion"), ("lion", "sgd")])
def test_l2_of_an_adaptive_optimizer_names_one_too(pair):
    with pytest.raises(ValueError, match="no number of it removes a known fraction") as error:
        transfer(5e-4, rule="l2", lr=(1e-3, 0.1), optimizer=pair)
    call = re.search(r"call (transfer\(.*?\)), or give", str(error.value))[1]
    for answer in eval(call, {"transfer": transfer}):
        assert 0 < answer.fraction < 1e-3


def test_l2_without_an_optimizer_says_how_it_is_read():
    for answer in transfer(5e-4, lr=0.1, rule="l2", batch=(1, 4)):
        assert "read as L2 of SGD with momentum 0.9" in answer.note
    for answer in transfer(5e-4, lr=(0.1, 0.2), rule="l2", momentum=0.5):
        assert "momentum 0.5" in answer.note
        assert answer.fraction == pytest.approx(0.1 * 5e-4 / 0.5, rel=1e-12)


def test_what_a_rule_does_not_cover_is_said():
    for answer in transfer(WD, lr=LR, batch=(1, 2), width=(1, 2)):
        missing = "batch" if "width" in answer.name or "muP" in answer.name else "width"
        assert f"says nothing of {missing}" in answer.note


def test_every_rule_is_reached_and_unverified_ones_say_so():
    reached = set()
    for known in (
        {"lr": (LR, 2 * LR)},
        {"lr": LR, "batch": (1, 2), "width": (1, 2), "epochs": (1, 2)},
        {"lr": (LR, LR), "optimizer": ("adam", "sgd")},
    ):
        for answer in transfer(WD, **known):
            reached.add(answer.name)
            assert answer.verified is ("unverified" not in answer.note)
            assert answer.source
            assert answer.validity
    assert reached == {rule.name for rule in RULES}


def test_no_decay_stays_none():
    assert all(a.value == 0.0 for a in transfer(0.0, lr=LR, batch=(1, 2)))
    assert all(a.value == 0.0 for a in transfer(0.0, lr=(LR, LR), optimizer=("adam", "lion")))


def test_outside_the_range_there_is_no_number():
    answers = {a.name: a for a in transfer(0.5, lr=0.5, batch=(1, 8))}
    assert math.isnan(answers[EPOCHS].value)
    assert "outside the range" in answers[EPOCHS].note


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({}, r"nothing changes: pass what does as \(old, new\)"),
        ({"batch": (32, 32)}, "nothing changes"),
        ({"batch": 32}, r"batch=32: must be a pair \(old, new\) of positive numbers"),
        ({"batch": (32, 0)}, r"batch=\(32, 0\): must be a pair"),
        ({"data": (1, math.nan)}, r"data=\(1, nan\): must be a pair"),
        ({"lr": (1e-3, -1.0)}, r"lr=\(0.001, -1.0\): must be a pair"),
        ({"lr": 0.0, "batch": (1, 2)}, "lr=0.0: must be a finite number > 0"),
        ({"batch": (1, 2), "lr_scaling": "cube"}, "lr_scaling='cube': must be one of none, sqrt"),
        ({"lr": (1.0, 2.0), "lr_scaling": "sqrt"}, "leave one of the two out"),
        ({"optimizer": ("adam", "lion")}, r"lr=0.001: learning rates of different optimizers"),
        ({"optimizer": "lion", "lr": (1e-3, 1e-4)}, r"optimizer='lion': must be a pair"),
        ({"optimizer": ("adam", "lyon"), "lr": (1e-3, 1e-4)}, "optimizer='lyon': must be one of"),
        ({"batch": (1, 2), "rule": "tocrh"}, "rule='tocrh': unknown convention"),
        ({"batch": (1, 2), "rule": "adam"}, "rule='adam' has no conversion"),
        (
            {"batch": (1, 2), "epochs": (1, 2), "steps": (1, 2)},
            "steps: their ratio 2 contradicts data, epochs and batch, which make it 1",
        ),
    ],
)
def test_bad_input(known, message):
    with pytest.raises(ValueError, match=message):
        transfer(WD, **{"lr": LR} | known)


@pytest.mark.parametrize("value", [-0.1, math.nan, "0.1", None])
def test_bad_weight_decay(value):
    with pytest.raises(ValueError, match=r"weight_decay=.*must be a number >= 0"):
        transfer(value, lr=LR, batch=(1, 2))


# --- command line ---------------------------------------------------------------------------------


def invoke(*arguments):
    result = CliRunner().invoke(app, ["transfer", *map(str, arguments)], terminal_width=200)
    return result.exit_code, result.output


def test_command():
    code, output = invoke(WD, "--lr", LR, "--batch", 256, 1024)
    assert code == 0, output
    assert "8,333" not in output
    assert "2,500 steps" in output  # 1 / (0.1 * 1e-3) / 4
    assert "Wang & Aitchison" in output
    code, output = invoke(WD, "--lr", LR, "--new-lr", 2e-4, "--optimizer", "adam", "lion", "--json")
    assert [a["name"] for a in json.loads(output)] == ["fixed timescale", "fixed rotation per step"]


def test_command_explains():
    code, output = invoke(WD, "--lr", LR)
    assert (code, "nothing changes" in output, "Traceback" in output) == (2, True, False)
