"""Trainings on a Ray cluster: one that runs, or one of this machine alone.

Each slot is an actor, which holds the resources that one training asks for. Results come back to
the process that called, which alone writes the ledger. An actor that is gone, with its process or
its whole node, is replaced.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any

import cloudpickle

from ...checks import came_of, is_number, require, require_count
from ..trials.job import Job, Portion, run_portion
from .base import Done, Executor, ExecutorError, packed, unpacked
from .local import STARTS, cores
from .worker import name_in_main

__all__ = ["Ray"]

_OBJECTS = 128 << 20  # bytes of the object store of a cluster of our own: little goes through it


class Ray(Executor):
    """Train on a Ray cluster.

    Needs the extra ``ray``, and halflife where the cluster's workers run. With a cluster of several
    machines, a training that is cut short goes on from its checkpoint only where they share the
    folder of the sweep.

    Args:
        address: of a running cluster, as `ray.init` takes it, such as ``"auto"``. Default: the one
            that this process is connected to, else that of the environment's ``RAY_ADDRESS``, else
            a cluster on this machine that is started, and ended with the sweep.
        cpus: processor cores that one training gets; torch has a thread for each.
        gpus: that one training gets; 0.5 lets two share one.
        timeout: seconds after which a training is ended as failed. Default: none.
        slots: trainings at once. Default: as many as the nodes that are there can hold.

    Raises:
        ValueError: for resources that are none, or a timeout that is not positive.
        ExecutorError: if Ray is not installed.
    """

    remote = True

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: float = 1,
        gpus: float = 0,
        timeout: float | None = None,
        slots: int | None = None,
    ) -> None:
        super().__init__()
        require(is_number(cpus) and cpus > 0, "cpus", "a number of cores > 0", cpus, "pass 1")
        require(
            is_number(gpus) and gpus >= 0, "gpus", "a number of GPUs >= 0", gpus, "pass 0 for none"
        )
        ok = timeout is None or (is_number(timeout) and timeout > 0)
        require(ok, "timeout", "a number of seconds > 0", timeout, "pass None for no limit")
        if slots is not None:
            require_count("slots", slots, "pass how many train at once, or None for all that fit")
        try:
            import ray
        except ImportError:
            raise ExecutorError(
                'lab.Ray needs Ray, which is not installed: pip install "torch-halflife[ray]".'
            ) from None
        self._ray: Any = ray
        self._address, self._cpus, self._gpus = address, cpus, gpus
        self._timeout, self._asked = timeout, slots
        self._actors: list[_Actor] = []
        self._waiting: deque[tuple[int, Portion]] = deque()
        self._ours = False
        self._job: Any = None

    def open(self, job: Job) -> None:
        """Connect, and ask for the actors.

        Raises:
            ExecutorError: if there is no cluster, none of its nodes can hold a training, or the
                training cannot be sent.
        """
        if job.folder is not None:
            job = replace(job, folder=job.folder.absolute())
        content = cloudpickle.dumps(
            (packed(job), unpacked, ExecutorError, run_portion, name_in_main)
        )
        if not self._ray.is_initialized():
            self._connect()
        fit = self._fit()
        if not fit and self._asked is None:
            raise ExecutorError(
                f"cpus={self._cpus:g}, gpus={self._gpus:g}: no node of the Ray cluster has as "
                "much; ask for less, or name slots= where the cluster grows by itself."
            )
        self._job = self._ray.put(content)
        self._actors = [_Actor() for _ in range(self._asked or fit)]
        for actor in self._actors:
            self._start(actor)
        self._count()

    def _count(self) -> None:
        """Offer those actors that are there: two sweeps may share a cluster that cannot hold both.

        One that took cells without an actor to train them would keep the other waiting for those,
        which in turn holds the cores that the first waits for.
        """
        self.slots = sum(actor.ready for actor in self._actors)

    def _connect(self) -> None:
        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {}
        if address == "local":
            # Whoever says how many train at once means it, also on fewer cores.
            enough = max(cores(), math.ceil((self._asked or 0) * self._cpus))
            options = {
                "num_cpus": enough, "include_dashboard": False, "object_store_memory": _OBJECTS
            }  # fmt: skip
        # Ray puts its own handler in place of the one that ends a sweep in order.
        main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(address, log_to_driver=False, logging_level="ERROR", **options)
        except Exception as error:
            if came_of(error, self._ray.exceptions.AuthenticationError):
                raise ExecutorError(
                    f"address={address!r}: the Ray cluster there asks for its token; set "
                    "RAY_AUTH_MODE=token, with the token where Ray looks for it (RAY_AUTH_TOKEN, "
                    "or a file named by RAY_AUTH_TOKEN_PATH)."
                ) from None
            raise ExecutorError(
                f"address={address!r}: no Ray cluster can be reached there "
                f"({_first_line(error)}); start one with 'ray start --head', or pass no address "
                "for one on this machine."
            ) from error
        finally:
            if main and handler is not None:
                signal.signal(signal.SIGTERM, handler)
        self._ours = True

    def _fit(self) -> int:
        """Trainings that the nodes which are there can hold at once."""
        count = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                each = [has.get("CPU", 0.0) // self._cpus]
                each += [has.get("GPU", 0.0) // self._gpus] if self._gpus else []
                count += int(min(each))
        return count

    def _start(self, actor: _Actor) -> None:
        """Ask for an actor, in place of the one that was."""
        # By value: a worker finds halflife only once the path is set.
        kind = self._ray.remote(_trainer_class())
        actor.handle = kind.options(
            num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0, max_task_retries=0
        ).remote([p or os.getcwd() for p in sys.path], max(int(self._cpus), 1), self._gpus > 0)
        actor.answer, actor.number, actor.since = actor.handle.take_up.remote(self._job), None, None
        actor.ready = False

    def submit(self, number: int, piece: Portion) -> None:
        """Hand a piece over."""
        self._waiting.append((number, piece))
        self._hand_out()

    def _hand_out(self) -> None:
        for actor in self._actors:
            if actor.ready and actor.number is None and self._waiting:
                actor.number, piece = self._waiting.popleft()
                actor.since = time.monotonic()
                actor.answer = actor.handle.train.remote(cloudpickle.dumps(piece))

    def wait(self, seconds: float) -> list[Done]:
        """Pieces that came back."""
        until = time.monotonic() + seconds
        done: list[Done] = []
        while not done:
            known = {a.answer: a for a in self._actors if a.answer is not None}
            limits = [a.since + self._timeout for a in self._actors if a.since and self._timeout]
            left = max(min([until, *limits]) - time.monotonic(), 0.0)
            if known:
                try:
                    answers = self._ray.wait(list(known), timeout=left)[0]
                except self._ray.exceptions.RayError as error:
                    raise ExecutorError(
                        f"the Ray cluster is gone: {_first_line(error)}; see that it runs."
                    ) from error
                for answer in answers:
                    done += self._heard(known[answer], answer)
            else:
                time.sleep(left)
            done += self._overdue()
            self._hand_out()
            self._count()
            if time.monotonic() >= until:
                break
        return done

    def _heard(self, actor: _Actor, answer: Any) -> list[Done]:
        try:
            content = pickle.loads(self._ray.get(answer))
        except Exception as error:  # whatever ended it
            return self._replaced(actor, _why(error))
        actor.answer = None
        if not actor.ready:
            if isinstance(content, ExecutorError):
                raise content
            if content is not None:
                raise ExecutorError(f"a worker cannot take up the training:\n{content}")
            actor.ready, actor.starts = True, 0
            return []
        number, actor.number, actor.since = actor.number, None, None
        assert number is not None
        return [Done(number, content)]

    def _overdue(self) -> list[Done]:
        done = []
        for actor in self._actors:
            if actor.since and self._timeout and time.monotonic() - actor.since > self._timeout:
                done += self._replaced(actor, f"took longer than timeout={self._timeout:g} seconds")
        return done

    def _replaced(self, actor: _Actor, why: str) -> list[Done]:
        self._end(actor)
        if not actor.ready:
            actor.starts += 1
            if actor.starts >= STARTS:
                raise ExecutorError(f"a Ray actor ended {STARTS} times before it was ready: {why}")
        number = actor.number
        self._start(actor)
        return [] if number is None else [Done(number, None, why)]

    def _end(self, actor: _Actor) -> None:
        with contextlib.suppress(Exception):  # gone already
            self._ray.kill(actor.handle, no_restart=True)

    def close(self) -> None:
        """End what is still being trained; and the cluster, if it was started for this."""
        for actor in self._actors:
            self._end(actor)
        self._actors, self._job = [], None
        self._waiting.clear()
        if self._ours:
            self._ray.shutdown()
            self._ours = False


class _Actor:
    """A slot: the actor that is in it now, and what it was asked."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.answer: Any = None
        self.ready = False
        self.starts = 0
        self.number: int | None = None
        self.since: float | None = None


