"""Who trains: processes that die, hang or cannot start; stacks, where they are faster."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import cloudpickle
import pytest
from test_sweep import cells, swept, valley

from halflife import lab
from halflife.lab.executors import ExecutorError, Stacked
from halflife.lab.executors.base import packed, unpacked
from halflife.lab.landscape import landscape
from halflife.lab.tasks import Digits, TaskTraining, Training
from halflife.lab.trials.bases import OptimizerKind
from halflife.lab.trials.job import Job

POSIX = pytest.mark.skipif(os.name == "nt", reason="groups of processes, and fork")

SMALL = Training(Digits("digits", images=60), "adamw", 1, 20, "cosine")
OPTIONS = {
    "lr": [1e-3, 1e-2], "strength": [1e-3, 1e-2], "rules": ["decoupled", "stable"], "seeds": 2,
    "confirm": 2, "extend": False, "progress": False,
}  # fmt: skip


def figures(result):
    return {
        (c["rule"], c["lr"], c["weight_decay"], c["seed"]): c["metrics"] for c in result.cells()
    }


def test_stacked_and_one_by_one_measure_the_same(monkeypatch):
    results = []
    for speeds in ((2.0, 1.0), (1.0, 2.0)):
        monkeypatch.setattr(TaskTraining, "speeds", lambda self, chunk, s=speeds: s)
        results.append(landscape(SMALL, workers=0, **OPTIONS))
    stacked, single = map(figures, results)
    close = {k: pytest.approx(v, rel=1e-4) for k, v in single.items() if k[0] != "stable"}
    assert {k: v for k, v in stacked.items() if k[0] != "stable"} == close
    rates = [r.meta.calibration["stable"]["effective_rate"] for r in results]
    assert rates[0] == pytest.approx(rates[1], rel=1e-4)


def test_the_faster_way_is_taken_and_the_reason_given(monkeypatch):
    for speeds, chunk, words in (
        ((4.0, 1.0), 64, "trained stacked by 64: measured 4.0 times as fast as one by one"),
        ((1.0, 2.0), 1, "trained one by one: measured 2.0 times as fast as stacked"),
    ):
        monkeypatch.setattr(TaskTraining, "speeds", lambda self, chunk, s=speeds: s)
        executor = Stacked(lab.InProcess("cpu"))
        executor.open(Job(TaskTraining(SMALL), OptimizerKind("adamw"), ()))
        assert (executor.chunk, executor.notes) == (chunk, [words])
    executor = Stacked(lab.InProcess("cpu"))
    executor.open(Job(valley, OptimizerKind("adamw"), ()))
    assert executor.chunk == 1
    assert "only a task of the lab can be stacked" in executor.notes[0]


def test_what_the_speeds_are_of_is_measured():
    stacked, single = TaskTraining(SMALL).speeds(16)
    assert stacked > 0 < single


def test_a_chunk_that_fails_is_trained_cell_by_cell(monkeypatch):
    """A result in a stack does not depend on the company, so nothing changes but the one."""
    options = {**OPTIONS, "confirm": 0}  # the finalists may be others
    whole = figures(landscape(SMALL, workers=0, **options))
    train = TaskTraining.stacked

    def failing(self, cells, until=1.0):
        if any(c.rule == "decoupled" and c.lr == 1e-2 and c.seed == 1 for c in cells):
            raise MemoryError("too many")
        return train(self, cells, until)

    monkeypatch.setattr(TaskTraining, "speeds", lambda self, chunk: (2.0, 1.0))
    monkeypatch.setattr(TaskTraining, "stacked", failing)
    result = landscape(SMALL, workers=0, **options)
    failed = [c for c in result.cells() if c["status"] == "failed"]
    assert {(c["rule"], c["lr"], c["seed"]) for c in failed} == {("decoupled", 1e-2, 1)}
    assert all("MemoryError: too many" in c["error"] for c in failed)
    kept = {k: v for k, v in figures(result).items() if v}
    assert kept == {k: v for k, v in whole.items() if k in kept}
    assert len(kept) == len(whole) - len(failed)


def dying(lr, weight_decay, seed):
    if lr == 1e-1 and seed == 1:
        sys.stderr.write("last words\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return valley(lr, weight_decay, seed)


@pytest.mark.slow
def test_a_dead_worker_is_replaced_and_its_cell_recorded_with_its_last_words():
    grid = {"confirm": 0, "weight_decay": [1e-2]}  # each death is two starts of a worker
    result = swept(dying, executor=lab.Local(2), **grid)
    failed = [c for c in result.cells() if c["status"] == "failed"]
    assert {(c["lr"], c["seed"]) for c in failed} == {(1e-1, 1)}
    assert len(failed) == 2
    assert all("SIGKILL" in c["error"] and "last words" in c["error"] for c in failed)
    assert (
        figures(result).items()
        >= {k: v for k, v in figures(swept(**grid)).items() if k[1] != 1e-1}.items()
    )


def hanging(lr, weight_decay, seed):
    if (lr, seed) == (1e-1, 0):
        signal.pause()
    return valley(lr, weight_decay, seed)


@pytest.mark.slow
def test_a_training_that_hangs_is_ended_and_recorded():
    result = swept(hanging, executor=lab.Local(2, timeout=1.0), confirm=0, weight_decay=[1e-2])
    failed = [c for c in result.cells() if c["status"] == "failed"]
    assert {(c["lr"], c["seed"]) for c in failed} == {(1e-1, 0)}
    assert all("took longer than timeout=1 seconds" in c["error"] for c in failed)


@pytest.mark.slow
def test_a_script_without_a_guard_and_its_own_classes_run_in_workers(tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""
        import torch
        from halflife import lab

        class Model(torch.nn.Linear):
            pass

        def train(trial):
            print("printed by a training")
            model = Model(3, 1)
            optimizer = trial.optimizer(model)
            for step in range(5):
                optimizer.zero_grad()
                model(torch.randn(8, 3)).square().mean().backward()
                optimizer.step()
            return float(model.weight.detach().square().sum())

        result = lab.sweep(train, lr=[1e-2], weight_decay=[0.1], seeds=2, confirm=2,
                           executor=lab.Local(2), progress=False)
        print("cells", len(result.cells()))
        """)
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cells 12\n"


