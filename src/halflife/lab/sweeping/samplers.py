"""Which cells are trained next, decided from what is known and nothing else.

A sampler is asked again whenever all that it wanted is trained. Its answer follows from the records
alone, so that a resumed sweep goes the way that an undisturbed one goes, and two processes at one
ledger agree.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import optuna

from ...checks import near, require, require_count
from ...rules.contract import as_rule
from ..meta import Meta
from ..statistics.closeness import worth_extending
from ..statistics.surface import DEFAULT
from ..trials.cell import BASELINE, Cell, params_of
from .plan import SweepPlan
from .stopped import Stopped

__all__ = ["Batch", "Grid", "Halving", "Optuna", "Sampler", "TwoStage", "sampler_of"]

Records = Sequence[Mapping[str, Any]]
Losses = Mapping[Any, float]

_STOPPED = ("pruned",)  # status of trainings that are trained on, by whoever wants their end
_ASKS = 100  # of Optuna for one setting that can be built


@dataclass(frozen=True)
class Batch:
    """Cells to be trained.

    Attributes:
        cells: what is wanted; those that are trained already need not be left out.
        until: share of the training after which each is stopped.
        again: statuses of records whose cells are trained on.
        what: in words, for the progress bar.
    """

    cells: tuple[Cell, ...]
    until: float = 1.0
    again: tuple[str, ...] = ()
    what: str = "training"


class Sampler(ABC):
    """Decides what is trained.

    Attributes:
        name: how it is asked for.
    """

    name: ClassVar[str]

    @abstractmethod
    def next(self, plan: SweepPlan, records: Records, meta: Meta) -> Batch | None:
        """What is wanted now; None when there is no more."""

    def __str__(self) -> str:
        return self.name


class Grid(Sampler):
    """Every cell; then the grid grows where the best setting of a rule lies on its border.

    So it does for no decay and torch's default, which are compared at their best learning rates
    too. It does not grow toward no decay where decay cannot be told from none.
    """

    name = "grid"

    def next(self, plan: SweepPlan, records: Records, meta: Meta) -> Batch | None:
        """All that is missing; then what the grid grew by."""
        cells = tuple(plan.cells())
        known = {Cell.of(r).key for r in _ended(records)}
        if any(c.key not in known for c in cells):
            return Batch(cells, again=_STOPPED)
        return self.next(plan, records, plan.meta()) if self._grow(plan, records) else None

    def _grow(self, plan: SweepPlan, records: Records) -> bool:
        if not plan.extend:
            return False
        plan.unresolved = []
        wanted = {c.key for c in plan.cells()}
        # A resumed ledger may know more than the grid, which grows as it did the first time.
        own = [r for r in records if Cell.of(r).key in wanted]
        compared = [BASELINE, *([DEFAULT] if plan.default is not None else [])]
        # Not in one round: a learning rate that is added for one is added for all.
        return _grown(plan, own, plan.rules) or _grown(plan, own, compared)


def _grown(plan: SweepPlan, own: Records, rules: Sequence[str]) -> bool:
    """Whether the grid has grown where the best setting of one of the rules lies on its border."""
    meta, grown = plan.meta(), False
    for rule in rules:
        for border in worth_extending(own, meta, rule):
            if border.worth:
                grown |= plan.grow(rule, border.axis, border.side)
    return grown


class TwoStage(Sampler):
    """One seed for every cell; then all seeds for the best few settings of each rule.

    Args:
        keep: settings of each rule that get all seeds.

    Raises:
        ValueError: if keep is no positive integer.
    """

    name = "two-stage"

    def __init__(self, keep: int = 4) -> None:
        require_count("keep", keep, "pass how many settings of each rule get all seeds, such as 4")
        self.keep = keep

    def next(self, plan: SweepPlan, records: Records, meta: Meta) -> Batch | None:
        """The first seed of all; then the other seeds of the best."""
        first = tuple(plan.cells(plan.seeds[:1]))
        records = _ended(records)
        known = {Cell.of(r).key for r in records}
        if any(c.key not in known for c in first):
            return Batch(first, again=_STOPPED, what="one seed for every cell")
        losses = _losses(records, plan, plan.seeds[:1])
        best = {
            c.setting for group in _groups(first).values() for c in _best(group, losses, self.keep)
        }
        rest = tuple(c for c in plan.cells(plan.seeds[1:]) if c.setting in best)
        if any(c.key not in known for c in rest):
            return Batch(rest, again=_STOPPED, what="all seeds for the best")
        return None


class Halving(Sampler):
    """Every cell up to a share of its training; then only the best of each rule go on.

    A training takes part if it counts its epochs by `Trial.epochs` and reports the metric that
    settings are chosen by. It goes on from its checkpoint where it has one, else from its start.

    Args:
        at: share of the training after which is decided; at least a third, as curves cross before.
        keep: share of each rule's settings that go on.

    Raises:
        ValueError: for a share out of range.
    """

    name = "halving"

    def __init__(self, at: float = 0.4, keep: float = 1 / 3) -> None:
        require(
            1 / 3 <= at < 1, "at", "a share of the training from 1/3 up to 1", at,
            "below a third of it the order of the settings is not that of the end",
        )  # fmt: skip
        require(0 < keep <= 1, "keep", "a share above 0, at most 1", keep, "pass 1/3")
        self.at, self.keep = at, keep

    def next(self, plan: SweepPlan, records: Records, meta: Meta) -> Batch | None:
        """All, up to the share; then those that are kept, to the end."""
        cells = tuple(plan.cells())
        status = {Cell.of(r).key: r["status"] for r in records}
        if any(c.key not in status for c in cells):
            return Batch(cells, until=self.at, what=f"{self.at:.0%} of each training")
        stopped = Stopped(records, plan.choose)
        losses = _losses(records, plan, plan.seeds, stopped.value)
        kept: set[Any] = set()
        # What no training reported is no reason to stop one.
        for group in _groups(cells).values():
            if not stopped.judged:
                kept |= {c.setting for c in group}
            settings = len({c.setting for c in group})
            kept |= {c.setting for c in _best(group, losses, math.ceil(self.keep * settings))}
        rest = tuple(c for c in cells if c.setting in kept and status[c.key] == "pruned")
        return Batch(rest, again=_STOPPED, what="the rest of the best") if rest else None


class Optuna(Sampler):
    """Settings that a sampler of Optuna asks for, within the ends of the axes.

    Each is trained with all seeds, and the sampler is told their mean. Trainings without decay, and
    with torch's default, are run at the learning rates of the axis all the same.

    Args:
        sampler: of Optuna; give it a seed, or a resumed sweep asks for other settings. Default:
            its TPE.
        trials: settings it may ask for.
        at_once: settings it is asked for at a time.
        seed: of the sampler.

    Raises:
        ValueError: for a count that is none.
    """

    name = "optuna"

    def __init__(
        self,
        sampler: optuna.samplers.BaseSampler | None = None,
        *,
        trials: int = 50,
        at_once: int = 4,
        seed: int = 0,
    ) -> None:
        require_count("trials", trials, "pass how many settings may be asked for, such as 50")
        require_count("at_once", at_once, "pass how many are asked for at a time, such as 4")
        self._given, self.trials, self.at_once, self.seed = sampler, trials, at_once, seed

    def next(self, plan: SweepPlan, records: Records, meta: Meta) -> Batch | None:
        """What the sampler asks for, once it knows all that it asked for before."""
        fixed = tuple(c for c in plan.cells() if not _asked(c, plan))
        records = _ended(records)
        known = {Cell.of(r).key for r in records}
        if any(c.key not in known for c in fixed):
            return Batch(fixed, again=_STOPPED, what="training without decay")
        losses = _losses(records, plan, plan.seeds)
        asked: list[Cell] = []
        # The whole conversation again: a few milliseconds, and nothing to be kept but the records.
        study, told = self._study(plan), 0
        while len(asked) < self.trials:
            fresh = []
            for _ in range(min(self.at_once, self.trials - len(asked))):
                if (found := self._ask(plan, study)) is not None:
                    asked.append(found[1])
                    fresh.append(found)
            if not fresh:
                return None
            wanted = tuple(c.with_seed(seed) for seed in plan.seeds for _, c in fresh)
            if any(c.key not in known for c in wanted):
                return Batch(
                    wanted, again=_STOPPED, what=f"settings {told + 1} to {told + len(fresh)}"
                )
            for trial, cell in fresh:
                told += 1
                loss = losses.get(cell.setting, math.nan)
                if math.isfinite(loss):
                    study.tell(trial, loss)
                else:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None

    def _study(self, plan: SweepPlan) -> optuna.Study:
        # A copy, whose random numbers begin anew with the conversation.
        sampler = copy.deepcopy(self._given) or optuna.samplers.TPESampler(seed=self.seed)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            return optuna.create_study(sampler=sampler)
        finally:
            optuna.logging.set_verbosity(before)

    def _ask(self, plan: SweepPlan, study: optuna.Study) -> tuple[optuna.Trial, Cell] | None:
        """The next setting that leaves some of each weight; None where none comes up."""
        for _ in range(_ASKS):
            trial = study.ask()
            cell = self._cell(plan, trial)
            if cell is not None:
                return trial, cell
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None

    def _cell(self, plan: SweepPlan, trial: optuna.Trial) -> Cell | None:
        rule = plan.rules[0]
        if len(plan.rules) > 1:
            rule = trial.suggest_categorical("rule", plan.rules)
        lrs, decays = plan.lrs.values, plan.columns[rule].axis.values
        lr = _between(trial, "lr", lrs)
        value = _between(trial, "weight_decay", decays)
        params = {
            name: trial.suggest_categorical(name, list(values))
            for name, values in plan.params.items()
        }
        if not plan.columns[rule].buildable(as_rule(rule), value, lr, plan.base):
            return None
        return plan.cell(rule, lr, value, plan.seeds[0], params_of(params))


def _between(trial: optuna.Trial, name: str, values: Sequence[float]) -> float:
    if len(values) == 1:
        return values[0]
    return float(f"{trial.suggest_float(name, values[0], values[-1], log=True):.12g}")


def _asked(cell: Cell, plan: SweepPlan) -> bool:
    """Whether a cell of the grid is one that the sampler decides on."""
    default = cell.rule == "decoupled" and cell.weight_decay == plan.default
    return not (cell.rule == BASELINE or default)


def _groups(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.rule, []).append(cell)
    return groups


def _ended(records: Records) -> Records:
    """Those of trainings that were not stopped on the way: what was is not known to others."""
    return [r for r in records if r["status"] not in _STOPPED]


def _losses(
    records: Records,
    plan: SweepPlan,
    seeds: Sequence[int],
    value: Callable[[Mapping[str, Any]], float] | None = None,
) -> Losses:
    """Mean over the seeds of what settings are chosen by, less being better; infinite if lost.

    Args:
        records: of the trainings.
        plan: of the sweep.
        seeds: that count.
        value: of a record, where it is not that of its end.
    """
    values: dict[Any, list[float]] = {}
    for r in records:
        if r["seed"] in seeds:
            loss = plan.choose.loss(plan.choose.of(r["metrics"]) if value is None else value(r))
            # Where settings are not judged by their ends, neither is whether they diverged there.
            told = value is None or r["status"] in _STOPPED
            bad = r["status"] == "failed" or (told and r.get("diverged")) or not math.isfinite(loss)
            values.setdefault(Cell.of(r).setting, []).append(math.inf if bad else loss)
    return {key: float(np.mean(v)) for key, v in values.items()}


def _best(cells: Sequence[Cell], losses: Losses, count: int) -> list[Cell]:
    """The best settings, one cell each; equal ones in the order of the grid."""
    one = list({c.setting: c for c in cells}.values())
    return sorted(one, key=lambda c: losses.get(c.setting, math.inf))[:count]


_NAMED: dict[str, type[Sampler]] = {s.name: s for s in (Grid, TwoStage, Halving, Optuna)}


def sampler_of(sampler: Sampler | str | optuna.samplers.BaseSampler) -> Sampler:
    """A sampler by name, as it is, or around one of Optuna's.

    Raises:
        ValueError: for anything else.

    Example:
        >>> str(sampler_of("two-stage"))
        'two-stage'
    """
    if isinstance(sampler, Sampler):
        return sampler
    if isinstance(sampler, optuna.samplers.BaseSampler):
        return Optuna(sampler)
    if not isinstance(sampler, str) or sampler not in _NAMED:
        raise ValueError(
            f"sampler={sampler!r}: must be one of {', '.join(_NAMED)}{near(sampler, _NAMED)}, or a "
            "sampler of Optuna."
        )
    return _NAMED[sampler]()
