"""Which cells are trained: two stages, halving, Optuna's samplers; decided by records alone."""

from __future__ import annotations

import math
from collections import deque

import optuna
import pytest
from test_sweep import cells, swept, valley

from halflife import lab
from halflife.lab.sweeping.samplers import sampler_of


def by_setting(result, *, fresh=False):
    seeds = {}
    for c in result.cells():
        if (c["seed"] >= 10_000) == fresh:
            key = (c["rule"], c["lr"], c["weight_decay"])
            seeds.setdefault(key, []).append(c["seed"])
    return seeds


def test_two_stages_give_all_seeds_to_the_best_alone():
    result = swept(sampler=lab.TwoStage(keep=2), seeds=4)
    seeds = by_setting(result)
    assert len(seeds) == 12  # each setting has the first seed
    whole = {key for key, s in seeds.items() if sorted(s) == [0, 1, 2, 3]}
    assert all(s == [0] for key, s in seeds.items() if key not in whole)
    own = sorted((s for s in seeds if s[0] == "decoupled"), key=lambda s: valley(*s[1:], 0))[:2]
    none = sorted((s for s in seeds if s[0] == "none"), key=lambda s: valley(*s[1:], 0))[:2]
    assert whole == {*own, *none}
    assert (result.best.lr, result.best.weight_decay) == (1e-2, 1e-2)
    assert result.confirmed is not None


def curved(trial):
    """Ten epochs in which every training comes down to its place in the valley."""
    loss = math.nan
    for epoch in trial.epochs(10):
        loss = valley(trial.lr, trial.weight_decay, trial.seed) + 5 * (1 - (epoch + 1) / 10)
        trial.report(loss=loss)
    return loss


def test_halving_stops_all_at_a_share_and_trains_the_best_third_on(tmp_path):
    result = swept(curved, sampler=lab.Halving(at=0.4, keep=1 / 3), out=tmp_path)
    pruned = [c for c in result.cells() if c["status"] == "pruned"]
    done = [c for c in result.cells() if c["status"] == "done" and c["seed"] < 10_000]
    assert {(c["progress"], tuple(c["curve"]["step"])) for c in pruned} == {(0.4, (1, 2, 3, 4))}
    assert {tuple(c["curve"]["step"]) for c in done} == {tuple(range(1, 11))}
    kept = {(c["rule"], c["lr"], c["weight_decay"]) for c in done}
    own = [(1e-2, 1e-2), *[p for p in ((1e-3, 1e-2), (1e-1, 1e-2), (1e-2, 1e-3), (1e-2, 1e-1))]]
    assert sum(k[0] == "decoupled" for k in kept) == 3
    assert {k[1:] for k in kept if k[0] == "decoupled"} <= set(own)
    assert sum(k[0] == "none" for k in kept) == 1
    assert len({(c["rule"], c["lr"], c["weight_decay"], c["seed"]) for c in result.cells()}) == len(
        result.cells()
    )
    assert (result.best.lr, result.best.weight_decay) == (1e-2, 1e-2)
    again = swept(curved, sampler=lab.Halving(at=0.4, keep=1 / 3), out=tmp_path, resume=True)
    assert again.cells() == result.cells()


def test_a_training_without_epochs_is_never_stopped():
    result = swept(sampler="halving")
    assert {c["status"] for c in result.cells()} == {"done"}


@pytest.mark.parametrize("bad", [0.3, 1.0, 0.0])
def test_nothing_is_pruned_before_a_third(bad):
    with pytest.raises(ValueError, match=r"^at must be a share of the training from 1/3"):
        lab.Halving(at=bad)


