"""A sweep: what is trained, what is recorded, what happens when trainings fail or are cut short."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections import deque

import numpy as np
import pytest
import torch

from halflife import lab
from halflife.lab.executors import Done
from halflife.lab.executors.base import Executor
from halflife.lab.ledger import Ledger
from halflife.lab.sweeping.display import Display
from halflife.lab.sweeping.driver import Driver
from halflife.lab.sweeping.plan import CONFIRM_FROM
from halflife.lab.trials.cell import Cell, Outcome
from halflife.rules.contract import as_rule
from halflife.rules.step import Step

VALLEY = {"lr": 1e-2, "weight_decay": 1e-2}


def valley(lr, weight_decay, seed, center=(1e-2, 1e-2), noise=0.01):
    """A loss that is lowest where it should be, with noise that no two seeds share."""
    loss = math.log10(lr / center[0]) ** 2
    loss += math.log10(max(weight_decay, 1e-6) / center[1]) ** 2
    return 10 + loss + noise * math.sin(1000 * seed + 37 * lr + 11 * weight_decay)


def swept(train=valley, **options):
    known = {
        "lr": [1e-3, 1e-2, 1e-1],
        "weight_decay": [1e-3, 1e-2, 1e-1],
        "seeds": 2,
        "confirm": 3,
        "executor": lab.InProcess(),
        "default": False,
        "progress": False,
    }
    return lab.sweep(train, **{**known, **options})


def cells(result):
    return sorted((c["rule"], c["lr"], c["weight_decay"], c["seed"]) for c in result.cells())


# --- what is trained ------------------------------------------------------------------------------


def test_every_cell_once_no_decay_at_every_lr_and_the_finalists_on_fresh_seeds():
    result = swept()
    axis = (1e-3, 1e-2, 1e-1)
    expected = [("none", lr, 0.0, seed) for lr in axis for seed in (0, 1)]
    expected += [("decoupled", lr, wd, s) for lr in axis for wd in axis for s in (0, 1)]
    fresh = range(CONFIRM_FROM, CONFIRM_FROM + 3)
    expected += [("none", 1e-2, 0.0, s) for s in fresh]
    expected += [("decoupled", 1e-2, 1e-2, s) for s in fresh]
    assert cells(result) == sorted(expected)
    assert (result.best.lr, result.best.weight_decay) == (1e-2, 1e-2)
    assert result.confirmed.value == pytest.approx(
        sum(valley(1e-2, 1e-2, s) for s in fresh) / 3, rel=1e-12
    )
    gain = sum(valley(1e-2, 0.0, s) - valley(1e-2, 1e-2, s) for s in fresh) / 3
    assert result.confirmed.gain == pytest.approx(gain, rel=1e-12)
    assert result.verdict == "helps"
    assert str(result) == result.sentence


def test_torchs_default_is_trained_at_every_lr_and_confirmed():
    result = swept(default=True)
    column = {(c["lr"], c["seed"]) for c in result.cells() if c["weight_decay"] == 0.01}
    assert len(column) == 9  # it lies on the grid already: 3 lr x 2 seeds, and 3 fresh ones
    off = swept(default=True, weight_decay=[1e-3, 1e-1])
    column = [c for c in off.cells() if c["weight_decay"] == 0.01]
    assert len(column) == 3 * 2 + 3


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_rules_are_trained_at_equal_strength(optimizer):
    seen = []

    def train(trial):
        step = Step(trial.lr, trial.lr, trial.weight_decay, {"effective_rate": 10.0})
        seen.append((trial.rule, trial.lr, trial.weight_decay, trial.decay.fraction(step)))
        return valley(trial.lr, trial.weight_decay, trial.seed)

    swept(
        train, rules=["decoupled", "independent", "constant"], seeds=1, confirm=0, extend=False,
        optimizer=optimizer, lr=[1e-3, 1e-2, 1e-1],
    )  # fmt: skip
    at_center = [(r, wd, f) for r, lr, wd, f in seen if lr == 1e-2 and r != "none"]
    strengths = {r: sorted(f for name, _, f in at_center if name == r) for r, _, _ in at_center}
    assert strengths["decoupled"] == pytest.approx([1e-5, 1e-4, 1e-3])
    for fractions in strengths.values():
        assert fractions == pytest.approx(strengths["decoupled"])
    assert sorted(wd for r, wd, _ in at_center if r == "decoupled") == [1e-3, 1e-2, 1e-1]
    assert sorted(wd for r, wd, _ in at_center if r == "independent") == pytest.approx(
        [1e-5, 1e-4, 1e-3]
    )


def test_strengths_may_be_given_and_whole_weights_are_left_out():
    result = swept(weight_decay=None, strength=[1e-2, 0.5], rules=["decoupled"], extend=False)
    grid = [c for c in result.cells() if c["rule"] == "decoupled" and c["seed"] == 0]
    assert all(c["lr"] * c["weight_decay"] < 1 for c in grid)
    assert len(grid) == 5  # strength 0.5 at 10 times the central lr would remove all
    assert result.meta.omitted == {"decoupled": 1}
    assert {c["strength"] for c in grid} == {1e-2, 0.5}


def measured(trial):
    """A linear model under a falling lr, its gradients those of a fixed vector."""
    torch.manual_seed(trial.seed)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = trial.optimizer([weight])
    for step in range(4):
        for group in optimizer.param_groups:
            group["lr"] = trial.lr * (1 - step / 4)
        optimizer.zero_grad()
        (weight * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
        optimizer.step()
    return {"loss": float(weight.detach().square().sum())}


def test_a_rule_that_follows_gradients_is_placed_by_a_measurement():
    """Adam's v_hat of a constant gradient g is g^2: the effective rate is 1/sqrt(mean g^2)."""
    result = swept(measured, rules=["decoupled", "stable"], seeds=1, confirm=0, extend=False)
    rate = 1 / math.sqrt((1 + 4 + 9) / 3)
    assert result.meta.calibration["stable"]["effective_rate"] == pytest.approx(rate, rel=1e-5)
    stable = [c for c in result.cells() if c["rule"] == "stable" and c["lr"] == 1e-2]
    wd = sorted(c["weight_decay"] for c in stable)
    assert wd == pytest.approx([w / rate for w in (1e-3, 1e-2, 1e-1)], rel=1e-5)
    for c in stable:
        assert c["fraction"] == pytest.approx(c["weight_decay"] * 1e-2 * rate, rel=1e-4)
        assert c["steps"] == 4


