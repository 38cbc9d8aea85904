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
    plan = result.recommend(rule="decoupled", batch=(64, 256), width=(128, 512))
    expected = transfer(
        best.half_life, lr=1e-2, rule="half_life", batch=(64, 256), width=(128, 512)
    )
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

    plan = swept(train, extend=False, seeds=3).recommend(batch=(64, 256))
    assert plan.caveats[0].startswith("The sweep tells no difference between decay and none")
