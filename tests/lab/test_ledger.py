"""The ledger: plain round trips, kills, torn and corrupt lines, one writer, clear errors."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import types

import optuna
import pytest
from halflife.lab.lock import FileLock

from halflife.lab import lock as lock_module
from halflife.lab.ledger import Ledger, LedgerError
from halflife.lab.meta import Meta

CONFIGURATION = {"task": "digits", "rules": ["decoupled"], "epochs": 3}


def record(n, **changes):
    """A record with numbers that only an exact round trip keeps."""
    return {
        "rule": "decoupled",
        "lr": 1e-3 * (n + 1) / 3,
        "strength": 0.1 / 3,
        "seed": 7,
        "weight_decay": 1 / 3,
        "fraction": None,
        "test_error": 100 / 3,
        "test_loss": 0.1 + 0.2,
        "curve": {"step": [1, 2], "train_loss": [1 / 3, 0.1], "test_error": [90.0, 10.0]},
        "diverged": False,
        **changes,
    }


def filled(directory, cells=3):
    with Ledger(directory, writing=True) as ledger:
        ledger.configure(CONFIGURATION, resume=True)
        for n in range(cells):
            if ("decoupled", 1e-3 * (n + 1) / 3, 0.1 / 3, 7) not in ledger:
                ledger.add(record(n))
    return directory / "ledger.journal"


def test_records_and_meta_come_back_exactly(tmp_path):
    filled(tmp_path)
    meta = Meta(lrs=[0.1, 1 / 3], strengths={"decoupled": [1e-300]})
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.set_meta(meta)
    again = Ledger(tmp_path)
    assert again.records() == [record(n) for n in range(3)]
    assert (again.meta().lrs, again.meta().strengths) == (meta.lrs, meta.strengths)
    assert ("decoupled", 1e-3 / 3, 0.1 / 3, 7) in again
    assert ("decoupled", 1e-3 / 3, 0.1 / 3, 8) not in again


def test_numbers_that_are_not_finite_come_back_and_leave_valid_json(tmp_path):
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure(CONFIGURATION, resume=False)
        ledger.add(record(0, test_loss=float("nan"), curve={"train_loss": [float("inf")]}))
    (back,) = Ledger(tmp_path).records()
    assert back["test_loss"] != back["test_loss"]
    assert back["curve"]["train_loss"] == [float("inf")]

    def refuse(constant):
        raise AssertionError(constant)

    for line in (tmp_path / "ledger.journal").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_it_is_an_optuna_study_with_one_complete_trial_per_cell(tmp_path):
    path = filled(tmp_path)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    assert study.trials[1].params == {
        "rule": "decoupled",
        "lr": 2e-3 / 3,
        "strength": 0.1 / 3,
        "seed": 7,
    }
    assert study.trials[1].value == 100 / 3


def test_a_database_url_holds_it_instead(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    with Ledger(tmp_path / "out", storage=url, writing=True) as ledger:
        ledger.configure(CONFIGURATION, resume=False)
        ledger.add(record(0))
    assert Ledger(tmp_path / "out").records() == [record(0)]  # remembered
    assert not (tmp_path / "out" / "ledger.journal").exists()
    assert (tmp_path / "out" / "ledger.url").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("closed", [True, False])
def test_a_database_is_let_go(tmp_path, monkeypatch, closed):
    """Closed or forgotten; else Python 3.13 warns of a database that is still open."""
    open_connections = []
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        def close(self):
            open_connections.remove(self)
            super().close()

    def counted(*args, **kwargs):
        open_connections.append(connect(*args, **kwargs, factory=Connection))
        return open_connections[-1]

    monkeypatch.setattr(sqlite3, "connect", counted)
    monkeypatch.setattr(sqlite3.dbapi2, "connect", counted)
    out = tmp_path / "out"
    with Ledger(out, storage=f"sqlite:///{tmp_path}/study.db", writing=True) as ledger:
        ledger.configure(CONFIGURATION, resume=False)
        ledger.add(record(0))
        assert open_connections
    assert not open_connections
    reader = Ledger(out)
    assert reader.records() == [record(0)]
    assert open_connections
    if closed:
        reader.close()
        assert reader.records() == [record(0)]
    else:
        del reader
        gc.collect()
    assert not open_connections


# --- interrupted and damaged ---------------------------------------------------------------------


def test_a_line_torn_anywhere_is_set_aside_and_nothing_else_lost(tmp_path):
    whole = filled(tmp_path).read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in (start + 1, (start + len(whole)) // 2, len(whole) - 1):
        directory = tmp_path / str(end)
        directory.mkdir()
        path = directory / "ledger.journal"
        path.write_bytes(whole[:end])
        with Ledger(directory, writing=True) as ledger:
            (note,) = ledger.notes
            assert f"{path}, line" in note
            assert "ledger.journal.torn-1" in note
            assert len(ledger.records()) == 2
            ledger.add(record(2))
        assert (directory / "ledger.journal.torn-1").read_bytes() == whole[start:end]
        assert Ledger(directory).records() == [record(n) for n in range(3)]


def test_reading_a_torn_ledger_changes_nothing(tmp_path):
    path = filled(tmp_path)
    torn = path.read_bytes()[:-20]
    path.write_bytes(torn)
    assert len(Ledger(tmp_path).records()) == 2
    assert path.read_bytes() == torn


@pytest.mark.parametrize("line", [b"{broken\n", b"[1, 2]\n", b"\n", b"\x00\x00\xff\n"])
def test_a_corrupt_line_in_the_middle_is_an_error_and_nothing_is_changed(tmp_path, line):
    path = filled(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], line, *lines[3:]])
    path.write_bytes(damaged)
    for writing in (True, False):
        with pytest.raises(LedgerError, match=r"ledger.journal, line 3: corrupt.*delete that line"):
            Ledger(tmp_path, writing=writing)
    assert path.read_bytes() == damaged


WRITER = """
import sys
from halflife.lab.ledger import Ledger
sys.path.insert(0, {here!r})
from test_ledger import CONFIGURATION, record
with Ledger({out!r}, writing=True) as ledger:
    ledger.configure(CONFIGURATION, resume=True)
    for n in range(400):
        new = record(n)
        if (new["rule"], new["lr"], new["strength"], new["seed"]) not in ledger:
            ledger.add(new)
            print(n, flush=True)
