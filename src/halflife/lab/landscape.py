"""A landscape: test error over learning rate and decay strength, for several rules.

    plan the cells -> leave out those in the ledger -> train the rest in chunks -> record each

A best cell on the border of the grid is no optimum. The grid then grows by one step of its spacing
on that side, until the optimum of every rule is interior or a limit is reached; either way the
meta data say so. All decisions follow from the ledger, so that a resumed run repeats them.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import optuna
import torch

from ..rules.contract import DecayRule, as_rule
from ..rules.scalar import Decoupled
from .axes import L2_ON_ADAM, Axis, Currency
from .ensemble import train_ensemble
from .ledger import CellKey, Ledger, cell_of
from .meta import Extension, Meta, OpenEnd
from .statistics.closeness import Border, worth_extending
from .statistics.surface import BASELINE
from .training import Member, Training
from .trial import CURVE_ROWS
from .workers import Workers

__all__ = ["CHUNK", "Landscape", "run_landscape"]

# Members of one ensemble: more take no less time each, and fewer are recorded more often.
CHUNK = 64

# Bounds that no extension reaches: an lr above 1 is none, and a strength of 1 is the whole weight.
_HIGHEST_LR = 1.0
_TINY = 1e-12  # a coefficient too small to act

# Called with cells done, cells planned so far, and what is going on.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Landscape:
    """What to map.

    Args:
        training: task, base optimizer, budget and schedule.
        rules: names of decay rules.
        lrs: peak learning rates.
        strengths: fractions removed per step at the central lr, the same for every rule.
        seeds: one run of every cell each.
        extend: whether the grid may grow where an optimum lies on its border.
        extension_limit: rows and columns that each rule may add.

    Raises:
        ValueError: if a rule is unknown or refused by the optimizer, or a strength is no fraction.
    """

    training: Training
    rules: tuple[str, ...]
    lrs: Axis
    strengths: Axis
    seeds: tuple[int, ...]
    extend: bool = True
    extension_limit: int = 4

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if not self.rules or not self.seeds:
            raise ValueError(
                f"rules={self.rules}, seeds={self.seeds}: at least one of each is needed."
            )
        if self.lrs.values[-1] > _HIGHEST_LR:
            raise ValueError(
                f"lr={self.lrs.values[-1]:g}: learning rates above {_HIGHEST_LR:g} are not mapped; "
                "lower the end of the axis."
            )
        for rule in self.rules:
            if not (as_rule(rule).removes_fraction or as_rule(rule).joins_gradient):
                raise ValueError(
                    f"rules={rule!r}: its amount is a threshold in units of the weights, and a "
                    "landscape compares rules at equal fraction; leave it out."
                )
            currency = Currency(as_rule(rule), self.training, self.lrs.central, 1.0)
            for strength in self.strengths.values:
                currency.coefficient(strength)

    def configuration(self) -> dict[str, Any]:
        """The settings that all cells of one ledger share."""
        training = self.training
        return {
            "name": training.task.name,
            "description": training.task.description,
            "optimizer": training.optimizer,
            **training.family.settings,
            "epochs": training.epochs,
            "batch_size": training.batch_size,
            "schedule": training.schedule,
            "rules": list(self.rules),
            "lr": list(self.lrs.values),
            "strength": list(self.strengths.values),
            "seeds": list(self.seeds),
        }


def run_landscape(
    landscape: Landscape,
    ledger: Ledger,
    *,
    workers: int = 2,
    progress: Progress | None = None,
    command: str = "",
) -> None:
    """Train every cell that the ledger lacks, extending the grid where it must.

    Args:
        landscape: what to map.
        ledger: opened for writing, and configured.
        workers: processes of one torch thread each; 0 trains in this process.
        progress: called after every chunk.
        command: what reproduces the run, for the report.
    """
    with Workers(workers) as pool:
        grid = _Grid(landscape, ledger, pool, progress or (lambda *_: None), command)
        grid.record_meta()
        grid.train_missing()
        while landscape.extend and grid.grow():
            grid.record_meta()
            grid.train_missing()
        grid.record_meta()


@dataclass
class _Grid:
    """The grid as it has grown so far."""

    landscape: Landscape
    ledger: Ledger
    pool: Workers
    progress: Progress
    command: str
    extensions: list[Extension] = field(default_factory=list)
    unresolved: list[OpenEnd] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = self.landscape.rules
        self.lrs = self.landscape.lrs
        self.strengths = dict.fromkeys(names, self.landscape.strengths)
        self.calibration = dict(self.ledger.meta().calibration)
        self.currencies = {name: self._currency(as_rule(name)) for name in names}

    def _currency(self, rule: DecayRule) -> Currency:
        central = self.landscape.lrs.central
        currency = Currency(rule, self.landscape.training, central)
        if not currency.needs_probe:
            return currency
        if rule.name not in self.calibration:
            self.progress(0, 0, f"measuring the effective rate for {rule.name}")
            seed = self.landscape.seeds[0]
            # A coefficient too small to act, so that the fraction tells the rate and no more.
            probe = Member(rule, central, _TINY, seed)
            (outcome,) = train_ensemble(self.landscape.training, [probe])
            self.calibration[rule.name] = {
                "effective_rate": (outcome.fraction or 0.0) / (central * probe.weight_decay),
                "lr": central,
                "seed": seed,
                "method": "mean over a run without decay, weighted by the schedule",
            }
        rate = self.calibration[rule.name]["effective_rate"]
        currency = Currency(rule, self.landscape.training, central, rate)
        if not math.isclose(
            currency.fraction(_TINY, central) / _TINY, central * rate, rel_tol=1e-6
        ):
            raise ValueError(
                f"rules={rule.name!r}: its fraction is not lr * weight_decay times one measured "
                "number, so no coefficient can be placed at a strength in advance; leave it out."
            )
        return currency

    def train_missing(self) -> None:
        """Train and record every cell of the grid that the ledger lacks."""
        missing = [(cell, m) for cell, m in self.cells() if cell not in self.ledger]
        done, total = 0, len(missing)
        self.progress(done, total, "training")
        chunks = list(_chunks(missing))
        members = [[member for _, member in chunk] for chunk in chunks]
        for index, outcomes in self.pool.map(train_ensemble, self.landscape.training, members):
            for (cell, member), outcome in zip(chunks[index], outcomes, strict=True):
                rule, lr, strength, seed = cell
                record = {"rule": rule, "lr": lr, "strength": strength, "seed": seed}
                self.ledger.add({**record, "weight_decay": member.weight_decay, **asdict(outcome)})
            done += len(outcomes)
            self.progress(done, total, "training")

    def cells(self) -> Iterator[tuple[CellKey, Member]]:
        """All cells that can be built, seed by seed, the baseline first."""
        for seed in self.landscape.seeds:
            for lr in self.lrs.values:
                yield (BASELINE, lr, 0.0, seed), Member(Decoupled(), lr, 0.0, seed)
            for name, lr, strength, coefficient in self._columns():
                if self.currencies[name].buildable(coefficient, lr):
                    member = Member(as_rule(name), lr, coefficient, seed)
                    yield (name, lr, strength, seed), member

    def _columns(self) -> Iterator[tuple[str, float, float, float]]:
        for name, axis in self.strengths.items():
            for strength in axis.values:
                coefficient = self.currencies[name].coefficient(strength)
                for lr in self.lrs.values:
                    yield name, lr, strength, coefficient

    def grow(self) -> bool:
        """Extend the grid where the best cell of a rule is on its border; False if nowhere."""
        self.unresolved = []
        before = len(self.extensions)
        meta, planned = self.meta(), {cell for cell, _ in self.cells()}
        # A resumed ledger may know more than the grid, which grows as it did the first time.
        records = [r for r in self.ledger.records() if cell_of(r) in planned]
        for name in self.landscape.rules:
            for border in worth_extending(records, meta, name):
                if border.axis == "lr":
                    self._grow(name, "lr", border, self.lrs, _HIGHEST_LR)
                else:
                    self._grow(name, "strength", border, self.strengths[name], 1.0)
        return len(self.extensions) > before

    def _grow(self, rule: str, axis: str, border: Border, values: Axis, top: float) -> None:
        side, value = border.side, values.beyond(border.side)
        if value is None:
            return  # fixed by a single value
        spent = sum(e["rule"] == rule for e in self.extensions)
        grown: Extension = {"rule": rule, "axis": axis, "side": side, "value": value}
        if not border.worth:
            self.unresolved.append({**grown, "reason": border.reason})
        elif side == "high" and value >= top:
            self.unresolved.append({**grown, "reason": f"the next would be {value:.3g}"})
        elif spent >= self.landscape.extension_limit:
            self.unresolved.append({**grown, "reason": f"{spent} extensions, the limit"})
        else:
            self.extensions.append(grown)
            if axis == "lr":
                self.lrs = self.lrs.extended(value)
            else:
                self.strengths[rule] = values.extended(value)

    def record_meta(self) -> None:
        """Write what is known of the whole to the ledger."""
        self.ledger.set_meta(self.meta())

    def meta(self) -> Meta:
        """What analysis and report need beside the records."""
        landscape, training = self.landscape, self.landscape.training
        omitted: dict[str, int] = {}
        for name, lr, _, coefficient in self._columns():
            if not self.currencies[name].buildable(coefficient, lr):
                omitted[name] = omitted.get(name, 0) + 1
        return Meta(
            **landscape.configuration(),
            lrs=list(self.lrs.values),
            strengths={name: list(axis.values) for name, axis in self.strengths.items()},
            coefficients={
                name: [self.currencies[name].coefficient(s) for s in axis.values]
                for name, axis in self.strengths.items()
            },
            central_lr=landscape.lrs.central,
            steps=training.steps,
            steps_per_epoch=training.steps_per_epoch,
            extend=landscape.extend,
            extension_limit=landscape.extension_limit,
            extensions=list(self.extensions),
            unresolved=list(self.unresolved),
            omitted=omitted,
            calibration=self.calibration,
            l2_on_adam=f"coefficient = strength / central lr / {L2_ON_ADAM:g}",
            prediction=(
                "exact mean square over the run's own schedule, from the initial weights, if "
                "Adam's gradients were pure noise"
            ),
            report={"name": "test_error", "unit": "%", "examples": training.test_rows},
            test_examples=training.test_rows,
            curve_examples=min(CURVE_ROWS, training.test_rows),
            command=self.command,
            versions=_versions(),
        )


def _chunks(missing: list[tuple[CellKey, Member]]) -> Iterator[list[tuple[CellKey, Member]]]:
    """Chunks of one seed, whose members share their batches."""
    for _, same in groupby(missing, key=lambda cell: cell[1].seed):
        cells = list(same)
        for start in range(0, len(cells), CHUNK):
            yield cells[start : start + CHUNK]


def _versions() -> Mapping[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "optuna": optuna.__version__,
    }
