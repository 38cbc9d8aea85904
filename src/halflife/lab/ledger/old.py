"""Ledgers of format 1, of landscapes alone: read as records of today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ..meta import Meta, spelled_as_now
from ..metric import Metric
from .records import sound

__all__ = ["STUDY", "meta", "records"]

STUDY = "landscape"
_METRICS = ("test_error", "test_loss", "train_loss")


def records(trials: Iterable[FrozenTrial], place: str) -> list[dict[str, Any]]:
    """The finished cells.

    Raises:
        LedgerError: if one is none.
    """
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    return [sound(_record(t), f"{place}, trial {t.number}") for t in finished]


def _record(trial: FrozenTrial) -> dict[str, Any]:
    stored = {**trial.params, **_restored(trial.user_attrs)}
    metrics = {name: stored.pop(name) for name in _METRICS if stored.get(name) is not None}
    return {**stored, "params": {}, "status": "done", "metrics": metrics}


def _restored(value: Any) -> Any:
    """Stored data with its numbers that are not finite, which were written as text."""
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {k: _restored(v) for k, v in value.items()}
    return [_restored(v) for v in value] if isinstance(value, list) else value


def meta(attributes: Mapping[str, Any]) -> Meta:
    """What is known of the landscape, with today's names."""
    known = spelled_as_now(attributes.get("meta", {}))
    metric = Metric("test_error", "%", examples=known.get("test_examples")).as_dict()
    named = {"name": known.get("task"), "description": known.get("task_description")}
    return Meta.read({**known, **named, "choose": metric, "report": metric, "curve_unit": "step"})