"""


@pytest.mark.slow
def test_killed_writers_lose_and_repeat_nothing(tmp_path):
    """SIGKILL at arbitrary moments; every record that a writer reported must be there, once."""
    code = WRITER.format(here=os.path.dirname(__file__), out=str(tmp_path))
    reported: list[int] = []
    for kills in range(100):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        if kills < 4:
            for _ in range(20 * kills + 1):  # let it get going, then kill it wherever it is
                reported.append(int(child.stdout.readline()))
            time.sleep(0.003 * kills)
            child.send_signal(signal.SIGKILL)
        reported += [int(n) for n in child.communicate()[0].split()]
        if child.returncode == 0:
            break
    # What is printed is on disk; a cell may be on disk whose print the kill prevented.
    assert len(reported) == len(set(reported)) <= 400
    assert Ledger(tmp_path).records() == [record(n) for n in range(400)]


# --- one writer, one configuration ---------------------------------------------------------------


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path):
    filled(tmp_path)
    with Ledger(tmp_path, writing=True):
        with pytest.raises(LedgerError, match=r"out='.*': another process is writing here"):
            Ledger(tmp_path, writing=True)
        assert len(Ledger(tmp_path).records()) == 3
    Ledger(tmp_path, writing=True).close()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path):
    code = f"""
        import time
        from halflife.lab.lock import FileLock
        assert FileLock({str(tmp_path / "lock")!r}).acquire()
        print("held", flush=True)
        time.sleep(60)
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    lock = FileLock(tmp_path / "lock")
    assert not lock.acquire(blocking=False)
    holder.kill()
    holder.communicate()
    assert lock.acquire(blocking=False)
    lock.release()


@pytest.fixture
def windows(monkeypatch):
    """Windows as the lock sees it: its name, no fcntl, and msvcrt, which locks bytes by handle."""
    import fcntl

    def locking(descriptor, mode, length):
        assert (mode, length) == (4, 1)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_UN)  # the descriptor is open
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    module = types.SimpleNamespace(locking=locking, LK_NBLCK=4)
    monkeypatch.setitem(sys.modules, "msvcrt", module)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(lock_module, "os", types.SimpleNamespace(**{**vars(os), "name": "nt"}))
    return module


def test_the_lock_of_windows(tmp_path, windows):
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire(blocking=False)
    waiting = threading.Thread(target=second.acquire)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    first.release()
    waiting.join(5.0)
    assert not waiting.is_alive()
    assert not first.acquire(blocking=False)
    second.release()
    assert first.acquire(blocking=False)
    first.release()


def test_an_error_of_windows_that_is_no_lock(tmp_path, windows):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    windows.locking = broken
    for blocking in (True, False):
        with pytest.raises(OSError, match="Input/output"):
            FileLock(tmp_path / "lock").acquire(blocking)


def test_a_ledger_on_windows(tmp_path, windows):
    filled(tmp_path)
    with (
        Ledger(tmp_path, writing=True),
        pytest.raises(LedgerError, match="another process is writing here"),
    ):
        Ledger(tmp_path, writing=True)
    assert len(Ledger(tmp_path).records()) == 3


def test_an_earlier_name_of_the_optimizer_is_the_same_configuration(tmp_path):
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure({"optimizer": "adam", "epochs": 3}, resume=False)
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure({"optimizer": "adamw", "epochs": 3}, resume=True)
        with pytest.raises(LedgerError, match="made with optimizer='adamw'"):
            ledger.configure({"optimizer": "sgd", "epochs": 3}, resume=True)


def test_a_different_configuration_is_refused_by_name(tmp_path):
    filled(tmp_path)
    with (
        Ledger(tmp_path, writing=True) as ledger,
        pytest.raises(LedgerError, match=r"epochs=5: the landscape in .* made with epochs=3"),
    ):
        ledger.configure({**CONFIGURATION, "epochs": 5}, resume=True)


def test_finished_cells_need_resume(tmp_path):
    filled(tmp_path)
    with Ledger(tmp_path, writing=True) as ledger:
        with pytest.raises(LedgerError, match=r"holds 3 finished cells; add --resume"):
            ledger.configure(CONFIGURATION, resume=False)
        ledger.configure(CONFIGURATION, resume=True)


def test_unusable_directories(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(LedgerError, match=r"out='.*file.*': cannot be used .*write to"):
            Ledger(out, writing=True)
    with pytest.raises(LedgerError, match=r"out='.*empty': holds no ledger.journal; run"):
        Ledger(tmp_path / "empty")