def _trainer_class() -> type:
    """What an actor is: a class within a function, which is sent whole and not by its name."""

    class Trainer:
        def __init__(self, path: list[str], threads: int, accelerated: bool) -> None:
            import sys

            sys.path[:] = [*path, *(p for p in sys.path if p not in path)]
            self.threads, self.accelerated = threads, accelerated

        def take_up(self, content: bytes) -> bytes:
            """None, or why the training cannot be taken up: a traceback, or a refusal."""
            import pickle
            import traceback

            try:
                import torch

                torch.set_num_threads(self.threads)
                # Weights that decay to nothing reach denormal numbers, which are slow.
                torch.set_flush_denormal(True)
                packed, unpacked, refusal, self.run, name_in_main = pickle.loads(content)
                try:
                    job = unpacked(packed)
                except refusal as error:
                    return pickle.dumps(error)
                name_in_main()
                if job.folder is not None and not job.folder.parent.exists():
                    from dataclasses import replace

                    job = replace(job, folder=None)  # another machine's
                self.job = job
                self.device = "cpu"
                if self.accelerated and torch.accelerator.is_available():
                    self.device = str(torch.accelerator.current_accelerator())
            except BaseException:
                return pickle.dumps(traceback.format_exc())
            return pickle.dumps(None)

        def train(self, content: bytes) -> bytes:
            import pickle

            return pickle.dumps(self.run(self.job, pickle.loads(content), self.device))

    return Trainer


def _why(error: Exception) -> str:
    """What became of an actor, in Ray's words, which are many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "reason" in line.lower() or "exit" in line.lower()]
    reason = (telling or lines or [type(error).__name__])[0]
    return f"the Ray actor is gone: {reason.partition(' Some common causes')[0][:500]}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
