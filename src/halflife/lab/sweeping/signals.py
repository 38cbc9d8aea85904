"""Ctrl-C and SIGTERM in a sweep: exceptions, but not in the middle of what is being recorded."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Terminated", "terminable", "undisturbed"]


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM)."""


class _State:
    depth = 0
    pending: int | None = None


def _end(number: int, frame: FrameType | None = None) -> None:
    # A second one is for whoever finds that what is being recorded takes too long.
    if _State.depth and _State.pending is None:
        _State.pending = number
        return
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM is what Ctrl-C is: an exception, which lets everything be put in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    _State.depth, _State.pending = 0, None
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, the first of them waits for the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        if not _State.depth and (number := _State.pending) is not None:
            _State.pending = None
            _end(number)