@pytest.mark.parametrize(
    "sampler",
    [
        lambda: lab.Optuna(trials=6, at_once=2),
        lambda: lab.Optuna(optuna.samplers.RandomSampler(seed=3), trials=6),
        lambda: lab.Optuna(optuna.samplers.QMCSampler(seed=1), trials=6),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optuna_is_asked_and_told(sampler):
    result = swept(sampler=sampler(), seeds=2)
    seeds = by_setting(result)
    asked = [s for s in seeds if s[0] == "decoupled"]
    assert len(asked) == 6
    assert all(sorted(seeds[s]) == [0, 1] for s in asked)
    assert all(1e-3 <= lr <= 1e-1 and 1e-3 <= wd <= 1e-1 for _, lr, wd in asked)
    assert {s for s in seeds if s[0] == "none"} == {("none", lr, 0.0) for lr in (1e-3, 1e-2, 1e-1)}
    best = min(asked, key=lambda s: valley(*s[1:], 0) + valley(*s[1:], 1))
    assert (result.best.lr, result.best.weight_decay) == best[1:]


def test_optuna_learns_from_what_it_is_told():
    """TPE's later asks lie nearer to the bottom than its first ten, which are random."""
    result = swept(sampler=lab.Optuna(trials=40, at_once=1), seeds=1, confirm=0)
    order = [c for c in result.cells() if c["rule"] == "decoupled"]
    away = [valley(c["lr"], c["weight_decay"], 0, noise=0.0) - 10 for c in order]
    assert sum(away[30:]) / 10 < 0.5 * sum(away[:10]) / 10


def test_a_sweep_by_optuna_that_is_cut_asks_the_same(tmp_path):
    whole = swept(sampler=lab.Optuna(trials=9, at_once=2), out=tmp_path / "whole")
    calls = deque()  # no plain data, which would be part of the training

    def train(lr, weight_decay, seed):
        calls.append(0)
        if len(calls) % 6 == 0:
            raise KeyboardInterrupt
        return valley(lr, weight_decay, seed)

    for _ in range(40):
        try:
            cut = swept(
                train, sampler=lab.Optuna(trials=9, at_once=2), out=tmp_path / "cut", resume=True
            )
            break
        except lab.Interrupted:
            continue
    assert cells(cut) == cells(whole)


def test_names():
    assert [str(sampler_of(n)) for n in ("grid", "two-stage", "halving", "optuna")] == [
        "grid", "two-stage", "halving", "optuna",
    ]  # fmt: skip
    assert str(sampler_of(optuna.samplers.RandomSampler())) == "optuna"


# --- one ledger, several samplers -----------------------------------------------------------------


def turning(trial):
    """Ten epochs that get worse after the fourth, by more where they had come further."""
    for epoch in trial.epochs(10):
        place = valley(trial.lr, trial.weight_decay, trial.seed)
        trial.report(loss=place + (0 if epoch < 4 else (13 - place) * (epoch - 3)))


def done(result):
    return {
        (c["rule"], c["lr"], c["weight_decay"]) for c in result.cells()
        if c["status"] == "done" and c["seed"] < 10_000
    }  # fmt: skip


def test_halving_judges_by_what_was_there_at_the_share_and_not_by_the_end():
    result = swept(turning, sampler="halving", confirm=0)
    assert len(done(result)) == 3 + 1
    assert done(result) == done(swept(curved, sampler="halving", confirm=0))


@pytest.mark.parametrize(
    "step", [lambda epoch: epoch, lambda epoch: 50 * (epoch + 1), lambda epoch: None]
)
@pytest.mark.parametrize("every", [1, 2, 3])
def test_halving_reads_the_curve_whatever_its_steps_count(step, every):
    def train(trial):
        place = valley(trial.lr, trial.weight_decay, trial.seed)
        for epoch in trial.epochs(10):
            if epoch % every == 0:
                trial.report(step=step(epoch), loss=place if epoch < 4 else 50 - place)

    assert len(done(swept(train, sampler="halving", confirm=0))) == 3 + 1


def test_halving_judges_trainings_of_several_lengths_each_by_its_own():
    def train(trial):
        place = valley(trial.lr, trial.weight_decay, trial.seed) + 5 * (trial["n"] == 20)
        for epoch in trial.epochs(trial["n"]):
            late = epoch >= 0.4 * trial["n"]
            trial.report(loss=50 - place if late else place)

    result = swept(train, sampler=lab.Halving(keep=0.5), confirm=0, params={"n": [10, 20]})
    kept = [c for c in result.cells() if c["status"] == "done"]
    assert len(kept) == 2 * (9 + 3)  # seeds; half of 18 settings, and of 6 without decay
    assert {c["params"]["n"] for c in kept if c["rule"] == "decoupled"} == {10}


def test_halving_stops_none_for_a_metric_that_is_told_at_the_end_alone():
    def train(trial):
        for _ in trial.epochs(10):
            trial.report(other=1.0)
        return {"loss": valley(trial.lr, trial.weight_decay, trial.seed)}

    result = swept(train, sampler="halving", confirm=0)
    assert {c["status"] for c in result.cells()} == {"done"}


@pytest.mark.parametrize("sampler", ["grid", "two-stage", lab.Optuna(trials=4)])
def test_what_halving_stopped_is_trained_on_by_others(tmp_path, sampler):
    options = {"confirm": 0, "extend": False}
    swept(curved, sampler="halving", out=tmp_path, **options)
    result = swept(curved, sampler=sampler, out=tmp_path, resume=True, **options)
    alone = swept(curved, sampler=sampler, **options)
    ended = {(c["rule"], c["lr"], c["weight_decay"], c["seed"]) for c in result.cells()
             if c["status"] == "done"}  # fmt: skip
    assert set(cells(alone)) <= ended
    if sampler != "grid":
        return
    assert cells(result) == cells(alone)
    assert result.sentence == alone.sentence


def test_optuna_asks_for_nothing_whose_step_removes_whole_weights():
    def train(trial):
        assert trial.lr * trial.weight_decay < 1, "whole weights"
        return valley(trial.lr, trial.weight_decay, trial.seed)

    result = swept(
        train, sampler=lab.Optuna(trials=20), lr=[0.1, 1.0], weight_decay=[0.1, 10.0], seeds=1,
        confirm=0,
    )  # fmt: skip
    assert {c["status"] for c in result.cells()} == {"done"}
    assert sum(c["rule"] == "decoupled" for c in result.cells()) == 20


def test_optuna_ends_where_nothing_can_be_built():
    result = swept(
        sampler=lab.Optuna(trials=3), lr=[1.0], weight_decay=[1.0, 10.0], seeds=1, confirm=0
    )
    assert {c["rule"] for c in result.cells()} == {"none"}


def test_a_parameter_may_be_called_decay():
    result = swept(
        lambda trial: valley(trial.lr, trial.weight_decay, trial.seed),
        sampler=lab.Optuna(trials=3), params={"decay": ["linear", "cosine"]}, confirm=0,
    )  # fmt: skip
    assert result.best is not None
