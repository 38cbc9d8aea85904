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
