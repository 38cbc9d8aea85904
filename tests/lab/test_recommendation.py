"""From a small sweep to a large run: the half-life found, by every published rule."""

from __future__ import annotations

import math
import re

import pytest
import torch
from test_sweep import swept, valley

import halflife
from halflife.units.transfer import transfer


@pytest.fixture(scope="module")
def result():
    """A training of 40 steps, best at lr 1e-2 and weight_decay 1e-2 under either rule."""

    def train(trial):
        weight = torch.nn.Parameter(torch.zeros(2))
        optimizer = trial.optimizer([weight])
        for _ in range(4):
            optimizer.step()
        return valley(trial.lr, trial.weight_decay, trial.seed)

    return swept(train, rules=["decoupled", "l2"], extend=False, seeds=3)


def test_every_answer_is_that_of_transfer_on_the_half_life(result):
    best = next(r.best for r in result.analysis.rules if r.rule == "decoupled")
    assert best.half_life == pytest.approx(math.log(2) / -math.log1p(-1e-4))
    plan = result.recommend(rule="decoupled", batch=(64, 256))
    expected = transfer(best.half_life, lr=1e-2, rule="half_life", batch=(64, 256))
    assert plan.partial == ()
    assert [(a.name, a.value) for a in plan.answers] == [(a.name, a.value) for a in expected]
    values = [a.value for a in expected]
    assert plan.range == (min(values), max(values))
    assert plan.range[0] <= plan.middle.value <= plan.range[1]


def test_a_number_alone_is_the_new_one_where_the_sweep_knows_its_own(result):
    plan = result.recommend(rule="decoupled", steps=400)
    pair = result.recommend(rule="decoupled", steps=(4, 400))
    assert plan == pair
    assert plan.run == 400
    with pytest.raises(ValueError, match=r"batch=512: the sweep does not know its own batch"):
        result.recommend(rule="decoupled", batch=512)


def test_the_code_makes_the_middle_answer(result):
    plan = result.recommend(rule="decoupled", batch=(64, 256))
    model = torch.nn.Linear(3, 2)
    space = {"halflife": halflife, "model": model}
    exec(plan.code, space)
    group = space["optimizer"].param_groups[0]
    fraction = group["lr"] * group["weight_decay"]
    assert math.log(2) / -math.log1p(-fraction) == pytest.approx(plan.middle.value, rel=6e-3)
    text = str(plan)
    assert plan.code in text
    assert re.search(r"half-life of 6,900 steps \(rule decoupled\)", text)


def test_what_cannot_be_handed_on_is_said(result):
    with pytest.raises(
        ValueError, match=r"rule='l2': its best setting has no half-life .*decoupled"
    ):
        result.recommend(rule="l2", batch=(64, 256))
    with pytest.raises(ValueError, match=r"rule='stable': must be one of those that were swept"):
        result.recommend(rule="stable", batch=(64, 256))
    with pytest.raises(ValueError, match="nothing changes"):
        result.recommend(rule="decoupled")


def test_where_decay_makes_no_difference_that_is_said_first():
    def train(lr, weight_decay, seed):
        return 10 + math.log10(lr / 1e-2) ** 2 + math.sin(1e4 * (seed + lr + weight_decay))

    plan = swept(train, optimizer="adamw", extend=False, seeds=3).recommend(batch=(64, 256))
    assert plan.caveats[0].startswith("The sweep tells no difference between decay and none")


def lonely(trial):
    """Its optimizer is made by the trial, and its loss is the valley's."""
    settings = {n: trial[n] for n in ("momentum",) if n in trial.params}
    optimizer = trial.optimizer(torch.nn.Linear(2, 2), **settings)
    optimizer.step()
    return valley(trial.lr, trial.weight_decay, trial.seed) + sum(trial.params.values())


def built(plan):
    """What the code makes."""
    space = {"halflife": halflife, "model": torch.nn.Linear(3, 2), "YourOptimizer": torch.optim.SGD}
    exec(plan.code, space)
    return space["optimizer"]


def test_what_covers_a_part_of_the_change_is_no_answer_to_all_of_it(result):
    plan = result.recommend(rule="decoupled", batch=(64, 256), width=(128, 512))
    best = next(r.best for r in result.analysis.rules if r.rule == "decoupled")
    expected = transfer(
        best.half_life, lr=1e-2, rule="half_life", batch=(64, 256), width=(128, 512)
    )
    assert [(a.name, a.value) for a in plan.partial] == [(a.name, a.value) for a in expected]
    assert all(a.silent in (("batch",), ("width",)) for a in expected)
    assert (plan.answers, plan.range, plan.middle, plan.code) == ((), None, None, "")
    text = str(plan)
    assert "No published rule covers batch and width together, so that no single number" in text
    # 1/4 of it, or 1/2, by the batch; the same, twice or 16 times it by the width.
    assert "Of batch alone: 1,700 to 3,500 steps." in text
    assert "Of width alone: 6,900 to 1.1e5 steps." in text
    for word in ("try both ends", "halflife.AdamW", "range from"):
        assert word not in text


