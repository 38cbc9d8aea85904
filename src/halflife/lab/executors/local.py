"""Trainings in processes of this machine, watched over: one that dies is replaced."""

from __future__ import annotations

import functools
import os
import pickle
import queue
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cloudpickle
import torch

from ...checks import require, require_count
from ..trials.cell import Outcome
from ..trials.job import Job, Portion
from .base import Done, Executor, ExecutorError, packed
from .process import WorkerProcess

__all__ = ["STARTS", "Local", "cores"]

STARTS = 3  # times a worker may die before it is ready
_WITNESS = 1.0  # seconds in which a process that fails may have met the end of another


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Local(Executor):
    """Train in processes of this machine.

    A worker that dies is replaced; its cell is trained once more, and then recorded as failed.
    Workers end with the process that started them, and what a training started with its worker.

    Args:
        workers: processes that train at once. Default: one for each accelerator; else one for each
            processor core.
        threads: of torch in each; 1, as the workers share the cores already.
        timeout: seconds after which a training is ended as failed. Default: none.
        devices: where the workers train, in turn. Default: the accelerators, else the CPU.
        processes: of one training: with 2, each cell is trained by two processes that
            `Trial.fabric` joins (DDP, FSDP2), and rank 0 reports. If one of them fails or dies, so
            has the training, and all of them are replaced.

    Raises:
        ValueError: for a count that is none, or a timeout that is not positive.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        threads: int = 1,
        timeout: float | None = None,
        devices: Sequence[str] | None = None,
        processes: int = 1,
    ) -> None:
        super().__init__()
        remedy = "pass how many processes train at once, such as 2"
        if workers is not None:
            require_count("workers", workers, remedy)
        require_count("threads", threads, "pass 1, or more where the workers leave cores idle")
        require_count("processes", processes, "pass 1, or the world size of one training")
        ok = timeout is None or timeout > 0
        require(ok, "timeout", "a number of seconds > 0", timeout, "pass None for no limit")
        self._workers, self._threads, self._timeout = workers, threads, timeout
        self._devices, self._processes = devices, processes
        self._slots: list[_Slot] = []
        self._events: queue.SimpleQueue[tuple[_Slot, int, int, str, Any]] = queue.SimpleQueue()
        self._setup: dict[str, Any] = {}

    def open(self, job: Job) -> None:
        """Start the workers."""
        count = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
        kind = torch.accelerator.current_accelerator() if count else None
        devices = list(self._devices or [f"{kind}:{i}" for i in range(count)] or ["cpu"])
        room = count or cores() // self._threads
        self.slots = self._workers or max(room // self._processes, 1)
        content = packed(job)
        self._setup = {"path": [p or os.getcwd() for p in sys.path], "threads": self._threads,
                       "job": content}  # fmt: skip
        for index in range(self.slots):
            first = index * self._processes
            slot = _Slot(
                index, [devices[(first + r) % len(devices)] for r in range(self._processes)]
            )
            self._slots.append(slot)
            self._start(slot)

    def _start(self, slot: _Slot) -> None:
        """Start a slot's processes, which replace those that it had."""
        slot.generation += 1
        slot.ready, slot.workers = 0, []
        environment = dict(os.environ)
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            environment.pop(name, None)
        port = _free_port() if self._processes > 1 else 0
        for rank in range(self._processes):
            if self._processes > 1:
                environment |= {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(self._processes),
                    "LOCAL_WORLD_SIZE": str(self._processes),
                    "GROUP_RANK": "0",
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                    # What Fabric knows processes by that others have started.
                    "TORCHELASTIC_RUN_ID": f"halflife-{os.getpid()}-{slot.index}",
                }
            frame = pickle.dumps(self._setup | {"device": slot.devices[rank]})
            said = functools.partial(self._hear, slot, slot.generation, rank)
            slot.workers.append(WorkerProcess(frame, environment, said))

    def _hear(self, slot: _Slot, generation: int, rank: int, kind: str, content: Any) -> None:
        """Take what a worker says; in a thread of its own."""
        self._events.put((slot, generation, rank, kind, content))

    def submit(self, number: int, piece: Portion) -> None:
        """Hand a piece to a slot that is free."""
        slot = next(s for s in self._slots if s.number is None)
        slot.number, slot.piece, slot.since = number, piece, None
        self._hand(slot)

    def _hand(self, slot: _Slot) -> None:
        if slot.number is None or slot.ready < self._processes:
            return
        slot.since, slot.answers = time.monotonic(), {}
        frame = cloudpickle.dumps((slot.number, slot.piece))
        for worker in slot.workers:
            worker.send(frame)

    def wait(self, seconds: float) -> list[Done]:
        """Pieces that came back."""
        until = time.monotonic() + seconds
        done: list[Done] = []
        while not done:
            left = until - time.monotonic()
            limits = [s.since + self._timeout for s in self._slots if s.since and self._timeout]
            soonest = min([until, *limits]) - time.monotonic()
            try:
                event = self._events.get(timeout=max(soonest, 0.0))
            except queue.Empty:
                done += self._overdue()
                if left <= 0.0:
                    break
                continue
            done += self._heard(*event)
        return done

    def _heard(
        self, slot: _Slot, generation: int, rank: int, kind: str, content: Any
    ) -> list[Done]:
        if generation != slot.generation:
            return []  # of one that has been replaced
        if kind == "ready":
            slot.ready += 1
            slot.starts = 0
            self._hand(slot)
        elif kind == "broken":
            raise ExecutorError(f"a worker cannot take up the training:\n{content}")
        elif kind == "refused":
            raise ExecutorError(content)
        elif kind == "done":
            return self._answered(slot, rank, *content)
        elif kind == "gone":
            return self._replaced(slot, content)
        return []

    def _answered(
        self, slot: _Slot, rank: int, number: int, outcomes: Sequence[Outcome]
    ) -> list[Done]:
        """The outcome of rank 0 when all ranks are done, or of the first that fails."""
        slot.answers[rank] = outcomes
        failed = self._processes > 1 and any(o.status == "failed" for o in outcomes)
        if not failed and len(slot.answers) < self._processes:
            return []
        moment = time.monotonic() + _WITNESS
        if failed and any(worker.ends_by(moment) for worker in slot.workers):
            return []  # it met the end of another, which says why
        slot.number, slot.since = None, None
        if failed:  # the others may wait for it for ever
            said = f"of rank {rank} of {self._processes}:\n"
            outcomes = [replace(o, error=f"{said}{o.error}") for o in outcomes]
            slot.end()
            self._start(slot)
        return [Done(number, slot.answers[0] if not failed else outcomes)]

    def _overdue(self) -> list[Done]:
        done = []
        for slot in self._slots:
            if slot.since and self._timeout and time.monotonic() - slot.since > self._timeout:
                done += self._replaced(slot, f"took longer than timeout={self._timeout:g} seconds")
        return done

    def _replaced(self, slot: _Slot, why: str) -> list[Done]:
        started = slot.ready == self._processes
        slot.end()
        if not started:
            slot.starts += 1
            if slot.starts >= STARTS:
                raise ExecutorError(
                    f"a worker process ended {STARTS} times before it was ready: {why}"
                )
        number = None
        if started:
            number, slot.number, slot.since = slot.number, None, None
        self._start(slot)  # what was not handed over yet goes to the next
        return [] if number is None else [Done(number, None, why)]

    def close(self) -> None:
        """End all workers."""
        for slot in self._slots:
            slot.generation += 1
            slot.end()
        self._slots.clear()


class _Slot:
    """The processes that train one piece at a time."""

    def __init__(self, index: int, devices: Sequence[str]) -> None:
        self.index, self.devices = index, devices
        self.generation = self.ready = self.starts = 0
        self.answers: dict[int, Sequence[Outcome]] = {}  # by rank
        self.workers: list[WorkerProcess] = []
        self.number: int | None = None
        self.piece: Portion | None = None
        self.since: float | None = None

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        self.workers = []


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
