"""Trainings compared at their own best: chosen on validation, told on fresh seeds."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..statistics.valley import FloatArray
from .bench_runs import Choice, cells_of, chosen, scores
from .calls import Call, Values, call

__all__ = ["Arm", "Measured", "measured_cells", "tuned"]

Measured = Mapping[str, FloatArray]  # by measure, one a seed


@dataclass(frozen=True)
class Arm:
    """One way to train, over a grid.

    Args:
        rule: name of the decay rule.
        lrs: learning rates.
        weight_decays: coefficients.
        shared: settings of `bench_runs.run` that all cells have.
    """

    rule: str
    lrs: Sequence[float]
    weight_decays: Sequence[float]
    shared: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> list[tuple[str, float, float]]:
        """The grid, or a single cell."""
        return cells_of(self.rule, self.lrs, self.weight_decays)

    def at(self, choice: Choice, factor: float = 1.0, lr: float = 1.0) -> Arm:
        """The chosen cell alone, or with multiples of its weight decay and lr."""
        return replace(self, lrs=[lr * choice.lr], weight_decays=[factor * choice.weight_decay])

    def far(self, choice: Choice) -> Arm:
        """A hundredth of the chosen lr: as far from the best as any control must see."""
        return self.at(choice, lr=0.01)

    def none(self, choice: Choice) -> Arm:
        """The chosen lr, without decay."""
        return replace(self, lrs=[choice.lr], weight_decays=[0.0])


def tuned(
    arms: Mapping[str, Arm], seeds: Iterable[int], **shared: Any
) -> Generator[list[Call], list[Values], dict[str, Choice]]:
    """Choose each arm's cell on validation.

    Args:
        arms: by name.
        seeds: that choose.
        shared: settings of `bench_runs.scores` of all arms.
    """
    found = yield from _trained(arms, seeds, shared)
    return {name: chosen(arm.cells, found[name]) for name, arm in arms.items()}


def measured_cells(
    arms: Mapping[str, Arm], seeds: Iterable[int], **shared: Any
) -> Generator[list[Call], list[Values], dict[str, dict[str, FloatArray]]]:
    """What each arm comes to by measure: ``[seeds]`` of one cell, else ``[seeds, cells]``."""
    found = yield from _trained(arms, seeds, shared)
    return {
        name: {
            key: _squeezed(np.array([values[key] for values in each], dtype=np.float64))
            for key in each[0]
        }
        for name, each in found.items()
    }


def _trained(
    arms: Mapping[str, Arm], seeds: Iterable[int], shared: Mapping[str, Any]
) -> Generator[list[Call], list[Values], dict[str, list[Values]]]:
    """What each arm's cells came to, a mapping for each seed.

    Arms that share their settings are trained together, and cells that they share once.
    """
    seeds = list(seeds)
    groups: dict[str, list[str]] = {}
    for name, arm in arms.items():
        groups.setdefault(json.dumps({**shared, **arm.shared}, sort_keys=True), []).append(name)
    places: dict[str, list[int]] = {}
    wanted: list[Call] = []
    for settings, names in groups.items():
        cells: dict[tuple[str, float, float], int] = {}
        for name in names:
            own = [_plain(cell) for cell in arms[name].cells]
            # Equal rules stay together: each change of rule costs a little.
            places[name] = [cells.setdefault(cell, len(cells)) for cell in own]
        wanted += [
            call(scores, seed=seed, cells=list(cells), **json.loads(settings)) for seed in seeds
        ]
    found = yield wanted
    result = {}
    for number, names in enumerate(groups.values()):
        own_calls = found[number * len(seeds) :][: len(seeds)]
        for name in names:
            result[name] = [
                {key: [values[key][place] for place in places[name]] for key in values}
                for values in own_calls
            ]
    return result


def _plain(cell: tuple[str, float, float]) -> tuple[str, float, float]:
    rule, lr, weight_decay = cell
    # Without decay all rules but L2's are the same training.
    return (rule if weight_decay or rule == "l2" else "decoupled", float(lr), float(weight_decay))


def _squeezed(values: FloatArray) -> FloatArray:
    return values[:, 0] if values.shape[1] == 1 else values
