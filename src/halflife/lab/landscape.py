"""A landscape: the sweep of a task of the lab, stacked where that is faster."""

from __future__ import annotations

from typing import Any

from .executors import InProcess, Local, Stacked
from .result import Result
from .sweeping.sweeps import sweep
from .tasks import TaskTraining, Training, metrics_of

__all__ = ["landscape"]


def landscape(training: Training, *, workers: int = 2, **options: Any) -> Result:
    """Sweep a task over learning rate and decay strength.

    Args:
        training: task, base optimizer, budget and schedule.
        workers: processes of one torch thread each; 0 trains in this one.
        **options: of `halflife.lab.sweep`; `choose` and `report` are the task's errors.
    """
    choose, report = metrics_of(training)
    inner = Local(workers) if workers else InProcess("cpu")
    known = {"choose": choose, "report": report, "executor": Stacked(inner)}
    return sweep(
        TaskTraining(training),
        optimizer=training.optimizer,
        settings=training.kind.settings,
        **{**known, **options},
    )
