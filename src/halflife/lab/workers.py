"""Local worker processes: spawned, one torch thread each, gone when their parent is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import torch

__all__ = ["Workers"]

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """A pool of processes that compute; this process stays free to record.

    Args:
        count: processes. 0 computes in this one.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._others = set(multiprocessing.active_children())
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        """Use as ``with Workers(2) as workers``."""
        if self._count:
            self._executor = ProcessPoolExecutor(
                self._count, multiprocessing.get_context("spawn"), initializer=_start
            )
        return self

    def map(
        self, function: Callable[[Any, T], R], shared: Any, items: Sequence[T]
    ) -> Iterator[tuple[int, R]]:
        """Index and result of ``function(shared, item)`` for each item, as they are finished."""
        if self._executor is None:
            for index, item in enumerate(items):
                yield index, function(shared, item)
            return
        futures: dict[Future[R], int] = {
            self._executor.submit(function, shared, item): index for index, item in enumerate(items)
        }
        for future in as_completed(futures):
            yield futures[future], future.result()

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """End the processes: now, if there was an exception."""
        if self._executor is None:
            return
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._executor.shutdown(cancel_futures=True)


def _start() -> None:
    torch.set_num_threads(1)  # the processes share the cores already
    # Weights that decay to nothing reach denormal numbers, on which a processor is slow.
    torch.set_flush_denormal(True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the parent: killed, it cannot end its workers, which would wait for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
