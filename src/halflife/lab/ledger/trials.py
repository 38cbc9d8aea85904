"""Cells as Optuna's trials: how one is begun, which are new, and the value that one shows."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from ...checks import is_number
from ..trials.cell import Cell

__all__ = ["STATES", "begun", "news", "shown"]

_HIGHEST = 1e300
STATES = {"done": TrialState.COMPLETE, "failed": TrialState.FAIL, "pruned": TrialState.PRUNED}


def begun(cell: Cell, driver: str) -> FrozenTrial:
    """A running trial: the claim of a driver on a cell."""
    params: dict[str, Any] = {"lr": cell.lr, "weight_decay": cell.weight_decay, "seed": cell.seed}
    distributions: dict[str, BaseDistribution] = {
        "lr": FloatDistribution(0.0, _HIGHEST),
        "weight_decay": FloatDistribution(0.0, _HIGHEST),
        "seed": IntDistribution(0, 2**53),
    }
    for name, value in cell.params:
        # Optuna takes no text here without all of its values, and nothing that is not finite.
        shown = is_number(value) and abs(value) <= _HIGHEST
        if shown and name not in params:
            params[name] = float(value)
            distributions[name] = FloatDistribution(-_HIGHEST, _HIGHEST)
    # A rule is no parameter: Optuna lets no value be added to a category later.
    attributes = {"rule": cell.rule, "key": cell.key, "driver": driver}
    return create_trial(
        state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs=attributes
    )


def news(storage: BaseStorage, study: int, running: Iterable[int], seen: int) -> list[FrozenTrial]:
    """Trials that were running when last seen, as they are now, and those that are new.

    Args:
        storage: that holds them.
        study: its number.
        running: numbers of those that were.
        seen: how many trials there were.
    """
    if not isinstance(storage, JournalStorage):
        trials = storage.get_all_trials(study, deepcopy=False)
        return [*(trials[number] for number in running), *trials[seen:]]
    # The journal's own list of all trials is made anew whenever it is asked for.
    fresh = []
    with contextlib.suppress(KeyError):
        for number in itertools.chain(running, itertools.count(seen)):
            trial_id = storage.get_trial_id_from_study_id_trial_number(study, number)
            fresh.append(storage.get_trial(trial_id))
    return fresh


def shown(value: float, direction: StudyDirection) -> float:
    """A finished trial's value, which may be no NaN for Optuna; the record has what was measured.

    Example:
        >>> shown(float("nan"), StudyDirection.MINIMIZE), shown(0.5, StudyDirection.MAXIMIZE)
        (inf, 0.5)
    """
    worst = math.inf if direction == StudyDirection.MINIMIZE else -math.inf
    return worst if math.isnan(value) else value
