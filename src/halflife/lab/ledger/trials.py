"""A cell as Optuna's tools show it."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ...checks import is_number
from ..cell import Cell

__all__ = ["STATES", "begun"]

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
