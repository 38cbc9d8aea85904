"""Who trains for a ledger, and whether they still live: several processes may share one.

A driver holds a lock on a file of this machine, which the system releases with the process, and
writes to the ledger every so often that it lives, for those on other machines.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .lock import FileLock

__all__ = ["BEAT", "Driver", "alive"]

BEAT = 20.0  # seconds between two signs of life
_SILENCE = 5 * BEAT  # after which one on another machine is taken for dead


class Driver:
    """This process, as one that trains for a ledger."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex[:12]
        self.started = time.time()
        self._lock: FileLock | None = None
        with contextlib.suppress(OSError):
            lock = FileLock(_lock_file(self.name, make=True))
            if lock.acquire(blocking=False):
                self._lock = lock

    def sign(self) -> dict[str, Any]:
        """A sign of life."""
        return {
            "host": _host(),
            "pid": os.getpid(),
            "locked": self._lock is not None,
            "beat": time.time(),
        }

    def close(self) -> None:
        """Be gone."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            with contextlib.suppress(OSError):
                _lock_file(self.name).unlink()


def alive(name: str, sign: Mapping[str, Any] | None) -> bool:
    """Whether a driver still lives, by its last sign of life."""
    if sign is None:
        return False
    recent = time.time() - float(sign["beat"]) < _SILENCE
    if sign.get("host") != _host() or not sign.get("locked"):
        return recent
    path = _lock_file(name)
    if not path.exists():
        return recent  # ended in order, or seen from a container with another folder
    lock = FileLock(path)
    if lock.acquire(blocking=False):
        lock.release()
        with contextlib.suppress(OSError):
            path.unlink()
        return False
    return True


def _lock_file(name: str, *, make: bool = False) -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"halflife-{user}"
    if make:
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{name}.lock"


def _host() -> str:
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()} {boot}".strip()
