"""The journal: a file of lines, safe against a kill at any moment and read without touching it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import stat
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.storages.journal._file import get_lock_file

from .errors import LedgerError
from .lock import FileLock

__all__ = ["ReadOnly", "Written", "read_lines"]

_MOST = 1 << 30  # bytes of a journal, and of a line: what is larger was not written here
_LINE = 64 << 20


class Written(JournalFileBackend):
    """A journal that is written, by one process or several.

    Whoever writes holds the lock; so a last line that is not whole was left by one that was killed.
    It is set aside before the next is written, lest the two become one.

    Args:
        path: the file, made if missing.
        notes: gets a sentence for each line that is set aside.
    """

    def __init__(self, path: Path, notes: list[str]) -> None:
        super().__init__(str(path), _Mending(path, notes))

    def mend(self) -> None:
        """Set a torn last line aside now."""
        with get_lock_file(self._lock):
            pass


class _Mending(FileLock):
    def __init__(self, path: Path, notes: list[str]) -> None:
        super().__init__(f"{path}.lock")
        self._journal, self._notes = path, notes

    def acquire(self, blocking: bool = True) -> bool:
        """Wait for the lock; the journal then ends with a whole line."""
        taken = super().acquire(blocking)
        if taken and self._journal.exists():
            try:
                self._mend()
            except BaseException:
                self.release()
                raise
        return taken

    def _mend(self) -> None:
        with open(self._journal, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return
            file.seek(size - 1)
            if file.read(1) == b"\n":
                return
            start = max(size - _LINE, 0)
            file.seek(start)
            tail = file.read().rpartition(b"\n")[2]
            self._notes.append(_set_aside(self._journal, tail))
            file.truncate(size - len(tail))


def _set_aside(path: Path, torn: bytes) -> str:
    """Keep a torn last line in a file of its own; returns a message that says so."""
    for n in itertools.count(1):
        aside = path.with_name(f"{path.name}.torn-{n}")
        with contextlib.suppress(FileExistsError):
            file = open(aside, "xb")  # noqa: SIM115  # which follows no link
            break
    with file:
        file.write(torn)
        file.flush()
        os.fsync(file.fileno())
    return (
        f"{path}: the write of its last line was interrupted ({torn[:60]!r}...); moved to "
        f"{aside.name}. All earlier lines are intact; what it recorded will be trained again."
    )


class ReadOnly(BaseJournalBackend):
    """A journal that is only read: nothing is made, locked or changed.

    Args:
        lines: of the journal, whole.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._logs = [json.loads(line) for line in lines]

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Operations from a number on."""
        yield from self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse: it is only read.

        Raises:
            LedgerError: always.
        """
        raise LedgerError("the ledger is open for reading only")


def read_lines(path: Path) -> list[bytes]:
    """The whole lines of a journal; one that is still being written, or torn, is left out.

    Raises:
        LedgerError: if it is a link, no plain file, far too large, or has a corrupt line.
    """
    try:
        about = os.lstat(path)
        if stat.S_ISREG(about.st_mode):
            # Not waiting, should it have become a pipe since.
            flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(path, os.O_RDONLY | flags | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror}).") from error
    if not stat.S_ISREG(about.st_mode):
        what = "a link" if stat.S_ISLNK(about.st_mode) else "no plain file"
        raise LedgerError(f"{path}: is {what}; a ledger is a file of its own.")
    with open(descriptor, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST:
            raise LedgerError(
                f"{path}: is no plain file of at most {_MOST >> 30} GB; restore it from a copy."
            )
        lines = []
        while line := file.readline(_LINE + 1):
            lines.append(line)
            if len(line) > _LINE:
                raise LedgerError(
                    f"{path}, line {len(lines)}: is longer than {_LINE >> 20} MB, as no record "
                    "is; restore the file from a copy."
                )
    whole = lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines
    for number, line in enumerate(whole, start=1):
        if not _is_operation(line):
            raise LedgerError(
                f"{path}, line {number}: corrupt record {line[:60]!r}, which no interrupted write "
                "leaves; nothing was changed: restore the file from a copy, or delete that line, "
                "and resume."
            )
    return whole


def _is_operation(line: bytes) -> bool:
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return False