def run_script(folder, text):
    """The output of a script; what it defines is then in ``__main__``."""
    (folder / "script.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_a_script_defines_is_found_by_name_in_workers(tmp_path):
    """By pools and ``torch.save``, whatever holds it: a function, a partial, an object."""
    out = run_script(
        tmp_path,
        """
        import functools, io, pickle, sys, torch
        from halflife import lab

        class Net(torch.nn.Linear):
            pass

        class Held(Net):
            pass

        def square(x):
            return x * x

        def main(x):
            return x

        def train(trial, held=None):
            assert "scipy" not in sys.modules  # which would make every worker wait
            made = [pickle.loads(pickle.dumps(f))(3) for f in (square, main)]
            torch.save(Net(2, 1), io.BytesIO())
            if held is not None:
                pickle.dumps(held)
            return float(sum(made))

        class Training:
            def __call__(self, trial):
                pickle.dumps(self)
                return train(trial)

        for one in (train, functools.partial(train, held=Held(2, 1)), Training()):
            result = lab.sweep(one, lr=[1e-2], weight_decay=[0.1], seeds=1, confirm=0,
                               default=False, extend=False, executor=lab.Local(1), progress=False)
            print([c["metrics"] or c["error"] for c in result.cells()])
        """,
    )
    assert out == "[{'loss': 12.0}, {'loss': 12.0}]\n" * 3


def running(seconds):
    """Processes that sleep for so long."""
    words = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in words.splitlines() if line == f"sleep {seconds}"]


def gone(seconds):
    until = time.monotonic() + 20
    while running(seconds) and time.monotonic() < until:
        time.sleep(0.05)
    return not running(seconds)


def starting(lr, weight_decay, seed, seconds):
    if lr == 1e-3:
        subprocess.run(["sleep", seconds], check=False)
    if lr == 1e-2:
        subprocess.Popen(["sleep", seconds])
    return lr


@POSIX
@pytest.mark.slow
def test_what_a_training_starts_ends_with_its_worker():
    """At a timeout, and at the end of the sweep."""
    seconds = str(100_000 + os.getpid())
    train = functools.partial(starting, seconds=seconds)
    result = swept(
        train, executor=lab.Local(1, timeout=1.5), lr=[1e-3, 1e-2], weight_decay=[0.1], confirm=0,
        seeds=1, default=False, extend=False,
    )  # fmt: skip
    failed = {c["lr"] for c in result.cells() if c["status"] == "failed"}
    assert failed == {1e-3}
    assert gone(seconds)


@POSIX
@pytest.mark.slow
def test_what_a_training_starts_ends_with_the_driver(tmp_path):
    seconds = str(200_000 + os.getpid())
    (tmp_path / "script.py").write_text(
        textwrap.dedent(f"""
        import subprocess
        from halflife import lab

        def train(trial):
            subprocess.run(["sleep", "{seconds}"])
            return 1.0

        lab.sweep(train, lr=[1e-2], weight_decay=[0.1], executor=lab.Local(2), progress=False)
        """)
    )
    driver = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path)
    until = time.monotonic() + 60
    while len(running(seconds)) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(running(seconds)) == 2
    driver.kill()
    driver.wait()
    assert gone(seconds)


