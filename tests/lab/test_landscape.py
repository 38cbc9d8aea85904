"""Landscapes: axes in the common currency, the plan of cells, extension, resuming."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import halflife.lab.landscape as module
from halflife.lab.axes import Axis, Currency, parse_axis
from halflife.lab.landscape import Landscape, run_landscape
from halflife.lab.ledger import Ledger, cell_of
from halflife.lab.tasks import Digits, find_task
from halflife.lab.tasks.training import Training
from halflife.lab.tasks.single import Scores
from halflife.rules.contract import as_rule

TRAINING = Training(Digits("digits", images=60), "adam", 1, 20, "cosine")
RULES = ("l2", "decoupled", "independent", "stable")


def plan(training=TRAINING, **changes):
    settings = {
        "rules": ("decoupled", "independent"),
        "lrs": Axis((1e-3, 1e-2, 1e-1)),
        "strengths": Axis((1e-3, 1e-2, 1e-1)),
        "seeds": (0, 1),
    }
    return Landscape(training, **{**settings, **changes})


def run(landscape, directory, *, resume=False, **options):
    with Ledger(directory, writing=True) as ledger:
        ledger.configure(landscape.configuration(), resume=resume)
        run_landscape(landscape, ledger, workers=0, **options)
        return ledger.records(), ledger.meta()


def cells(records):
    return sorted((r["rule"], r["lr"], r["strength"], r["seed"]) for r in records)


# --- axes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-4:1e-1:4", (1e-4, 1e-3, 1e-2, 1e-1)),
        ("0.1:1e-3:3", (1e-3, 1e-2, 0.1)),
        ("0.3,0.1, 0.3", (0.1, 0.3)),
        ("0.5", (0.5,)),
    ],
)
def test_parse_axis(text, values):
    assert parse_axis("lr", text).values == pytest.approx(values, rel=1e-11)


@pytest.mark.parametrize("text", ["", "a", "1:2", "0:1:3", "-1,2", "1e-3:1e-1:0", "nan", "1:inf:3"])
def test_bad_axis(text):
    with pytest.raises(ValueError, match=r"strength='.*': must be lo:hi:n"):
        parse_axis("strength", text)


def test_axis_grows_by_its_own_spacing():
    axis = parse_axis("lr", "1e-4:1e-1:9")
    factor = 1000 ** (1 / 8)
    assert axis.beyond("high") == pytest.approx(0.1 * factor)
    assert axis.beyond("low") == pytest.approx(1e-4 / factor)
    assert axis.extended(axis.beyond("low")).values[1:] == axis.values
    assert Axis((0.1,)).beyond("high") is None


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", ["decoupled", "independent", "constant", "corrected", "proximal"])
def test_a_strength_is_the_fraction_at_the_central_lr(name, optimizer):
    currency = Currency(as_rule(name), replace(TRAINING, optimizer=optimizer), 3e-3)
    for strength in (1e-5, 0.1, 0.9):
        coefficient = currency.coefficient(strength)
        assert currency.fraction(coefficient, 3e-3) == pytest.approx(strength, rel=1e-12)


def test_a_strength_of_stable():
    on_sgd = Currency(as_rule("stable"), replace(TRAINING, optimizer="sgd"), 0.1)
    assert not on_sgd.needs_probe
    assert on_sgd.coefficient(0.5) == pytest.approx(0.5 / (0.1 / (1 - 0.9)))
    on_adam = Currency(as_rule("stable"), TRAINING, 0.1, effective_rate=200.0)
    assert on_adam.needs_probe
    assert on_adam.coefficient(0.5) == pytest.approx(0.5 / (0.1 * 200.0))


def test_a_strength_of_l2():
    on_adam = Currency(as_rule("l2"), TRAINING, 0.01)
    assert on_adam.coefficient(1e-3) == pytest.approx(1e-3 / 0.01 / 100)
    # On SGD: what a constant weight loses per step in the long run, lr * wd / (1 - momentum).
    on_sgd = Currency(as_rule("l2"), replace(TRAINING, optimizer="sgd"), 0.01)
    assert on_sgd.coefficient(1e-3) * 0.01 / (1 - 0.9) == pytest.approx(1e-3)


# --- the plan ------------------------------------------------------------------------------------


def test_every_cell_once_and_the_baseline_for_every_lr(tmp_path):
    records, meta = run(plan(extend=False), tmp_path)
    expected = [("none", lr, 0.0, seed) for lr in (1e-3, 1e-2, 1e-1) for seed in (0, 1)]
    expected += [
        (rule, lr, strength, seed)
        for rule in ("decoupled", "independent")
        for lr in (1e-3, 1e-2, 1e-1)
        for strength in (1e-3, 1e-2, 1e-1)
        for seed in (0, 1)
        # Decoupled at 10 times the central lr and strength 0.1 would remove whole weights.
        if (rule, lr, strength) != ("decoupled", 1e-1, 1e-1)
    ]
    assert cells(records) == sorted(expected)
    assert meta.omitted == {"decoupled": 1}
    assert meta.central_lr == 1e-2
    assert meta.coefficients["independent"] == [1e-3, 1e-2, 1e-1]
    assert meta.coefficients["decoupled"] == pytest.approx([0.1, 1.0, 10.0])


def test_records_and_meta_have_the_schema(tmp_path):
    records, meta = run(plan(rules=RULES, seeds=(0,), extend=False), tmp_path)
    keys = {
        "rule", "lr", "strength", "weight_decay", "fraction", "seed", "test_error", "test_loss",
        "train_loss", "weight_rms", "predicted_rms", "curve", "diverged", "seconds",
    }  # fmt: skip
    for r in records:
        assert r.keys() == keys
        assert r["weight_decay"] == 0.0 or r["rule"] != "none"
        assert (r["fraction"] is None) == (r["rule"] == "l2")
        assert (r["predicted_rms"] is None) == (r["rule"] == "l2")
        assert r["curve"]["step"] == [1, 2, 3]
        assert len(r["curve"]["train_loss"]) == len(r["curve"]["test_error"]) == 3
    assert meta.steps == 3
    rate = meta.calibration["stable"]["effective_rate"]
    assert meta.coefficients["stable"][0] == pytest.approx(1e-3 / (1e-2 * rate))


@pytest.mark.slow
def test_workers_get_the_same_as_this_process(tmp_path):
    small = plan(rules=("stable",), lrs=Axis((1e-2,)), seeds=(0,), extend=False)
    here, _ = run(small, tmp_path / "here")
    with Ledger(tmp_path / "there", writing=True) as ledger:
        ledger.configure(small.configuration(), resume=False)
        run_landscape(small, ledger, workers=1)
        there = ledger.records()
    timeless = [[{**r, "seconds": 0} for r in records] for records in (here, there)]
    assert timeless[0] == timeless[1]


# --- extension -----------------------------------------------------------------------------------


@pytest.fixture
def valley(monkeypatch):
    """Instead of training: an error with its lowest point where the test wants it."""
    trained = []

    def install(lr, weight_decay):
        def train(training, members):
            trained.extend(members)
            return [outcome(member) for member in members]

        def outcome(member):
            distance = math.log10(member.lr / lr) ** 2
            distance += math.log10(max(member.weight_decay, 1e-9) / weight_decay) ** 2
            return Outcome(10 + distance, 1.0, 1.0, 1.0, None, None, {}, False, 0.0)

        monkeypatch.setattr(module, "train_ensemble", train)
        return trained

    return install


def test_an_interior_optimum_extends_nothing(valley, tmp_path):
    valley(lr=1e-2, weight_decay=1e-2)
    _, meta = run(plan(rules=("independent",)), tmp_path)
    assert meta.extensions == meta.unresolved == []


def test_the_grid_follows_the_optimum_until_it_is_interior(valley, tmp_path):
    valley(lr=1e-5, weight_decay=1e-2)
    records, meta = run(plan(rules=("independent",)), tmp_path)
    assert [e["value"] for e in meta.extensions] == pytest.approx([1e-4, 1e-5, 1e-6])
    assert {(e["axis"], e["side"]) for e in meta.extensions} == {("lr", "low")}
    assert meta.unresolved == []
    assert meta.lrs == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert min(records, key=lambda r: r["test_error"])["lr"] == pytest.approx(1e-5)
    assert {r["lr"] for r in records if r["rule"] == "none"} == set(meta.lrs)


def test_each_rule_has_its_own_strengths(valley, tmp_path):
    valley(lr=1e-2, weight_decay=1e-4)  # Independent: strength 1e-4, Decoupled: 1e-6
    _, meta = run(plan(), tmp_path)
    assert meta.strengths["independent"][0] == pytest.approx(1e-5)
    assert meta.strengths["decoupled"][0] == pytest.approx(1e-7)


def test_the_limit_is_kept_and_told(valley, tmp_path):
    valley(lr=1e-2, weight_decay=1e-9)
    _, meta = run(plan(rules=("independent",), extension_limit=2), tmp_path)
    assert len(meta.extensions) == 2
    (open_end,) = meta.unresolved
    assert (open_end["rule"], open_end["axis"], open_end["side"]) == (
        "independent",
        "strength",
        "low",
    )
    assert "limit" in open_end["reason"]


@pytest.mark.parametrize(
    ("lr", "weight_decay", "axis"), [(1e3, 1e-2, "lr"), (1e-2, 1e3, "strength")]
)
def test_no_lr_above_one_and_no_whole_weight(valley, tmp_path, lr, weight_decay, axis):
    valley(lr, weight_decay)
    _, meta = run(plan(rules=("independent",)), tmp_path)
    assert all(e["value"] < 1 for e in meta.extensions)
    (open_end,) = meta.unresolved
    assert open_end["axis"] == axis
    assert open_end["reason"] == "the next would be 1"


def test_extension_can_be_forbidden(valley, tmp_path):
    trained = valley(lr=1e-5, weight_decay=1e-2)
    _, meta = run(plan(rules=("independent",), extend=False), tmp_path)
    assert meta.extensions == []
    assert len(trained) == 2 * (3 + 9)


# --- resuming ------------------------------------------------------------------------------------


def test_interrupted_and_resumed_equals_uninterrupted(valley, tmp_path):
    trained = valley(lr=1e-5, weight_decay=1e-2)
    whole, meta = run(plan(), tmp_path / "whole")
    count = len(trained)
    trained.clear()

    def interrupt(done, total, what):
        if done:
            raise KeyboardInterrupt

    interruptions = 0
    while True:
        try:
            resumed, again = run(plan(), tmp_path / "resumed", resume=True, progress=interrupt)
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions > 5  # every chunk, those of the extensions too
    assert len(trained) == count  # nothing was trained twice
    assert cells(resumed) == cells(whole)
    assert again == meta


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from test_landscape import Ledger, killed_plan, run_landscape
if __name__ == "__main__":  # workers are spawned and import this
    with Ledger({out!r}, writing=True) as ledger:
        ledger.configure(killed_plan().configuration(), resume=True)
        run_landscape(killed_plan(), ledger, workers={workers})
"""


