"""The lock that the system releases with its process, on every system."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
import types

import pytest
from ledgers import cell, filled

from halflife.lab.ledger import Ledger
from halflife.lab.ledger import lock as lock_module
from halflife.lab.ledger.lock import FileLock


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path):
    code = f"""
        import time
        from halflife.lab.ledger.lock import FileLock
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
    records = filled(tmp_path)
    with Ledger(tmp_path, writing=True) as first, Ledger(tmp_path, writing=True) as second:
        assert first.claim([cell(3)]) == [cell(3)]
        assert second.claim([cell(3)]) == []
    with Ledger(tmp_path) as reader:
        assert reader.records() == records
