"""Many small models trained at once, where that is measured to be faster."""

from __future__ import annotations

from ..trials.job import Job, Portion
from .base import Done, Executor
from .local import Local

__all__ = ["Stacked"]

# More in one stack take no less time each, and fewer are recorded more often.
_CHUNK = 64


class Stacked(Executor):
    """Train many cells of one seed as one stacked model, by ``torch.vmap``.

    Only a task of the lab can be stacked (`halflife.lab.tasks`). Before it starts, some steps are
    timed stacked and one by one, and the faster way is taken; `notes` says which, and why.

    Args:
        inner: who trains the stacks. Default: `Local()`.
        chunk: most models of a stack.
    """

    def __init__(self, inner: Executor | None = None, *, chunk: int = _CHUNK) -> None:
        super().__init__()
        self._inner = Local() if inner is None else inner
        self._most = chunk

    def open(self, job: Job) -> None:
        """Measure, and get ready."""
        self.chunk = 1
        if not job.stacks:
            self.notes.append(
                "trained one by one: only a task of the lab can be stacked (halflife.lab.tasks), "
                "and that with adamw or sgd"
            )
        else:
            stacked, single = job.train.speeds(self._most)  # type: ignore[attr-defined]
            faster = stacked > single
            self.chunk = self._most if faster else 1
            ratio = stacked / single if faster else single / stacked
            way = f"stacked by {self._most}" if faster else "one by one"
            other = "one by one" if faster else "stacked"
            self.notes.append(f"trained {way}: measured {ratio:.1f} times as fast as {other}")
        self._inner.open(job)
        self.slots = self._inner.slots

    def submit(self, number: int, piece: Portion) -> None:
        """Hand a piece over."""
        self._inner.submit(number, piece)

    def wait(self, seconds: float) -> list[Done]:
        """Pieces that came back."""
        answers = self._inner.wait(seconds)
        self.slots = self._inner.slots
        return answers

    def close(self) -> None:
        """End what is still being trained."""
        self._inner.close()
