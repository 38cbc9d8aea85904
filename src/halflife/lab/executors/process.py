"""A worker process as the one who started it sees it: what it says, how it ended, its end."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

from .worker import end_tree, read_frame, write_frame

__all__ = ["WorkerProcess"]

_TAIL = 2000  # bytes of what a dead worker last wrote
_PATIENCE = 5.0  # seconds for what a dead worker has said and a live one holds the pipe of


class WorkerProcess:
    """A worker, and what the trainings in it start: all of that ends with it.

    Args:
        setup: its first frame.
        environment: its own.
        hear: told, in threads of ours, the kind and content of what it says; ``"gone"`` and how it
            ended come last.
    """

    def __init__(
        self, setup: bytes, environment: Mapping[str, str], hear: Callable[[str, Any], None]
    ) -> None:
        self._process = subprocess.Popen(
            # Not by -m, which warns of a module that its package has imported already; the name
            # is one that no script has, whose names a worker takes over.
            [sys.executable, "-c", f"from {__package__} import worker as _worker; _worker.main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=os.name != "nt",  # Ctrl-C is for us, who end them
        )
        self._setup, self._hear = setup, hear
        self._words = b""
        self._readers = [
            threading.Thread(target=run, daemon=True) for run in (self._listen, self._read_words)
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def ends_by(self, moment: float) -> bool:
        """Whether it is gone by then, in `time.monotonic`; what it ended with is heard later."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, moment - time.monotonic()))
        return self._process.poll() is not None

    def send(self, frame: bytes) -> None:
        """Hand a frame over; one that is gone says so by itself."""
        with contextlib.suppress(OSError, ValueError):  # broken, or closed by us
            write_frame(cast("BinaryIO", self._process.stdin), frame)

    def end(self) -> None:
        """End it at once, with what it started."""
        if self._process.returncode is None:
            end_tree(self._process.pid)
            self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # what was still to be written
            cast("BinaryIO", self._process.stdin).close()

    def _listen(self) -> None:
        self.send(self._setup)
        stdout = cast("BinaryIO", self._process.stdout)
        with contextlib.suppress(OSError), stdout:
            while (answer := read_frame(stdout)) is not None:
                self._hear(*pickle.loads(answer))
        # One that says nothing any more but lives is of no use.
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _read_words(self) -> None:
        """Keep the end of what it writes; a file of all of it would fill the disk."""
        words = cast("BinaryIO", self._process.stderr)
        with contextlib.suppress(OSError), words:
            while some := os.read(words.fileno(), 1 << 16):
                self._words = (self._words + some)[-_TAIL:]

    def _watch(self) -> None:
        """Wait for its end: the end of its pipes comes later where a child of it holds them."""
        self._process.wait()
        end_tree(self._process.pid)
        for reader in self._readers:
            reader.join(_PATIENCE)
        self._hear("gone", self._last_words())

    def _last_words(self) -> str:
        code = self._process.returncode
        why = f"the worker process ended with exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                why = f"the worker process was ended by {signal.Signals(-code).name}"
            if -code == getattr(signal, "SIGKILL", 9):
                why += ", as the system does when memory runs out"
        if words := self._words.decode(errors="replace").strip():
            why += f"; it last wrote:\n{words}"
        return why
