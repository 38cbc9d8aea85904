"""A worker process: what `Local` starts, once for each.

It is a plain child and no child of `multiprocessing`, so that a script needs no
``if __name__ == "__main__"`` and a notebook can have workers too. Frames of pickled data come by
its standard input and go by what was its standard output; whatever the training prints goes to
standard error. When its input ends, its parent is gone, and so is it, with what it started.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import traceback
import types
from typing import Any, BinaryIO

from .base import ExecutorError, unpacked

__all__ = ["end_tree", "main", "name_in_main", "read_frame", "write_frame"]

_HEAD = struct.Struct(">Q")


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None where the stream ends, within a frame too."""
    head = _exactly(stream, _HEAD.size)
    return None if head is None else _exactly(stream, _HEAD.unpack(head)[0])


def _exactly(stream: BinaryIO, count: int) -> bytes | None:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def write_frame(stream: BinaryIO, content: bytes) -> None:
    """Write one frame."""
    stream.write(_HEAD.pack(len(content)) + content)
    stream.flush()


def main() -> None:
    """Train what is handed over until there is no more."""
    own, out = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    faulthandler.enable()
    try:
        first = read_frame(own)
        if first is None:
            return
        setup = pickle.loads(first)
        sys.path[:] = setup["path"]
        try:
            job = _job(setup)
        except ExecutorError as error:
            write_frame(out, pickle.dumps(("refused", str(error))))
            return
    except BaseException:
        write_frame(out, pickle.dumps(("broken", traceback.format_exc())))
        return
    write_frame(out, pickle.dumps(("ready", None)))

    from ..trials.job import run_portion

    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(own, inbox), daemon=True).start()
    while True:
        number, piece = pickle.loads(inbox.get())
        outcomes = run_portion(job, piece, setup["device"])
        write_frame(out, pickle.dumps(("done", (number, outcomes))))


def _job(setup: dict[str, Any]) -> Any:
    import torch

    torch.set_num_threads(setup["threads"])
    # Weights that decay to nothing reach denormal numbers, on which a processor is slow.
    torch.set_flush_denormal(True)
    job = unpacked(setup["job"])
    name_in_main()
    return job


def name_in_main() -> None:
    """Put what the user's script defines where pickle looks for it, in ``__main__``.

    It came by value, and pools and ``torch.save`` send functions and classes by name.
    """
    main = vars(sys.modules["__main__"])
    for thing in gc.get_objects():
        kind = type(thing)
        if not (kind is types.FunctionType or issubclass(kind, type)):
            continue
        if getattr(thing, "__module__", None) != "__main__":
            continue
        main.setdefault(thing.__qualname__, thing)
        for name, value in getattr(thing, "__globals__", {}).items():
            if not name.startswith("__"):  # such as __file__, which a child would run
                main.setdefault(name, value)


def end_tree(pid: int) -> None:
    """End a process at once that leads a group, and what it has started."""
    if os.name == "nt":
        command = ["taskkill", "/F", "/T", "/PID", str(pid)]
        subprocess.run(command, capture_output=True, check=False)
    else:
        with contextlib.suppress(OSError):  # all are gone already
            os.killpg(pid, signal.SIGKILL)


def _listen(own: BinaryIO, inbox: queue.SimpleQueue[bytes]) -> None:
    while (frame := read_frame(own)) is not None:
        inbox.put(frame)
    if os.name == "nt" or os.getpgrp() == os.getpid():
        end_tree(os.getpid())
    os._exit(1)