def killed_plan():
    return plan(rules=("decoupled", "stable"), seeds=tuple(range(12)), extend=False)


def start(out, workers):
    script = out.parent / f"run-{workers}.py"
    here = os.path.dirname(__file__)
    script.write_text(SCRIPT.format(here=here, out=str(out), workers=workers))
    return subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)


def lines(out):
    path = out / "ledger.journal"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(p) for p in listed.read_text().split()] if listed.exists() else []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    """SIGKILL while cells are trained and recorded, with and without workers."""
    out, orphans = tmp_path / "killed", []
    for kill, workers in enumerate((0, 1)):
        before = lines(out)
        process = start(out, workers)
        while process.poll() is None and lines(out) < before + 10 + 7 * kill:
            time.sleep(0.002)
        orphans += children(process.pid)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    finished = len(Ledger(out).records())
    process = start(out, workers=0)
    assert process.communicate()
    assert process.returncode == 0

    whole, _ = run(killed_plan(), tmp_path / "whole")
    resumed = Ledger(out)
    assert 20 < finished < len(whole)
    timeless = [
        sorted((r | {"seconds": 0} for r in records), key=cell_of)
        for records in (resumed.records(), whole)
    ]
    assert timeless[0] == timeless[1]
    # One trial each: what was finished has not been run again.
    assert out.joinpath("ledger.journal").read_text().count('"state":1') == len(whole)
    deadline = time.monotonic() + 20
    while any(map(alive, orphans)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, orphans))


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": ("decoupld",)}, "unknown rule, did you mean 'decoupled'"),
        ({"rules": ()}, "at least one of each"),
        ({"strengths": Axis((0.1, 1.0))}, r"strength=1.0: must be above 0 and below 1"),
        ({"lrs": Axis((0.1, 2.0))}, r"lr=2: learning rates above 1"),
    ],
)
def test_bad_landscape(change, message):
    with pytest.raises(ValueError, match=message):
        plan(**change)


def test_configuration_tells_tasks_apart():
    """Also tasks of one name, should a user change theirs between two runs."""
    other = replace(TRAINING, task=Digits("digits", images=61))
    assert plan().configuration() != plan(training=other).configuration()
    assert plan().configuration()["task"] == find_task("digits").name