def test_a_rule_that_follows_gradients_needs_its_optimizer_to_be_known():
    with pytest.raises(ValueError, match=r"^rules='stable': .* trial.optimizer\(model\)"):
        swept(lambda trial: 1.0, rules=["decoupled", "stable"])


def test_other_parameters_are_swept_jointly():
    def train(lr, weight_decay, seed, momentum):
        return valley(lr, weight_decay, seed) + (momentum - 0.9) ** 2

    result = swept(train, params={"momentum": [0.8, 0.9]}, confirm=2)
    assert result.best.params == {"momentum": 0.9}
    assert len(result.cells()) == 2 * 2 * (3 + 9) + 2 * 2
    assert {c["params"]["momentum"] for c in result.cells()} == {0.8, 0.9}


@pytest.mark.parametrize("kept", ["memory", "directory", "database"])
def test_only_what_is_kept_can_be_gone_on_with(kept, tmp_path, monkeypatch):
    where = {
        "memory": {},
        "directory": {"out": tmp_path / "x"},
        "database": {"storage": f"sqlite:///{tmp_path}/x.db"},
    }[kept]

    def fails(self, cell, record, value):
        raise lab.LedgerError("x: cannot be written.")

    def interrupted(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "finish", fails)
    with pytest.raises(lab.LedgerError, match="cannot be written") as caught:
        swept(**where)
    goes_on = {"memory": "", "directory": "sweep(..., out=", "database": "sweep(..., out=None, "}
    assert ("resume=True" in str(caught.value)) == (kept != "memory")
    assert goes_on[kept] in str(caught.value)
    monkeypatch.setattr(Driver, "_train", interrupted)
    with pytest.raises(lab.Interrupted) as ended:
        swept(**where)
    assert ("were in memory" in str(ended.value)) == (kept == "memory")


