"""A task as a training of the lab: one by one, or stacked."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from ...rules.contract import as_rule
from ...rules.scalar import Decoupled
from ..meta import Meta
from ..metric import Metric
from ..trials.cell import BASELINE, Cell, Outcome
from ..trials.trial import Trial
from .ensemble import Ensemble, train_ensemble
from .single import Scores, Single, Trainee, train
from .training import Member, Training, val_rows

__all__ = ["TaskTraining", "metrics_of"]

_FIELDS = {field.name for field in fields(Meta)}
_TIMED_STEPS = 3  # of each way, after one that warms up
_PREDICTION = (
    "exact mean square over the run's own schedule, from the initial weights, if Adam's gradients "
    "were pure noise"
)


def metrics_of(training: Training) -> tuple[Metric, Metric]:
    """What a task's settings are chosen by, and what is told of them.

    Both are errors in percent: the first over a third of the test rows, the second over the others.
    """
    rows = training.test_rows
    chosen = val_rows(rows)
    return (
        Metric("val_error", "%", examples=max(chosen, 1)),
        Metric("test_error", "%", examples=max(rows - chosen, 1)),
    )


@dataclass(frozen=True)
class TaskTraining:
    """What `halflife.lab.sweep` trains of a task.

    Args:
        training: task, budget and schedule.

    Attributes:
        name: of the task.
    """

    training: Training

    @property
    def name(self) -> str:
        """That of the task."""
        return self.training.task.name

    @property
    def configuration(self) -> dict[str, Any]:
        """What all cells of one ledger share."""
        task = self.training.task
        return {"task": task.name, "task_description": task.description, **self._budget}

    @property
    def _budget(self) -> dict[str, Any]:
        """The optimizer's settings, and how long and by what schedule it trains."""
        training = self.training
        settings = {k: list(v) if isinstance(v, tuple) else v
                    for k, v in training.kind.settings.items()}  # fmt: skip
        return {
            **settings,
            "epochs": training.epochs,
            "batch_size": training.batch_size,
            "schedule": training.schedule,
        }

    @property
    def about(self) -> dict[str, Any]:
        """What the report tells of the training."""
        training = self.training
        return {
            "description": training.task.description,
            **{name: value for name, value in self._budget.items() if name in _FIELDS},
            "steps": training.steps,
            "steps_per_epoch": training.steps_per_epoch,
            "prediction": _PREDICTION,
            "curve_unit": "step",
            "curve_examples": val_rows(training.test_rows),
        }

    def __call__(self, trial: Trial) -> Outcome:
        """Train one model with halflife's own optimizer."""
        decay = Decoupled() if trial.rule == BASELINE else trial.decay
        member = Member(decay, trial.lr, trial.weight_decay, trial.seed)
        single = Single(self.training, member)
        trial.watch(single.optimizer)
        scores = train(self.training, single, trial.until)[0]
        return replace(self._outcome(scores, trial.until), fraction=trial.fraction)

    @property
    def stacks(self) -> bool:
        """Whether many models of one seed can be trained at once."""
        return self.training.stacks

    def stacked(self, cells: Sequence[Cell], until: float = 1.0) -> list[Outcome]:
        """Train many models of one seed at once."""
        members = [_member(cell) for cell in cells]
        return [self._outcome(s, until) for s in train_ensemble(self.training, members, until)]

    def _outcome(self, scores: Scores, until: float) -> Outcome:
        used = self.training.optimizer, dict(self.training.kind.settings)
        return replace(_outcome(scores, until), optimizer=used[0], settings=used[1])

    def speeds(self, chunk: int) -> tuple[float, float]:
        """Models trained per second, stacked and one by one: some steps of each are timed.

        Args:
            chunk: models of a stack.
        """
        member = Member(Decoupled(), 1e-3, 0.1, 0)
        stack = Ensemble(self.training, [member] * chunk)
        single = Single(self.training, member)
        return chunk / self._seconds(stack), 1.0 / self._seconds(single)

    def _seconds(self, trainee: Trainee) -> float:
        """Of a whole run, by some of its steps and evaluations."""
        training = self.training
        data = training.data(0)
        rows = next(training.batches(0))
        batch = data.train_inputs[rows], data.train_targets[rows]

        def timed(act: Any, count: int) -> float:
            act()
            start = time.perf_counter()
            for _ in range(count):
                act()
            return (time.perf_counter() - start) / count

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as a worker has
        try:
            step = timed(lambda: trainee.step(*batch, 1.0), _TIMED_STEPS)
            look = timed(lambda: trainee.evaluate(data, ("val_error",)), 1)
        finally:
            torch.set_num_threads(threads)
        return step * training.steps + look * len(training.evaluated)


def _member(cell: Cell) -> Member:
    rule = Decoupled() if cell.rule == BASELINE else as_rule(cell.rule)
    return Member(rule, cell.lr, cell.weight_decay, cell.seed)


def _outcome(scores: Scores, until: float) -> Outcome:
    metrics = {"val_error": scores.val_error}
    if until >= 1.0:
        metrics |= {
            "test_error": scores.test_error,
            "test_loss": scores.test_loss,
            "train_loss": scores.train_loss,
        }
    return Outcome(
        "done" if until >= 1.0 else "paused",
        metrics,
        curve=scores.curve,
        progress=min(until, 1.0),
        diverged=scores.diverged,
        seconds=scores.seconds,
        steps=scores.curve["step"][-1],
        fraction=scores.fraction,
        weight_rms=scores.weight_rms if math.isfinite(scores.weight_rms) else None,
        predicted_rms=scores.predicted_rms,
    )
