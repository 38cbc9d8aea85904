"""Trainings in the calling process, one after the other."""

from __future__ import annotations

from collections import deque

import torch

from ..trials.job import Job, Portion, run_portion
from .base import Done, Executor

__all__ = ["InProcess", "default_device"]


def default_device() -> str:
    """The accelerator, if there is one."""
    if torch.accelerator.is_available():
        return str(torch.accelerator.current_accelerator())
    return "cpu"


class InProcess(Executor):
    """Train in the calling process: for tests, simulations, debuggers, and what takes no time.

    Args:
        device: where to train. Default: the accelerator, if there is one.
    """

    def __init__(self, device: str | None = None) -> None:
        super().__init__()
        self._device = device
        self._queue: deque[tuple[int, Portion]] = deque()
        self._job: Job | None = None

    def open(self, job: Job) -> None:
        """Get ready."""
        self._job = job
        self._device = self._device or default_device()

    def submit(self, number: int, piece: Portion) -> None:
        """Hand a piece over."""
        self._queue.append((number, piece))

    def wait(self, seconds: float) -> list[Done]:
        """Train the next piece."""
        if not self._queue:
            return []
        assert self._job is not None
        assert self._device is not None
        number, piece = self._queue.popleft()
        return [Done(number, run_portion(self._job, piece, self._device))]

    def close(self) -> None:
        """Forget what was handed over."""
        self._queue.clear()