def forking(lr, weight_decay, seed):
    if lr == 1e-2:
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
        os.kill(os.getpid(), signal.SIGKILL)
    if lr == 1e-3 and os.fork() == 0:
        sys.exit(0)
    return lr


@POSIX
@pytest.mark.slow
def test_a_worker_is_gone_when_it_is_though_a_child_of_it_lives():
    """And a child that was forked and exits is no second worker."""
    start = time.monotonic()
    result = swept(
        forking, executor=lab.Local(1), lr=[1e-3, 1e-2], weight_decay=[0.1], confirm=0, seeds=1,
        default=False, extend=False,
    )  # fmt: skip
    status = {(c["lr"], c["status"]) for c in result.cells()}
    assert status == {(1e-3, "done"), (1e-2, "failed")}
    assert {c["metrics"]["loss"] for c in result.cells() if c["metrics"]} == {1e-3}
    assert time.monotonic() - start < 300


def wordy(lr, weight_decay, seed):
    for number in range(2000):
        sys.stdout.write(f"{number}-" + "x" * 1000 + "\n")
    if lr == 1e-2:
        sys.stdout.flush()
        os._exit(3)
    return lr


@pytest.mark.slow
def test_what_workers_print_fills_no_disk_and_its_end_is_told(monkeypatch):
    """The files that a worker has open, and what one that exits has last printed."""
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    result = swept(
        wordy, executor=lab.Local(1), lr=[1e-3, 1e-2], weight_decay=[0.1], confirm=0, seeds=1,
        default=False, extend=False,
    )  # fmt: skip
    (error,) = {c["error"] for c in result.cells() if c["status"] == "failed"}
    assert error.startswith("the worker process ended with exit code 3; it last wrote:\nx")
    assert error.rstrip("x").endswith("\n1999-")
    assert len(error) < 2100


@pytest.mark.slow
def test_processes_and_this_one_measure_the_same():
    here, there = swept(), swept(executor=lab.Local(2))
    assert cells(here) == cells(there)
    assert figures(here) == figures(there)
    assert here.sentence == there.sentence


def test_a_training_that_cannot_be_sent_is_said():
    import threading

    lock = threading.Lock()

    def train(lr, weight_decay, seed):
        with lock:
            return 0.0

    with pytest.raises(
        lab.SweepError, match=r"train: cannot be sent to another process .*InProcess"
    ):
        swept(train, executor=lab.Local(1))


@pytest.mark.parametrize("bad", [{"workers": 0}, {"threads": 0}, {"timeout": 0}, {"processes": 0}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        lab.Local(**bad)


EDITING = """
import os
VALUE = 1.0
def train(trial):
    here = os.path.dirname(__file__)
    if trial.lr > 5e-3 and not os.path.exists(here + "/died"):
        open(here + "/died", "w").close()
        text = open(__file__).read()
        open(__file__, "w").write({})
        os._exit(1)
    return VALUE
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "part"),
    [
        ('text.replace("VALUE = 1" + ".0", "VALUE = 2.0")', r"edited_one\.train: VALUE"),
        ('text + "def half(:"', r".*edited_one\.py, line 12"),
        ('"# of all\\n" + text + "def another(): pass\\n"', None),
    ],
)
def test_a_worker_that_finds_an_edited_file_refuses_it(edit, part, tmp_path, monkeypatch):
    """It starts anew from the files that are there then."""
    (tmp_path / "edited_one.py").write_text(EDITING.format(edit))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    sys.modules.pop("edited_one", None)
    train = importlib.import_module("edited_one").train
    options = {"executor": lab.Local(1), "confirm": 0, "seeds": 1, "out": tmp_path / "out"}
    if part is None:
        assert {c["metrics"]["loss"] for c in swept(train, **options).cells()} == {1.0}
        return
    with pytest.raises(lab.SweepError, match=f"edited while the sweep runs: {part}; undo the"):
        swept(train, **options)
    known = lab.Result.read(tmp_path / "out").cells()
    assert {c["metrics"]["loss"] for c in known} == {1.0}


def test_a_job_is_compared_where_it_is_taken_up():
    job = Job(valley, OptimizerKind("adamw"), ())
    assert unpacked(packed(job)).train is valley
    sent = cloudpickle.dumps(({"mine.train": "another"}, cloudpickle.dumps(job)))
    with pytest.raises(ExecutorError, match=r"edited while .*: mine\.train, .*; undo the"):
        unpacked(sent)