def test_parameters_that_no_ledger_holds_are_refused_before_anything_is_trained():
    ran = []

    def train(lr, weight_decay, seed, betas):
        ran.append(seed)
        return 1.0

    for values in ([(0.9, 0.99), (0.9, 0.95)], [[1, 2], [3, 4]], [None, 1]):
        with pytest.raises(
            ValueError, match=r"params: betas=.*sweep names, and look up in the training"
        ):
            swept(train, params={"betas": values})
    assert not ran
    result = swept(train, params={"betas": [np.float32(0.5), np.float32(0.25)]}, confirm=2)
    assert {type(c["params"]["betas"]) for c in result.cells()} == {float}


@pytest.mark.parametrize(("unit", "top"), [("", 1), ("%", 100), ("percent", 100)])
def test_a_share_outside_its_range_is_refused_at_the_first_one(unit, top):
    """By name, value, range and remedy, whatever returned it: a number, a mapping, an outcome."""
    metric = lab.Metric("error", unit, examples=500)
    remedy = "unit=.%.* or no examples" if not unit else "no examples"
    pattern = rf"metric 'error'={7 * top}: must be from 0 to {top},.*examples=500.*{remedy}"
    for made in (float, lambda v: {"error": v}, lambda v: Outcome(metrics={"error": v})):
        with pytest.raises(lab.SweepError, match=pattern):
            swept(lambda lr, weight_decay, seed, made=made: made(7.0 * top), report=metric)
    edges = iter([0.0, float(np.float32(1.0 + 1e-7)), math.nan, *[0.5] * 100])
    result = swept(lambda lr, weight_decay, seed: top * next(edges), report=metric)
    assert {c["status"] for c in result.cells()} == {"done"}


@pytest.mark.parametrize("margin", [0.0, -0.5, math.nan, math.inf, "x", True])
def test_a_margin_of_equality_is_positive_and_finite(margin):
    with pytest.raises(ValueError, match=r"^equivalence must be a finite number > 0, got "):
        swept(equivalence=margin)
    assert swept(equivalence=np.float32(0.5), confirm=2).meta.equivalence == 0.5


# --- growing --------------------------------------------------------------------------------------


def follow(center):
    return lambda lr, weight_decay, seed: valley(lr, weight_decay, seed, center)


def test_an_interior_optimum_extends_nothing():
    meta = swept(confirm=0).meta
    assert list(meta.extensions) == list(meta.unresolved) == []


def test_the_grid_follows_the_optimum_until_it_is_interior():
    result = swept(follow((1e-5, 1e-2)), confirm=0)
    meta = result.meta
    assert [e["value"] for e in meta.extensions] == pytest.approx([1e-4, 1e-5, 1e-6])
    assert {(e["axis"], e["side"]) for e in meta.extensions} == {("lr", "low")}
    assert list(meta.unresolved) == []
    assert meta.lrs == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert result.best.lr == pytest.approx(1e-5)
    assert {c["lr"] for c in result.cells() if c["rule"] == "none"} == set(meta.lrs)


def test_each_rule_has_its_own_strengths():
    def train(trial):  # Independent is best at strength 1e-2, Decoupled at 1e-4 of the central lr
        return valley(trial.lr, trial.weight_decay, trial.seed)

    meta = swept(
        train, rules=["decoupled", "independent"], weight_decay=None, strength=[1e-4, 1e-3, 1e-2],
        confirm=0,
    ).meta  # fmt: skip
    assert meta.strengths["decoupled"][0] == pytest.approx(1e-5)
    assert meta.strengths["independent"][-1] == pytest.approx(1e-1)


