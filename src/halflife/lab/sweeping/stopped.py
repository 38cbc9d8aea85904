"""What trainings had come to where some of them were stopped: all are judged at one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..metric import Metric

__all__ = ["Stopped"]

Record = Mapping[str, Any]


class Stopped:
    """Trainings of which some were stopped on the way, each with what it had come to there.

    The place is the earliest at which any was stopped, in the steps of its reports, so whatever
    these count; trainings of other lengths have one of their own. A training that went on was
    there too, and is judged by its learning curve: what it came to at the end is no part of it.

    Args:
        records: of all that are compared.
        metric: what is compared.

    Attributes:
        judged: whether any that was stopped had reported the metric.

    Example:
        >>> ended = {"status": "done", "metrics": {"val": 9.0}, "progress": 1.0,
        ...          "curve": {"step": [1, 2, 3], "val": [3.0, 2.0, 9.0]}}
        >>> stopped = {"status": "pruned", "metrics": {"val": 2.5}, "progress": 2 / 3,
        ...            "curve": {"step": [1, 2], "val": [4.0, 2.5]}}
        >>> both = Stopped([ended, stopped], Metric("val"))
        >>> both.value(ended), both.value(stopped)
        (2.0, 2.5)
    """

    def __init__(self, records: Sequence[Record], metric: Metric) -> None:
        self._metric = metric
        stopped = [r for r in records if r["status"] == "pruned"]
        self.judged = any(metric.name in r["metrics"] for r in stopped)
        self._places: dict[Any, tuple[float, float]] = {}
        for r in stopped:
            steps = (r.get("curve") or {}).get("step") or ()
            if steps:
                place = (float(r.get("progress") or 0.0), float(steps[-1]))
                self._places[r.get("epochs")] = self._earlier(r.get("epochs"), place)

    def _earlier(self, length: Any, place: tuple[float, float]) -> tuple[float, float]:
        """The lower share; of equal ones the last step, as a training may have skipped reports."""
        share, step = self._places.get(length, place)
        if math.isclose(place[0], share, rel_tol=1e-9):
            return share, max(step, place[1])
        return min((share, step), place)

    def value(self, record: Record) -> float:
        """What a training had come to at the place; NaN where it had reported nothing."""
        curve = record.get("curve") or {}
        steps, column = curve.get("step") or (), curve.get(self._metric.name) or ()
        if not self._places or (record["status"] == "pruned" and not column):
            return self._metric.of(record["metrics"])
        _, last = self._places.get(record.get("epochs"), (0.0, math.nan))
        if math.isnan(last) and steps:  # none of this length was stopped: at the same share
            last = min(share for share, _ in self._places.values()) * steps[-1] * (1 + 1e-9)
        there = [value for step, value in zip(steps, column, strict=False) if step <= last]
        # A report of other metrics alone leaves a gap here.
        return next((v for v in reversed(there) if math.isfinite(v)), math.nan)
