"""What trainings tell of themselves: how long they are, what their curves count, who steps."""

from __future__ import annotations

import math

import pytest
import torch
from test_sweep import swept, valley

from halflife.lab.report.summary import what_ran
from halflife.lab.statistics.sentence import differences
from halflife.lab.sweeping.told import length_told, optimizer_told


def by_a_framework(trial, epochs=3, per_epoch=8):
    """Steps of an optimizer of the trial, counted as a framework's loop counts them."""
    optimizer = trial.optimizer([torch.nn.Parameter(torch.zeros(2, 2))])
    of = epochs * per_epoch
    for step in range(1, of + 1):
        optimizer.step()
        if step % per_epoch == 0:
            trial.report(step, loss=1 / step)
            trial.advance(step, of, epochs=epochs)
    return valley(trial.lr, trial.weight_decay, trial.seed)


def length(meta):
    return meta.epochs, meta.steps, meta.steps_per_epoch, meta.curve_unit


def test_a_frameworks_steps_are_no_epochs_and_the_answer_for_more_epochs_follows():
    result = swept(by_a_framework, seeds=3, extend=False)
    assert length(result.meta) == (3, 24, 8, "step")
    assert "A training: 3 epochs of 8 steps." in what_ran(result.analysis, result.meta)
    plan = result.recommend(epochs=30)
    assert plan == result.recommend(epochs=(3, 30))
    # A half-life of ln 2 / 1e-4; ten times the steps leave it, or make it sqrt(10) times as long.
    life = math.log(2) / 1e-4
    assert plan.range == pytest.approx((life, life * math.sqrt(10)), rel=1e-3)


def test_a_loop_that_counts_without_epochs_has_none():
    def train(trial):
        for step in (8, 16, 24):
            trial.report(step, loss=1 / step)
            trial.advance(step, 24)
        return valley(trial.lr, trial.weight_decay, trial.seed)

    assert length(swept(train, confirm=0).meta) == (None, None, None, "step")


@pytest.mark.parametrize(("placed", "unit"), [(True, "step"), (False, "epoch")])
def test_a_curves_unit_is_an_epoch_where_epochs_placed_it(placed, unit):
    def train(trial):
        for epoch in trial.epochs(3):
            trial.report(100 * (epoch + 1) if placed else None, loss=1.0)
        return valley(trial.lr, trial.weight_decay, trial.seed)

    assert length(swept(train, confirm=0).meta) == (3, None, None, unit)


def test_what_a_training_says_of_itself_wins():
    """One of the lab's own: a user's function may have an attribute of that name for itself."""
    record = {
        "status": "done",
        "steps": 24,
        "epochs": 3,
        "curve_unit": "step",
        "curve": {"step": []},
    }
    about = {"curve_unit": "game", "epochs": 6, "schedule": "cosine"}
    told = {**about, "steps": 24, "steps_per_epoch": 4}
    assert length_told([{**record, "progress": 1.0}], about) == told
    by_a_framework.about = about
    try:
        meta = swept(by_a_framework, confirm=0).meta
    finally:
        del by_a_framework.about
    assert length(meta) == (3, 24, 8, "step")


def test_what_is_cut_short_does_not_hide_the_length():
    done = {"status": "done", "steps": 24, "epochs": 3, "progress": 1.0, "curve_unit": None}
    paused = {**done, "status": "pruned", "steps": 16, "epochs": 2, "progress": 2 / 3}
    assert length_told([paused, done], {})["steps_per_epoch"] == 8
    assert length_told([paused], {})["steps_per_epoch"] == 8
    # Of a ledger before it was written down what a curve counts.
    old = {"status": "done", "steps": 24, "epochs": 3, "curve": {"step": [1]}}
    assert length_told([old], {}) | {"epochs": 3} == length_told([old], {})
    assert length_told([old], {})["curve_unit"] == "epoch"


def plain_sgd(lr, weight_decay, seed):
    """Decay that is no rule's: L2 of an optimizer that nobody sees."""
    weight = torch.nn.Parameter(torch.ones(2))
    torch.optim.SGD([weight], lr=lr, momentum=0.9, weight_decay=weight_decay)
    return valley(lr, weight_decay, seed)


def test_of_an_optimizer_that_nobody_has_seen_nothing_is_said():
    result = swept(plain_sgd, default=None, name="my SGD", seeds=3)
    assert result.sentence.startswith(
        "On my SGD, weight decay helps: lr 1e-2 and weight_decay 1e-2 gives loss "
    )
    assert (result.meta.optimizer, result.meta.default_decay) == (None, None)
    assert (result.best.half_life, differences(result.analysis, result.meta)) == (None, [])
    with pytest.raises(ValueError, match=r"made their optimizer unseen: make it by trial\.optim"):
        result.recommend(steps=(1, 2))


def test_an_optimizer_that_is_stated_is_told_of():
    result = swept(plain_sgd, default=None, optimizer="adamw", seeds=3, weight_decay=[1e-3, 1e-1])
    assert result.sentence.startswith("On test_told:plain_sgd with adamw, ")
    assert "half-life of " in result.sentence
    assert result.meta.default_decay == 0.01
    asked = swept(plain_sgd, default=True, confirm=0)
    assert (asked.meta.optimizer, asked.meta.default_decay) == (None, 0.01)


@pytest.mark.parametrize(("base", "default"), [(None, 0.01), ("sgd", None)])
def test_torchs_default_is_compared_with_once_the_optimizer_is_seen_to_be_its(base, default):
    def train(trial):
        trial.optimizer(torch.nn.Linear(2, 2), base)
        return valley(trial.lr, trial.weight_decay, trial.seed)

    result = swept(train, default=None, weight_decay=[1e-3, 1e-1], extend=False)
    assert (result.meta.optimizer, result.meta.default_decay) == (base or "adamw", default)
    trained = [c for c in result.cells() if c["weight_decay"] == 0.01]
    assert len(trained) == (3 * 2 + 3 if default else 0)
    assert result.sentence.startswith(f"On test_told:train with {base or 'adamw'}, ")


def test_records_without_an_optimizer_are_read_as_before():
    assert optimizer_told([{"status": "done"}], None, "adamw") == "adamw"
    seen = [{"status": "done", "optimizer": name} for name in ("sgd", "adamw")]
    assert optimizer_told(seen, "adamw", "adamw") is None  # more than one
    failed = {"status": "failed", "optimizer": "lion"}
    assert optimizer_told([failed], None, "adamw") is None
    assert optimizer_told([failed], "sgd", "adamw") == "sgd"