def test_the_limit_is_kept_and_told():
    meta = swept(follow((1e-2, 1e3)), extension_limit=2, confirm=0).meta
    assert len(meta.extensions) == 2
    (open_end,) = meta.unresolved
    assert (open_end["axis"], open_end["side"]) == ("weight_decay", "high")
    assert "limit" in open_end["reason"]


def test_no_lr_above_one():
    meta = swept(follow((1e3, 1e-2)), confirm=0).meta
    assert all(e["value"] < 1 for e in meta.extensions)
    assert {(e["rule"], e["axis"], e["reason"]) for e in meta.unresolved} == {
        ("decoupled", "lr", "the next would be 1"), ("none", "lr", "the next would be 1")
    }  # fmt: skip


def test_growing_can_be_forbidden():
    result = swept(follow((1e-5, 1e-2)), extend=False, confirm=0)
    assert list(result.meta.extensions) == []
    assert len(result.cells()) == 2 * (3 + 9)


def without_decay_lower(lr, weight_decay, seed):
    """Decay is worth nothing, but without it the best learning rate is a hundredth."""
    at = 1e-4 if weight_decay == 0 else 1e-2
    away = 0.0 if weight_decay == 0 else math.log10(weight_decay / 1e-2) ** 2
    return 1 + math.log10(lr / at) ** 2 + away + 1e-3 * math.sin(1e4 * (seed + lr))


def test_the_grid_follows_the_best_learning_rate_without_decay_too():
    """Else decay is compared with no decay at a learning rate that is none for it."""
    result = swept(without_decay_lower, seeds=3, confirm=4)
    assert [(e["rule"], e["axis"], e["side"]) for e in result.meta.extensions] == [
        ("none", "lr", "low"), ("none", "lr", "low")
    ]  # fmt: skip
    assert result.analysis.baseline.best.lr == pytest.approx(1e-4)
    assert result.verdict == "no difference told"
    assert "Without decay the best setting lies on the border" not in result.sentence


def test_a_gain_over_no_decay_on_the_border_is_told_so(tmp_path):
    result = swept(without_decay_lower, seeds=3, confirm=4, extend=False, out=tmp_path)
    assert result.verdict == "helps"
    assert result.sentence.count(
        "Without decay the best setting lies on the border of the grid (lowest lr)"
    ) == 1  # fmt: skip
    page = result.report().read_text("utf-8")
    assert "The best setting of no decay lies on the border of the grid (lowest lr)" in page


def test_the_grid_does_not_run_toward_no_decay():
    """Where less is never worse, and none is as good, the lowest decay is no reason to go lower."""

    def train(lr, weight_decay, seed):
        return 10 + math.log10(lr / 1e-2) ** 2 + weight_decay + 0.3 * math.sin(1e4 * (seed + lr))

    meta = swept(train, seeds=3, confirm=0).meta
    assert [e for e in meta.extensions if e["axis"] != "lr"] == []


# --- metrics --------------------------------------------------------------------------------------


def test_one_metric_that_chooses_and_is_told_is_said_where_there_are_others(tmp_path):
    def train(lr, weight_decay, seed):
        value = valley(lr, weight_decay, seed)
        return {"val": value, "test": value + 0.1}

    words = "chosen by test, which is also what is told, though the trainings return val too"
    both = swept(train, report="test", out=tmp_path / "a")
    assert words in both.report().read_text("utf-8")
    apart = swept(train, choose="val", report="test", out=tmp_path / "b")
    assert "which is also what is told" not in apart.report().read_text("utf-8")
    alone = swept(out=tmp_path / "c")
    assert "which is also what is told" not in alone.report().read_text("utf-8")


def test_settings_are_chosen_by_one_metric_and_told_by_another():
    def train(trial):
        val = valley(trial.lr, trial.weight_decay, trial.seed)
        return {"val": -val, "test": torch.tensor(3.0 + trial.lr)}

    result = swept(train, choose=lab.Metric("val", goal="max"), report=lab.Metric("test", "nats"))
    assert (result.best.lr, result.best.weight_decay) == (1e-2, 1e-2)
    assert result.confirmed.value == pytest.approx(3.01)
    assert "nats" in result.sentence


