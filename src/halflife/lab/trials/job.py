"""A user's training as work: called with a trial or with numbers, its result read, its errors kept.

A training takes a trial, or numbers by name:

    def train(trial): ...
    def train(lr, weight_decay, seed): ...

It returns a number, a mapping of metrics, or nothing after it has reported some.
"""

from __future__ import annotations

import hashlib
import inspect
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...checks import is_number
from ..metric import Metric, metric_values
from .bases import OptimizerKind
from .cell import Cell, Outcome
from .checkpoint import remove
from .held import held
from .randomness import seeded
from .surroundings import alone, kept
from .trial import Paused, Trial

__all__ = ["Job", "Portion", "TrainingError", "declared", "run_portion", "takes_trial"]

_NUMBERS = ("lr", "weight_decay", "seed", "rule")


class TrainingError(ValueError):
    """A training that cannot be called, or whose result cannot be read."""


@dataclass(frozen=True)
class Job:
    """What all trainings of a sweep share, as it is sent to those who do them.

    Attributes:
        train: the user's training.
        base: the base optimizer of `Trial.optimizer`.
        metrics: what it is chosen by and what is told, which it must return.
        folder: where checkpoints may be kept.
        fabric: arguments of Lightning's Fabric, for `Trial.fabric`.
        stated: whether the caller said that the trainings' optimizer is `base`, so that it need not
            be seen to be known.
    """

    train: Callable[..., Any]
    base: OptimizerKind
    metrics: tuple[Metric, ...]
    folder: Path | None = None
    fabric: Mapping[str, Any] | None = None
    stated: bool = False

    @property
    def stacks(self) -> bool:
        """Whether many cells of one seed can be trained at once."""
        return bool(declared(self.train, "stacks", False))


@dataclass(frozen=True)
class Portion:
    """What one worker does at a time: a cell, or several of one seed at once.

    Attributes:
        cells: what is trained.
        until: share of the training after which it is stopped.
        stacked: whether they are trained as one stack, as one cell can be too: what a cell comes to
            in a stack does not depend on the others, and differs in its last bits from what it
            comes to alone.
    """

    cells: tuple[Cell, ...]
    until: float = 1.0
    stacked: bool = False


def declared(train: Any, name: str, otherwise: Any) -> Any:
    """What a training of the lab's own classes says of itself.

    Args:
        train: any training.
        name: of the attribute. A training of the user's may have one of that name for itself.
        otherwise: for one that says nothing.
    """
    ours = __name__.rpartition(".trials.")[0] + "."
    own = any(name in vars(k) and k.__module__.startswith(ours) for k in type(train).__mro__)
    return getattr(train, name) if own else otherwise


