"""How a sweep ends when something goes wrong: one sentence, nothing lost, and it goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import pytest

from halflife import lab
from halflife.lab.ledger import Ledger
from halflife.lab.ledger.journal import Written
from halflife.lab.sweeping.display import Bar, Display

GRID = {"lr": [0.005, 0.01, 0.02], "weight_decay": [0.05, 0.1], "seeds": 2, "confirm": 0}
CELLS = 2 * (3 + 2 * 3)


def error_of(lr, weight_decay, seed):
    return abs(lr - 0.01) + abs(weight_decay - 0.1) + 1e-3 * ((seed * 7919) % 13)


class Training:
    """Counts its calls; at one of them, something happens."""

    def __init__(self, happens=None, at=5):
        self.calls, self._happens, self._at = [], happens, at

    def __call__(self, lr, weight_decay, seed):
        self.calls.append((lr, weight_decay, seed))
        if self._happens is not None and len(self.calls) == self._at:
            self._happens()
        return error_of(lr, weight_decay, seed)


class Said(Display):
    def __init__(self):
        self.words = []

    def say(self, text):
        self.words.append(text)


def sweep(train, out, **options):
    return lab.sweep(
        train, out=out,
        **{**GRID, "executor": lab.InProcess(), "default": False, "extend": False,
           "progress": False, "resume": True, "command": "the command", **options},
    )  # fmt: skip


def cells_of(result):
    return sorted(
        (r["rule"], r["lr"], r["weight_decay"], r["seed"], r["metrics"]["loss"])
        for r in result.cells()
    )


@pytest.fixture(autouse=True)
def one_training(monkeypatch):
    """All trainings here are versions of one; what tells them apart is tested elsewhere."""
    module = sys.modules[lab.sweep.__module__]
    monkeypatch.setattr(module, "parts_of", lambda train: {"train": "the one"})


@pytest.fixture
def undisturbed():
    return sweep(Training(), None)


def goes_on(out, undisturbed, trained):
    """The sweep ends as the undisturbed one, and trains what was not."""
    train = Training()
    result = sweep(train, out)
    assert cells_of(result) == cells_of(undisturbed)
    assert result.sentence == undisturbed.sentence
    assert len(train.calls) == CELLS - trained


# --- trainings that fail -------------------------------------------------------------------------


def broken(error, *words):
    def train(lr, weight_decay, seed):
        if (lr, weight_decay, seed) == (0.01, 0.1, 1):
            raise error(*words)
        return error_of(lr, weight_decay, seed)

    return train


@pytest.mark.parametrize("error", [ValueError, SystemExit, MemoryError, RecursionError])
def test_a_training_that_fails_twice_is_recorded_and_the_rest_goes_on(tmp_path, error):
    said = Said()
    result = sweep(broken(error, "no such luck"), tmp_path, progress=said)
    (failed,) = [r for r in result.cells() if r["status"] == "failed"]
    assert (failed["lr"], failed["weight_decay"], failed["seed"]) == (0.01, 0.1, 1)
    assert f"{error.__name__}: no such luck" in failed["error"]
    assert "in train" in failed["error"]
    assert "job.py" not in failed["error"]  # of ours, there is nothing to mend
    assert len(result.cells()) == CELLS
    assert [w for w in said.words if w.startswith("failed: rule decoupled, lr 0.01")]


def test_a_training_that_fails_once_is_trained_again(tmp_path, undisturbed):
    def fail():
        raise OSError("a moment's weakness")

    train = Training(fail)
    result = sweep(train, tmp_path)
    assert cells_of(result) == cells_of(undisturbed)
    assert len(train.calls) == CELLS + 1


def test_failed_cells_are_trained_again_only_if_asked(tmp_path, undisturbed):
    sweep(broken(ValueError), tmp_path)

    def mended(lr, weight_decay, seed):
        calls.append(seed)
        return error_of(lr, weight_decay, seed)

    calls = []
    result = sweep(mended, tmp_path)
    assert not calls
    assert [r["status"] for r in result.cells()].count("failed") == 1
    result = sweep(mended, tmp_path, retry_failed=True)
    assert calls == [1]
    assert cells_of(result) == cells_of(undisturbed)


def test_a_training_that_always_fails_ends_the_sweep(tmp_path):
    def train(lr, weight_decay, seed):
        raise ValueError("always")

    with pytest.raises(lab.SweepError) as caught:
        sweep(train, tmp_path)
    message = str(caught.value)
    assert "ValueError: always\n\nThe first 3 trainings all failed, so no more were run" in message
    assert message.endswith("go on with\n\n    the command\n")


# --- a sweep that ends early ---------------------------------------------------------------------


@pytest.mark.parametrize(("number", "word"), [("SIGTERM", "Terminated"), ("SIGINT", "Interrupted")])
def test_it_is_told_to_end(tmp_path, undisturbed, number, word):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train = Training(lambda: os.kill(os.getpid(), getattr(signal, number)))
    with pytest.raises(lab.Interrupted) as caught:
        sweep(train, tmp_path)
    assert str(caught.value) == (
        f"{word}. 4 trained cells are safe in {tmp_path}; go on with\n\n    the command\n"
    )
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    goes_on(tmp_path, undisturbed, trained=4)


def test_what_is_being_recorded_is_recorded_to_its_end(tmp_path, undisturbed, monkeypatch):
    append, operations = Written.append_logs, []

    def interrupted(self, logs):
        operations.extend(log["op_code"] for log in logs)
        if any("cell" in log.get("user_attr", {}) for log in logs) and operations.count(8) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        append(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(Written, "append_logs", interrupted)
        with pytest.raises(lab.Interrupted, match=r"Terminated\. 5 trained cells"):
            sweep(Training(), tmp_path)
    goes_on(tmp_path, undisturbed, trained=5)


def test_the_time_is_over(tmp_path, undisturbed):
    said = Said()
    sweep(Training(), tmp_path, time_limit=1e-9, progress=said)
    assert said.words == [
        "Stopped after time_limit=1e-09 seconds. 1 trained cells are safe in "
        f"{tmp_path}; go on with\n\n    the command\n"
    ]
    goes_on(tmp_path, undisturbed, trained=1)


@pytest.mark.parametrize("database", [False, True])
def test_the_sentence_without_a_command_is_the_call(tmp_path, database):
    """It names the database too, and not its address, in which a password may be."""
    said, url = Said(), f"sqlite:///{tmp_path}/runs.db"
    storage = {"storage": url} if database else {}
    sweep(Training(), tmp_path, time_limit=1e-9, progress=said, command="", **storage)
    kept = f"out={str(tmp_path)!r}" + (", storage=..." if database else "")
    assert said.words[0].endswith(f"go on with\n\n    sweep(..., {kept}, resume=True)\n")


def test_a_sweep_in_a_database_is_found_by_its_folders_name_as_given(tmp_path, monkeypatch):
    """Another machine shares the database and has another folder around that name."""
    url = f"sqlite:///{tmp_path}/runs.db"
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    first = sweep(Training(), "runs/mine", storage=url)
    monkeypatch.chdir(tmp_path / "there")
    assert cells_of(lab.Result.read("runs/mine", storage=url)) == cells_of(first)
    second = Training()
    sweep(second, "runs/mine", storage=url)
    assert second.calls == []


def test_a_bar_whose_total_is_not_known_shows_none(capsys):
    with Bar() as bar:
        bar.progress(3, 7, "training")
        bar.progress(0, 0, "measuring")
        (task,) = bar._progress.tasks
        assert (task.total, task.description, task.completed) == (None, "measuring", 0)
        bar.progress(1, 5, "training")
        (task,) = bar._progress.tasks
        assert (task.total, task.completed) == (5, 1)


@pytest.mark.skipif(os.name == "nt", reason="no limit on the size of files")
def test_the_disk_is_full(tmp_path, undisturbed):
    """A limit on the size of files, which writing meets as it meets a full disk."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = tmp_path / "ledger.journal"

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 300, limits[1]))

    try:
        with pytest.raises(lab.LedgerError) as caught:
            sweep(Training(fill), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == (
        f"{tmp_path}: cannot be written (File too large); what is recorded is safe: make room or "
        "mend the file system, and resume. Go on with\n\n    the command\n"
    )
    goes_on(tmp_path, undisturbed, trained=4)


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_the_folder_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(lab.LedgerError, match=r"cannot be written \(Permission denied\)"):
            sweep(Training(), tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def test_out_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(lab.LedgerError, match=r"file.*: cannot be (written|read)"):
            sweep(Training(), out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_process_joins(tmp_path, undisturbed):
    """Here a second thread, with a ledger of its own."""
    trainings, results = [Training(), Training()], []
    train_both = threading.Barrier(2)

    def drive(train):
        with contextlib.suppress(threading.BrokenBarrierError):
            train_both.wait(timeout=20)
        results.append(sweep(train, tmp_path))

    threads = [threading.Thread(target=drive, args=(t,)) for t in trainings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls = [c for t in trainings for c in t.calls]
    assert len(calls) == len(set(calls)) == CELLS
    assert [cells_of(r) for r in results] == [cells_of(undisturbed)] * 2
    assert {r.sentence for r in results} == {undisturbed.sentence}


class Late(lab.InProcess):
    """Has nobody to train at first, as a cluster that is busy."""

    def __init__(self, looks):
        super().__init__()
        self.slots, self._looks = 0, looks

    def wait(self, seconds):
        if self.slots:
            return super().wait(seconds)
        self._looks.append(len(self._looks))
        self.slots = int(len(self._looks) >= 3)
        return []


def test_nothing_is_claimed_before_somebody_is_there_to_train_it(
    tmp_path, undisturbed, monkeypatch
):
    """Else two sweeps at one cluster wait for each other: one for cores, one for cells."""
    looks, claims, claim = [], [], Ledger.claim

    def noted(self, cells, again=()):
        claims.append(len(looks))
        return claim(self, cells, again)

    monkeypatch.setattr(Ledger, "claim", noted)
    result = sweep(Training(), tmp_path, executor=Late(looks))
    assert len(looks) == 3
    assert min(claims) == 3
    assert cells_of(result) == cells_of(undisturbed)