def test_what_is_not_finite_is_recorded_as_it_is_and_never_chosen():
    def train(lr, weight_decay, seed):
        return (
            math.nan if lr == 1e-2 else math.inf if lr == 1e-1 else valley(lr, weight_decay, seed)
        )

    result = swept(train, extend=False)
    assert result.best.lr == 1e-3
    lost = [c for c in result.cells() if c["lr"] > 1e-3]
    assert all(c["status"] == "done" and c["diverged"] for c in lost)
    assert {str(c["metrics"]["loss"]) for c in lost} == {"nan", "inf"}


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("x", "train returned str: must be a number or a mapping"),
        ({"val": 1.0}, "train returned no 'loss', only 'val'"),
        ({"loss": "low"}, "metric 'loss': must be a number, got str"),
        (None, "train returned no 'loss', only nothing"),
        (torch.zeros(2), "train returned Tensor"),
    ],
)
def test_a_result_that_cannot_be_read_is_said(returned, message):
    with pytest.raises(lab.SweepError) as raised:
        swept(lambda trial: returned)
    assert message.replace("must be a number or", "must return a number, or") in str(
        raised.value
    ) or message in str(raised.value)


def test_reports_are_the_learning_curve_and_the_last_one_may_be_the_result():
    def train(trial):
        for epoch in trial.epochs(3):
            trial.report(loss=valley(trial.lr, trial.weight_decay, trial.seed) + 3 - epoch)

    (best, *_) = [c for c in swept(train).cells() if c["lr"] == c["weight_decay"] == 1e-2]
    assert best["curve"]["step"] == [1, 2, 3]
    assert best["metrics"]["loss"] == best["curve"]["loss"][-1]


# --- failures -------------------------------------------------------------------------------------


def test_a_training_that_fails_is_tried_twice_recorded_and_the_rest_goes_on(tmp_path):
    calls = []

    def train(lr, weight_decay, seed):
        calls.append((lr, weight_decay, seed))
        if (lr, weight_decay, seed) == (1e-1, 1e-1, 1):
            raise ArithmeticError("no such place")
        return valley(lr, weight_decay, seed)

    result = swept(train, out=tmp_path)
    assert calls.count((1e-1, 1e-1, 1)) == 2
    (failed,) = [c for c in result.cells() if c["status"] == "failed"]
    assert (failed["lr"], failed["weight_decay"], failed["seed"]) == (1e-1, 1e-1, 1)
    assert "ArithmeticError: no such place" in failed["error"]
    assert "halflife" not in failed["error"].replace("test_sweep", "")
    assert result.best.lr == 1e-2
    calls.clear()
    swept(train, out=tmp_path, resume=True)
    assert calls == []  # what failed stays so
    swept(train, out=tmp_path, resume=True, retry_failed=True)
    assert calls == [(1e-1, 1e-1, 1)] * 2


def test_one_failure_is_none():
    calls = []

    def train(lr, weight_decay, seed):
        calls.append(0)
        if len(calls) == 1:
            raise RuntimeError("once")
        return valley(lr, weight_decay, seed)

    assert all(c["status"] == "done" for c in swept(train).cells())


def test_a_training_that_never_works_ends_the_sweep_and_may_be_mended(tmp_path):
    calls = []

    def train(lr, weight_decay, seed):
        calls.append(0)
        raise ValueError("typo")

    with pytest.raises(lab.SweepError) as raised:
        swept(train, out=tmp_path)
    assert len(calls) == 6  # three cells, twice each
    text = str(raised.value)
    assert "ValueError: typo" in text
    assert "The first 3 trainings all failed" in text
    assert "resume=True" in text
    assert len(swept(valley, out=tmp_path, resume=True).cells()) == 2 * 12 + 6  # it is mended


