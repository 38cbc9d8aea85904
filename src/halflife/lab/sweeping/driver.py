"""The loop that trains: claims cells, hands them out, records what comes back.

    sampler.next -> claim in the ledger -> executor -> record -> sampler.next -> ... -> confirmation

A cell that fails, or whose process dies, is trained once more and then recorded as failed. Nothing
is decided here from anything but the ledger.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..executors import Done, Executor
from ..ledger import Ledger, RecordError, as_plain
from ..meta import Meta
from ..statistics.selection import finalists
from ..trials.cell import Cell, Outcome
from ..trials.job import Job, Portion
from .display import Display
from .plan import SweepPlan
from .samplers import Batch, Sampler
from .signals import undisturbed
from .told import length_told

__all__ = ["Driver", "OutOfTime", "SweepError"]

_WAIT = 1.0  # seconds for one answer, after which others are looked after
_TRIES = 2  # of a cell
_HOPELESS = 3  # cells that fail before any is done: the training is at fault


class SweepError(RuntimeError):
    """A sweep that cannot go on; the message says why and what to do.

    Attributes:
        message: without the traceback.
        trace: the traceback of the training's own error; empty where there is none.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.message, self.trace = message, trace.rstrip()

    def __str__(self) -> str:
        return f"{self.trace}\n\n{self.message}" if self.trace else self.message


class OutOfTime(Exception):  # no error: the limit that was asked for
    """The time limit of a sweep is reached."""


