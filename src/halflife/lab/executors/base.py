"""What a sweep asks of whoever trains for it."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import cloudpickle

from ..trials.cell import Outcome
from ..trials.fingerprint import difference, referred_parts
from ..trials.job import Job, Portion

__all__ = ["Done", "Executor", "ExecutorError", "packed", "unpacked"]


class ExecutorError(RuntimeError):
    """Nothing can be trained this way; the message says why and what to do."""


def packed(job: Job) -> bytes:
    """A job, to be sent to another process.

    Raises:
        ExecutorError: if it cannot be sent.
    """
    try:
        return cloudpickle.dumps((referred_parts(job.train), cloudpickle.dumps(job)))
    except Exception as error:  # whatever the user's objects raise
        raise ExecutorError(
            f"train: cannot be sent to another process ({error}); define it in a module, keep open "
            "files and locks out of it, or use executor=lab.InProcess()."
        ) from error


def unpacked(content: bytes) -> Job:
    """A job that was sent here.

    What is in modules is sent by name, so that whoever starts later, or elsewhere, finds what is in
    the files there and then.

    Raises:
        ExecutorError: if that is not what the sweep began with.
    """
    parts, inner = pickle.loads(content)
    try:
        job: Job = pickle.loads(inner)
    except SyntaxError as error:
        raise ExecutorError(_edited([f"{error.filename}, line {error.lineno}"])) from error
    if edited := difference(parts, referred_parts(job.train)):
        raise ExecutorError(_edited(edited))
    return job


def _edited(parts: Sequence[str]) -> str:
    return (
        f"edited while the sweep runs: {', '.join(parts)}; undo the change or begin in another "
        "directory."
    )


class Done(NamedTuple):
    """A piece that came back.

    Attributes:
        number: under which it was handed over.
        outcomes: one for each cell, in order; None if whoever trained it is gone.
        error: what became of it then.
    """

    number: int
    outcomes: Sequence[Outcome] | None
    error: str = ""


class Executor(ABC):
    """What trains pieces, some at a time.

    Attributes:
        slots: pieces it works on at once; fewer, or none, while workers are still to come.
        chunk: most cells of a piece, which are then of one seed.
        notes: what is to be said of the choices it made, such as why it stacks.
        remote: whether it trains where this machine's folders may not be.
    """

    slots: int = 1
    chunk: int = 1
    remote: ClassVar[bool] = False

    def __init__(self) -> None:
        self.notes: list[str] = []

    @abstractmethod
    def open(self, job: Job) -> None:
        """Get ready.

        Raises:
            ExecutorError: if it cannot.
        """

    @abstractmethod
    def submit(self, number: int, piece: Portion) -> None:
        """Hand a piece over; no more than `slots` at once."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Done]:
        """Pieces that came back; none after so many seconds without one.

        Raises:
            ExecutorError: if it cannot go on.
        """

    @abstractmethod
    def close(self) -> None:
        """End what is still being trained, at once."""

    def __enter__(self) -> Executor:
        """Use as ``with executor``, opened."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Close it."""
        self.close()