def test_an_exit_in_a_training_is_a_failure():
    def train(lr, weight_decay, seed):
        if lr == 1e-1:
            raise SystemExit(3)
        return valley(lr, weight_decay, seed)

    failed = [c for c in swept(train, confirm=0).cells() if c["status"] == "failed"]
    assert {c["lr"] for c in failed} == {1e-1}


# --- going on -------------------------------------------------------------------------------------


def test_interrupted_and_resumed_equals_undisturbed(tmp_path):
    trained, signals = deque(), deque([signal.SIGINT, signal.SIGTERM] * 9)  # no plain data

    def train(lr, weight_decay, seed):
        trained.append((lr, weight_decay, seed))
        if len(trained) % 9 == 0:
            trained.pop()
            os.kill(os.getpid(), signals.popleft())
        return valley(lr, weight_decay, seed, (1e-5, 1e-2))

    whole = swept(follow((1e-5, 1e-2)), out=tmp_path / "whole", name="mine")
    interruptions, said = 0, []
    while True:
        try:
            resumed = swept(train, out=tmp_path / "cut", resume=True, name="mine")
            break
        except lab.Interrupted as error:
            interruptions += 1
            said.append(str(error))
            trained.append(None)  # so that another place is hit next
    assert interruptions >= 5
    for number, text in enumerate(said):
        why = "Terminated" if number % 2 else "Interrupted"
        assert text.startswith(f"{why}. ")
        assert "trained cells are safe" in text
    done = [t for t in trained if t is not None]
    assert len(done) == len(set(done)) == len(whole.cells())
    figures = [
        {(c["rule"], c["lr"], c["weight_decay"], c["seed"]): c["metrics"] for c in r.cells()}
        for r in (whole, resumed)
    ]
    assert figures[0] == figures[1]
    assert resumed.sentence == whole.sentence
    assert list(resumed.meta.extensions) == list(whole.meta.extensions)


def test_more_is_added_to_what_is_there(tmp_path):
    def count(**options):
        calls = []

        def train(trial):
            calls.append((trial.rule, trial.lr, trial.weight_decay, trial.seed))
            return valley(trial.lr, trial.weight_decay, trial.seed)

        result = swept(train, out=tmp_path, resume=True, extend=False, **options)
        assert len(calls) == len(set(calls))
        return len(calls), len(result.cells())

    assert count() == (30, 30)
    assert count() == (0, 30)
    assert count(seeds=3) == (12, 42)
    assert count(seeds=3, confirm=4) == (2, 44)
    assert count(seeds=3, confirm=4, lr=[1e-3, 3e-3, 1e-2, 1e-1]) == (12, 56)
    added, total = count(seeds=3, confirm=4, rules=["decoupled", "independent"])
    assert (added, total) == (27 + 4, 87)


def test_an_edited_training_is_refused_by_name_and_a_comment_is_no_edit(tmp_path):
    def save(body):
        (tmp_path / "mine.py").write_text(
            f"SCALE = 1.0\ndef helper(x):\n    {body}\ndef train(lr, weight_decay, seed):\n"
            "    return helper(lr) + weight_decay\n"
        )
        module = {}
        exec(compile((tmp_path / "mine.py").read_text(), str(tmp_path / "mine.py"), "exec"), module)
        import linecache

        linecache.checkcache()
        return module["train"]

    out = tmp_path / "out"
    options = {"out": out, "resume": True, "extend": False, "confirm": 0}
    swept(save("return SCALE * x"), **options)
    swept(save('"""Words."""\n    return SCALE  *  x  # a remark'), **options)
    with pytest.raises(lab.LedgerError, match=r"helper.*: not as it was when the 24 cells"):
        swept(save("return 2 * SCALE * x"), **options)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"optimizer": "sgd"}, "momentum=0.9"), ({"settings": {"betas": [0.5, 0.9]}}, "betas=")],
)
def test_other_settings_are_refused_by_name(tmp_path, change, name):
    swept(out=tmp_path)
    with pytest.raises(lab.LedgerError, match=name):
        swept(out=tmp_path, resume=True, **change)


