"""Who trains for a ledger, and whether they still live: several processes may share one.

A driver holds a lock on a file of this machine, which the system releases with the process, and
writes to the ledger every so often that it lives, for those on other machines.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...checks import is_number
from .lock import FileLock

__all__ = ["BEAT", "Presence", "alive", "forget", "living"]

BEAT = 20.0  # seconds between two signs of life
_NAME = re.compile("[0-9a-f]{12}")
_SILENCE = 5 * BEAT  # after which one on another machine is taken for dead


class Presence:
    """This process, as one that trains for a ledger.

    Args:
        write: puts a driver's name and its sign of life into the ledger.
    """

    def __init__(self, write: Callable[[str, Mapping[str, Any]], None]) -> None:
        self.name = uuid.uuid4().hex[:12]
        self._write = write
        self._lock: FileLock | None = None
        with contextlib.suppress(OSError):
            lock = FileLock(_lock_file(self.name, make=True))
            if lock.acquire(blocking=False):
                self._lock = lock
        self._stop = threading.Event()
        self._sign()
        self._living = threading.Thread(target=self._live, daemon=True)
        self._living.start()

    def _sign(self, *, ended: bool = False) -> None:
        sign = {
            "host": _host(),
            "pid": os.getpid(),
            "locked": self._lock is not None,
            "beat": time.time(),
            "ended": ended,
        }
        self._write(self.name, sign)

    def _live(self) -> None:
        """Say every so often that this driver lives; of a thread of its own."""
        while not self._stop.wait(BEAT):
            # A ledger that cannot be written is said where a cell is recorded.
            with contextlib.suppress(Exception):
                self._sign()

    def close(self) -> None:
        """Be gone, and say so; where that cannot be written, the file says it, not locked."""
        self._stop.set()
        self._living.join(timeout=5.0)
        signed = False
        with contextlib.suppress(Exception):
            self._sign(ended=True)
            signed = True
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            if signed:
                forget(self.name)


def alive(name: str, sign: Mapping[str, Any] | None) -> bool:
    """Whether a driver still lives, by its last sign of life."""
    if not _NAME.fullmatch(name) or not isinstance(sign, Mapping) or sign.get("ended"):
        return False
    beat = sign.get("beat")
    recent = is_number(beat) and time.time() - float(beat or 0.0) < _SILENCE
    if sign.get("host") != _host() or not sign.get("locked"):
        return recent
    path = _lock_file(name)
    if not path.exists():
        return recent  # seen from a container with another folder, or tidied away
    lock = FileLock(path)
    try:
        if not lock.acquire(blocking=False):
            return True
    except OSError:
        return recent
    lock.release()
    return False


def living(attributes: Mapping[str, Any]) -> set[str]:
    """The drivers that live, by the signs of life among a ledger's attributes."""
    signs = {k.partition(":")[2]: v for k, v in attributes.items() if k.startswith("driver:")}
    return {name for name, sign in signs.items() if alive(name, sign)}


def forget(name: str) -> None:
    """Remove the file of a driver that is known to have ended."""
    if _NAME.fullmatch(name):  # it comes from the ledger, and is no path
        with contextlib.suppress(OSError):
            _lock_file(name).unlink()


def _lock_file(name: str, *, make: bool = False) -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"halflife-{user}"
    if make:
        folder.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
            raise OSError(errno.EPERM, "belongs to someone else", str(folder))
    return folder / f"{name}.lock"


def _host() -> str:
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()} {boot}".strip()
