"""Pieces of work in forks of one process that has torch loaded, which takes longest.

A fork imports our package by itself, so that each may have another state of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MEMORY = 8 << 30  # bytes that a fork may take: mutants make endless lists, too


def preload() -> None:
    """Import what every fork needs; nothing of ours."""
    import expecttest  # noqa: F401
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import torch._dynamo

    torch.set_num_threads(1)


class Fork:
    """A piece of work in a process of its own, which writes what it found into a file."""

    def __init__(self, work: Callable[[], Any], limit: float) -> None:
        self.began, self.limit = time.monotonic(), limit
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            with contextlib.suppress(BaseException):
                found = work()
                self._file(os.getpid()).write_text(json.dumps(found))
            os._exit(0)

    @staticmethod
    def _file(pid: int) -> Path:
        return Path(tempfile.gettempdir()) / f"fork-{pid}.json"

    def result(self) -> tuple[bool, Any]:
        """Whether it has ended, and what it found: None if it died, "timeout" at its limit."""
        done, _ = os.waitpid(self.pid, os.WNOHANG)
        late = not done and time.monotonic() - self.began > self.limit
        if late:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if not (done or late):
            return False, None
        file = self._file(self.pid)
        found = json.loads(file.read_text()) if file.exists() else None
        file.unlink(missing_ok=True)
        return True, "timeout" if late and found is None else found


def run_all(
    jobs: list[tuple[Any, Callable[[], Any], float]], workers: int, what: str
) -> Iterator[tuple[Any, Any]]:
    """What each job finds, as it ends; a line of progress with the time that is left."""
    waiting, running, began, total = jobs[::-1], {}, time.monotonic(), len(jobs)
    ended = 0
    while waiting or running:
        while waiting and len(running) < workers:
            label, work, limit = waiting.pop()
            fork = Fork(work, limit)
            running[fork.pid] = (label, fork)
        for pid, (label, fork) in list(running.items()):
            over, found = fork.result()
            if over:
                del running[pid]
                ended += 1
                spent = time.monotonic() - began
                left = spent / ended * (total - ended)
                print(f"{what}: {ended}/{total}, {left / 60:.0f} min left", end="\r", flush=True)
                yield label, found
        time.sleep(0.02)
    if total:
        print(f"{what}: {total}/{total}, {(time.monotonic() - began) / 60:.1f} min" + " " * 20)
