"""A lock on a file, which the system releases with its process, on every system."""

from __future__ import annotations

import errno
import importlib
import os
import time
from pathlib import Path
from typing import Any

from optuna.storages.journal._file import BaseJournalFileLock

__all__ = ["FileLock"]

# What the systems say of a lock that another one holds: flock the first two, Windows the others.
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_PAUSE = 0.01  # seconds between two looks, on Windows


class FileLock(BaseJournalFileLock):
    """An exclusive lock on a file: by ``flock``, and by ``msvcrt.locking`` on Windows.

    Optuna's own lock is a link that outlives a killed process and blocks everyone for 30 s.

    Args:
        path: the lock file, made when first acquired and left in place.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, blocking: bool = True) -> bool:
        """Wait for the lock, or say at once whether it was free.

        Raises:
            OSError: if the file cannot be locked for another reason.
        """
        self.release()  # what an interrupted holder in this process may have left
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self._path, flags, 0o644)
        try:
            _lock(descriptor, blocking)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno in _TAKEN:
                return False
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # which unlocks it
            self._descriptor = None


def _lock(descriptor: int, blocking: bool) -> None:
    if os.name != "nt":
        flock: Any = importlib.import_module("fcntl")  # no Windows has it
        flock.flock(descriptor, flock.LOCK_EX | (0 if blocking else flock.LOCK_NB))
        return
    windows: Any = importlib.import_module("msvcrt")
    while True:
        try:
            # The first byte, which need not exist. LK_LOCK would give up after ten seconds.
            windows.locking(descriptor, windows.LK_NBLCK, 1)
            return
        except OSError as error:
            if not blocking or error.errno not in _TAKEN:
                raise
        time.sleep(_PAUSE)