def test_a_used_directory_needs_resume(tmp_path):
    swept(out=tmp_path)
    with pytest.raises(lab.LedgerError, match=r"holds 30 trained cells; pass resume=True"):
        swept(out=tmp_path)


def test_a_time_limit_ends_it_with_a_sentence_and_what_is_known(tmp_path):
    said = []

    class Heard(Display):
        def say(self, text):
            said.append(text)

    def train(lr, weight_decay, seed):
        threading.Event().wait(0.02)
        return valley(lr, weight_decay, seed)

    cut = swept(train, out=tmp_path, time_limit=0.1, progress=Heard())
    assert 1 <= len(cut.cells()) < 30
    (sentence,) = said
    assert sentence.startswith("Stopped after time_limit=0.1 seconds. ")
    assert "go on with" in sentence
    assert len(swept(train, out=tmp_path, resume=True).cells()) == 30


# --- executors ------------------------------------------------------------------------------------


class Dying(Executor):
    """One whose workers die on some cells, as often as they are told to."""

    slots = 2

    def __init__(self, deaths):
        super().__init__()
        self.deaths, self.hand = dict(deaths), []

    def open(self, job):
        self.job = job

    def submit(self, number, piece):
        assert len(self.hand) < self.slots
        self.hand.append((number, piece))

    def wait(self, seconds):
        from halflife.lab.trials.job import run_portion

        number, piece = self.hand.pop()
        key = piece.cells[0].key
        if self.deaths.get(key, 0):
            self.deaths[key] -= 1
            return [Done(number, None, "the worker process was ended by SIGKILL")]
        return [Done(number, run_portion(self.job, piece))]

    def close(self):
        self.hand.clear()


def test_a_cell_whose_worker_dies_is_trained_once_more_and_then_failed():
    once, always = (Cell("decoupled", 1e-2, wd, 0).key for wd in (1e-3, 1e-1))
    result = swept(executor=Dying({once: 1, always: 9}))
    (failed,) = [c for c in result.cells() if c["status"] == "failed"]
    assert Cell.of(failed).key == always
    assert "SIGKILL" in failed["error"]


# --- bad arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": ["decoupld"]}, "unknown rule, did you mean 'decoupled'"),
        ({"rules": []}, "at least one is needed"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [0, -1]}, "seeds"),
        ({"seeds": [CONFIRM_FROM]}, "must be below 10000"),
        ({"confirm": -1}, "confirm"),
        ({"weight_decay": None}, "exactly one is needed"),
        ({"strength": [0.1]}, "exactly one is needed"),
        ({"weight_decay": None, "strength": [1.0]}, "strength=1.0: must be above 0 and below 1"),
        ({"lr": []}, "lr="),
        ({"optimizer": "adma"}, "did you mean 'adam"),
        ({"sampler": "grd"}, "sampler='grd': must be one of .*did you mean 'grid'"),
        ({"rules": ["decoupled", "proximal_l1"]}, "a threshold"),
        ({"rules": ["decoupled", "independent"]}, "does not see the rule"),
        ({"params": {"momentum": []}}, "params"),
        ({"params": {"momentum": [0.9]}}, "momentum is missing"),
        ({"time_limit": 0}, "time_limit"),
        ({"train": 3}, "must be a function"),
        ({"train": lambda lr, wd, seed: 0.0}, "wd is not known here; weight_decay is missing"),
        ({"storage": "nonsense"}, "storage=...: must be a database URL"),
    ],
)
def test_a_bad_argument_is_said_before_anything_is_trained(change, message, tmp_path):
    train = change.pop("train", valley)
    with pytest.raises(ValueError, match=message):
        swept(train, out=tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_a_rule_alone_is_swept_by_its_own_number():
    """A threshold has no strength to be compared by, and needs none."""

    def train(trial):
        assert as_rule("proximal_l1") == trial.decay or trial.rule == "none"
        return valley(trial.lr, trial.weight_decay, trial.seed)

    result = swept(train, rules=["proximal_l1"])
    assert result.best.weight_decay == 1e-2
    assert result.best.half_life is None