@dataclass
class Driver:
    """What one process does for a sweep.

    Attributes:
        plan: what is to be trained.
        ledger: where it is recorded.
        executor: who trains.
        job: what all trainings share.
        sampler: what is trained next.
        display: what is shown.
        deadline: by `time.monotonic`, or None.
        retry_failed: whether cells that are recorded as failed are trained again.
        known: more fields of `Meta`.
    """

    plan: SweepPlan
    ledger: Ledger
    executor: Executor
    job: Job
    sampler: Sampler
    display: Display
    deadline: float | None = None
    retry_failed: bool = False
    known: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing is in hand yet."""
        self._tries: dict[str, int] = {}
        self._said: set[str] = set()
        self._retried: set[str] = set()
        self._failed = 0

    def run(self) -> None:
        """Train all that is missing.

        Raises:
            OutOfTime: at the deadline.
            SweepError: if the training itself is at fault.
        """
        with self.executor:
            self.executor.open(self.job)
            self._say(self.executor.notes)
            self._calibrate()
            self.plan.lay_out()
            self._write_down()
            while (batch := self._next()) is not None:
                self._write_down()
                self._train(batch)
            self._write_down()
            self._confirm()
            self._write_down()

    def _next(self) -> Batch | None:
        records = self._judged()
        self.plan.settle_default(records)
        if self.retry_failed:
            # To a sampler, what failed before and was not tried again is not known yet.
            records = [
                r for r in records if r["status"] != "failed" or Cell.of(r).key in self._retried
            ]
        return self.sampler.next(self.plan, records, self.meta())

    def _judged(self) -> list[dict[str, Any]]:
        """Records, by what they are judged by in this sweep."""
        return self.plan.meta().judged(self.ledger.records())

    def meta(self) -> Meta:
        """What is known of the sweep."""
        records = self.ledger.records()
        optimizer = self.plan.optimizer(records)
        known = {"sampler": str(self.sampler), "optimizer": optimizer, **self.known}
        return self.plan.meta(**{**known, **length_told(records, self.plan.about)})

    def _write_down(self) -> None:
        with undisturbed():
            self.ledger.set_meta(self.meta())

    @property
    def _stacks(self) -> bool:
        return self.executor.chunk > 1

    def _calibrate(self) -> None:
        self.plan.calibration.update(self.ledger.meta().calibration)
        while self.plan.uncalibrated:
            name = self.plan.uncalibrated[0]
            self.display.progress(0, 0, f"measuring the effective rate for {name}")
            self.executor.submit(-1, Portion((self.plan.probe,), stacked=self._stacks))
            while not (answers := self.executor.wait(_WAIT)):
                self._look_at_the_clock()
            (outcome,) = answers[0].outcomes or [Outcome("failed", error=answers[0].error)]
            if outcome.status == "failed":
                raise SweepError(
                    f"The training that measures the effective rate for {name} failed, and no "
                    "other was run: mend the training",
                    outcome.error or "",
                )
            # Another process may have measured it meanwhile: one measurement places all cells.
            known = self.ledger.meta().calibration
            if name in known:
                self.plan.calibration[name] = known[name]
            else:
                self.plan.calibrate(name, outcome.fraction)

    def _confirm(self) -> None:
        if not self.plan.confirm:
            return
        chosen = finalists(self._judged(), self.meta())
        settings = {(f.setting.key): f.setting for f in chosen}.values()
        cells = tuple(
            Cell.of(
                {"rule": s.rule, "lr": s.lr, "weight_decay": s.weight_decay, "params": s.params}
                | {"seed": seed}
            )
            for seed in self.plan.confirm_seeds
            for s in settings
        )
        if cells:
            self._train(Batch(cells, what="confirming on fresh seeds"))

    # --- one batch --------------------------------------------------------------------------------

    def _train(self, batch: Batch) -> None:
        wanted = list({c.key: c for c in batch.cells}.values())
        again = [*batch.again]
        if self.retry_failed:
            again.append("failed")
        todo = deque(c for c in wanted if self._open(c, again))
        total, hand, numbers = len(todo), _Hand(), itertools.count()
        done = 0
        self.display.progress(0, total, batch.what)
        try:
            while True:
                while len(hand.pieces) < self.executor.slots and (todo or hand.again):
                    piece = (
                        hand.again.popleft() if hand.again else self._claimed(todo, again, batch)
                    )
                    if piece is not None:
                        number = next(numbers)
                        hand.pieces[number] = piece
                        self.executor.submit(number, piece)
                if not hand.pieces:
                    if (todo or hand.again) and not self.executor.slots:
                        # Nobody is there to train yet; so nothing is claimed that others could.
                        self.executor.wait(_WAIT)
                        self._look_at_the_clock()
                        continue
                    todo.extend(c for c in wanted if self._open(c, again))
                    if not todo:
                        return
                    if self.ledger.others():
                        self.display.progress(done, total, "waiting for another process")
                        self._look_at_the_clock()
                        time.sleep(_WAIT)
                        todo.clear()
                        self.ledger.refresh()
                    continue
                for answer in self.executor.wait(_WAIT):
                    done += self._take(hand, answer)
                    self.display.progress(done, total, batch.what)
                self._look_at_the_clock()
        except BaseException:
            with contextlib.suppress(Exception), undisturbed():
                self.ledger.release()
            raise

    def _open(self, cell: Cell, again: Sequence[str]) -> bool:
        status = self.ledger.status(cell)
        if status == "failed" and cell.key in self._retried:
            return False
        return status is None or status in again

    def _claimed(self, todo: deque[Cell], again: Sequence[str], batch: Batch) -> Portion | None:
        """The next cells of one seed, as many as are trained at once, that are ours to train."""
        cells = [todo.popleft()]
        while todo and len(cells) < self.executor.chunk and todo[0].seed == cells[0].seed:
            cells.append(todo.popleft())
        with undisturbed():
            own = self.ledger.claim(cells, again)
        return Portion(tuple(own), batch.until, self._stacks) if own else None

    def _take(self, hand: _Hand, answer: Done) -> int:
        """Record what came back, or have it trained once more; returns how many are settled."""
        piece = hand.pieces.pop(answer.number)
        if answer.outcomes is None and len(piece.cells) > 1:
            # One of a stack may have taken the others with it: each by itself.
            hand.again.extend(replace(piece, cells=(c,)) for c in piece.cells)
            return 0
        outcomes = answer.outcomes or [Outcome("failed", error=answer.error)]
        settled = 0
        for cell, outcome in zip(piece.cells, outcomes, strict=True):
            self._say(outcome.notes)
            if outcome.status == "failed":
                self._tries[cell.key] = self._tries.get(cell.key, 0) + 1
                if self._tries[cell.key] < _TRIES:
                    hand.again.append(replace(piece, cells=(cell,)))
                    continue
            settled += self._record(cell, outcome)
        return settled

    def _record(self, cell: Cell, outcome: Outcome) -> bool:
        status = {"paused": "pruned"}.get(outcome.status, outcome.status)
        record = as_plain({**outcome.as_dict(), "status": status})
        metrics = record["metrics"]
        value = self.plan.choose.of(metrics) if isinstance(metrics, Mapping) else math.nan
        try:
            with undisturbed():
                if not self.ledger.finish(cell, record, value):
                    return False  # another process has taken it over, and records it
        except RecordError as error:
            return self._record(cell, Outcome("failed", error=f"{type(error).__name__}: {error}"))
        if status == "failed":
            self._retried.add(cell.key)
            self._failed += 1
            last = (outcome.error or "").strip().splitlines()
            self.display.say(f"failed: {cell}: {last[-1] if last else 'no reason given'}")
            if self._failed >= _HOPELESS and not any(
                r["status"] != "failed" for r in self.ledger.records()
            ):
                raise SweepError(
                    f"The first {self._failed} trainings all failed, so no more were run: mend the "
                    "training",
                    outcome.error or "",
                )
        return True

    def _say(self, notes: Sequence[str]) -> None:
        for note in notes:
            if note not in self._said:
                self._said.add(note)
                self.display.say(note)

    def _look_at_the_clock(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise OutOfTime


class _Hand:
    """What is being trained, and what is to be trained once more."""

    def __init__(self) -> None:
        self.pieces: dict[int, Portion] = {}
        self.again: deque[Portion] = deque()