def takes_trial(train: Callable[..., Any], params: Sequence[str] = ()) -> bool:
    """Whether a training is called with a trial; else with numbers by name.

    Raises:
        TrainingError: if it can be called in neither way.

    Example:
        >>> takes_trial(lambda trial: 0.0), takes_trial(lambda lr, weight_decay, seed: 0.0)
        (True, False)
    """
    if not callable(train):
        raise TrainingError(
            f"train={train!r}: must be a function of a trial, or of lr, weight_decay and seed."
        )
    try:
        parameters = inspect.signature(train).parameters.values()
    except ValueError:  # written in C
        return True
    needed = [
        p.name for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
    known = {*_NUMBERS, *params}
    if len(needed) == 1 and needed[0] not in known:
        return True
    named = {p.name for p in parameters}
    unknown = [name for name in needed if name not in known]
    lacking = [name for name in ("lr", "weight_decay", *params) if name not in named]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if unknown or (lacking and not anything):
        shown = getattr(train, "__name__", repr(train))
        raise TrainingError(
            f"train={shown}{inspect.signature(train)}: must take one argument, the trial, or "
            f"{', '.join(known - {'rule'})} by name"
            + (f"; {', '.join(unknown)} is not known here" if unknown else "")
            + (f"; {', '.join(lacking)} is missing" if lacking else "")
            + ". Give other arguments by functools.partial."
        )
    return False


def run_portion(job: Job, piece: Portion, device: torch.device | str = "cpu") -> list[Outcome]:
    """Train the cells of a piece, whatever happens in the user's code."""
    with kept():
        return _trained(job, piece, device)


def _trained(job: Job, piece: Portion, device: torch.device | str) -> list[Outcome]:
    if piece.stacked:
        try:
            with alone():
                outcomes = list(job.train.stacked(piece.cells, piece.until))  # type: ignore[attr-defined]
        except (Exception, SystemExit) as error:
            return [Outcome("failed", error=_told(error))] * len(piece.cells)
        return [_judged(job, outcome) for outcome in outcomes]
    return [_run(job, piece.cells[0], piece.until, device)]


def _run(job: Job, cell: Cell, until: float, device: torch.device | str) -> Outcome:
    path = None if job.folder is None else job.folder / f"{_name_of(cell)}.pt"
    own = held(job.train)
    trial = Trial(
        cell, base=job.base, device=device, checkpoint=path, until=until, fabric=job.fabric,
        held=own,
    )  # fmt: skip
    start = time.perf_counter()
    try:
        with seeded(cell.seed, own), torch.enable_grad(), alone():
            result = _call(job.train, trial)
        outcome = result if isinstance(result, Outcome) else _read(result, trial, job)
        outcome = _judged(job, outcome)
    except Paused:
        # The generators are the caller's again; what the training needs of them is in its file.
        outcome = _known(trial, "paused", trial.last_report, job)
    except (Exception, SystemExit) as error:
        outcome = Outcome("failed", progress=trial.progress, error=_told(error))
    if path is not None and outcome.status != "paused":
        remove(path)
    seconds = outcome.seconds or time.perf_counter() - start
    return replace(outcome, seconds=seconds, notes=tuple(trial.notes))


def _judged(job: Job, outcome: Outcome) -> Outcome:
    """What a training came to, failed if it is judged by a share that none can be."""
    if not isinstance(outcome.metrics, Mapping):  # which the ledger refuses
        return outcome
    try:
        for metric in job.metrics:
            metric.require_share(outcome.metrics)
    except ValueError as error:
        return replace(outcome, status="failed", error=f"{type(error).__name__}: {error}")
    return outcome


def _told(error: BaseException) -> str:
    """The traceback, from where our own frames end: the user's code is what can be mended."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__") == __name__:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _call(train: Callable[..., Any], trial: Trial) -> Any:
    if takes_trial(train, tuple(trial.params)):
        return train(trial)
    given = {
        "lr": trial.lr,
        "weight_decay": trial.weight_decay,
        "seed": trial.seed,
        "rule": trial.rule,
        **trial.params,
    }
    parameters = inspect.signature(train).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        given = {
            name: value for name, value in given.items() if name in {p.name for p in parameters}
        }
    return train(**given)


def _read(result: Any, trial: Trial, job: Job) -> Outcome:
    names = [m.name for m in job.metrics]
    if result is None:
        values = trial.last_report
    elif isinstance(result, Mapping):
        values = {**trial.last_report, **metric_values(result)}
    elif is_number(result) or (isinstance(result, torch.Tensor) and result.numel() == 1):
        values = dict.fromkeys(names, metric_values({names[0]: result})[names[0]])
    else:
        raise TrainingError(
            f"train returned {type(result).__name__}: must return a number, or a mapping such as "
            f'{{"{names[0]}": 0.1}}.'
        )
    missing = [name for name in dict.fromkeys(names) if name not in values]
    if missing:
        raise TrainingError(
            f"train returned no {' and no '.join(map(repr, missing))}, only "
            f"{', '.join(map(repr, values)) or 'nothing'}: say what it is judged by with "
            "choose=lab.Metric(name, unit) and report=lab.Metric(name, unit)."
        )
    return _known(trial, "done", values, job)


def _known(trial: Trial, status: str, values: Mapping[str, float], job: Job) -> Outcome:
    optimizer, settings = trial.made
    return Outcome(
        status,
        values,
        curve=trial.curve,
        curve_unit=trial.curve_unit,
        progress=1.0 if status == "done" else trial.progress,
        epochs=trial.epochs_done,
        steps=trial.steps,
        optimizer=optimizer,
        settings=None if settings is None else {k: v for k, v in settings.items() if _plain(v)},
        # Of an optimizer that nobody knows, what a step removes is not known either.
        fraction=trial.fraction if job.stated or trial.decays_so else None,
        weight_rms=trial.weight_rms(),
    )


def _plain(value: Any) -> bool:
    """Whether it can be recorded as it is."""
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (str, bool, int, float))


def _name_of(cell: Cell) -> str:
    return hashlib.sha256(cell.key.encode()).hexdigest()[:24]