def test_rules_of_a_part_stand_apart_from_those_of_the_whole(result):
    plan = result.recommend(rule="decoupled", batch=(64, 256), parameters=(1e6, 4e6))
    assert [a.name for a in plan.answers] == ["tokens per parameter"]
    assert {a.silent for a in plan.partial} == {("parameters",)}
    assert plan.range == (plan.answers[0].value,) * 2
    assert plan.middle == plan.answers[0]
    text = str(plan)
    assert "One published rule covers the change: a half-life of " in text
    assert text.index(plan.code) < text.index("cover a part of the change")


def test_each_rules_note_is_printed_and_whether_it_is_verified(result):
    plan = result.recommend(rule="decoupled", batch=(64, 256))
    lines = str(plan).splitlines()
    assert {a.verified for a in plan.answers} == {True, False}
    for a in plan.answers:
        (line,) = [x for x in lines if x.startswith(f"{a.name}  ")]
        assert ("unverified" if not a.verified else "checked") in line
        assert line.endswith(a.note or "-")


def test_rules_that_would_remove_whole_weights_are_named(result):
    plan = result.recommend(rule="decoupled", batch=(1, 1e5))
    assert any("fixed timescale in epochs" in c and "Left out" in c for c in plan.caveats)
    assert [a.name for a in plan.answers] == ["normalized weight decay"]


def test_names_are_checked_first(result):
    with pytest.raises(TypeError, match=r"^foo=3: is no change that recommend knows; pass one of "):
        result.recommend(rule="l2", foo=3)
    with pytest.raises(TypeError, match=r"^bach=\(1, 2\): .*; did you mean 'batch'\?$"):
        result.recommend(bach=(1, 2))


def test_the_sweep_knows_its_own_lr_and_optimizer(result):
    plan = result.recommend(rule="decoupled", lr=1e-3)
    assert plan == result.recommend(rule="decoupled", lr=(1e-2, 1e-3))
    assert plan.middle.lr == pytest.approx(1e-3)
    lion = result.recommend(rule="decoupled", optimizer="lion", lr=1e-3)
    assert lion == result.recommend(rule="decoupled", optimizer=("adamw", "lion"), lr=(1e-2, 1e-3))
    assert type(built(lion)).__name__ == "Lion"
    with pytest.raises(ValueError, match=r"width=512: the sweep does not know its own width"):
        result.recommend(rule="decoupled", width=512)
    assert result.recommend(rule="decoupled", momentum=0.95, steps=8).answers


@pytest.mark.parametrize(
    ("options", "name", "group"),
    [
        ({"settings": {"betas": (0.8, 0.9), "eps": 1e-6}}, "AdamW",
         {"betas": (0.8, 0.9), "eps": 1e-6}),
        ({"optimizer": "sgd"}, "SGD", {"momentum": 0.9}),
        ({"optimizer": "sgd", "settings": {"momentum": 0.0}}, "SGD", {"momentum": 0.0}),
        ({"optimizer": "sgd", "params": {"momentum": [0.5, 0.8]}}, "SGD", {"momentum": 0.5}),
    ],
)  # fmt: skip
def test_the_code_has_the_sweeps_optimizer_and_its_settings(options, name, group):
    plan = swept(lonely, extend=False, confirm=0, **options).recommend(steps=10)
    optimizer = built(plan)
    assert type(optimizer).__name__ == name
    assert {key: optimizer.param_groups[0][key] for key in group} == group
    assert "#" not in plan.code


def test_what_is_no_setting_of_the_optimizer_is_named():
    options = {"extend": False, "confirm": 0, "settings": {"betas": (0.8, 0.9)}}
    result = swept(lonely, params={"width": [1, 4]}, **options)
    plan = result.recommend(steps=10)
    assert plan.code.startswith("# Swept too, and none of the settings below: width=1.\n")
    assert built(plan).param_groups[0]["betas"] == (0.8, 0.9)
    lion = result.recommend(optimizer="lion", lr=1e-3).code
    assert "# Of the sweep's adamw, not carried over: betas=(0.8, 0.9).\n" in lion
    assert "halflife.Lion(" in lion


def test_of_an_optimizer_that_is_stated_the_swept_settings_are_its_own():
    def train(lr, weight_decay, seed, momentum):
        return valley(lr, weight_decay, seed) + momentum

    options = {"extend": False, "confirm": 0, "params": {"momentum": [0.5, 0.8]}}
    plan = swept(train, optimizer="sgd", **options).recommend(steps=(1, 10))
    assert built(plan).param_groups[0]["momentum"] == 0.5


def test_of_an_optimizer_of_ones_own_the_code_attaches_the_rule():
    def train(trial):
        weight = torch.nn.Parameter(torch.zeros(2))
        halflife.attach(torch.optim.SGD([weight], lr=trial.lr), trial.decay)
        return valley(trial.lr, trial.weight_decay, trial.seed)

    plan = swept(train, extend=False, confirm=0).recommend(steps=(4, 40))
    group = built(plan).param_groups[0]
    fraction = group["lr"] * group["weight_decay"]
    assert math.log(2) / -math.log1p(-fraction) == pytest.approx(plan.middle.value, rel=6e-3)
