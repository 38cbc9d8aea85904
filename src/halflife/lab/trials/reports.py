"""What a training reports on its way: columns of one length, and what their places count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..metric import metric_values

__all__ = ["Reports"]


class Reports:
    """The reports of one training.

    Attributes:
        columns: lists by metric, and of places as ``"step"``; empty before the first report.
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {}
        self._units: set[str] = set()

    def __len__(self) -> int:
        return len(self.columns.get("step", []))

    def add(self, place: int, unit: str, metrics: Mapping[str, float | Tensor]) -> None:
        """Take one more.

        Args:
            place: when it was.
            unit: what that counts.
            metrics: by name.

        Raises:
            ValueError: for a metric that is no number.
        """
        values, count = metric_values(metrics), len(self)
        self._units.add(unit)
        self.columns.setdefault("step", []).append(place)
        for name in {*self.columns, *values} - {"step"}:
            column = self.columns.setdefault(name, [math.nan] * count)
            column.append(values.get(name, math.nan))

    @property
    def unit(self) -> str | None:
        """What all places count, a step where they differ; None without any."""
        return "step" if len(self._units) > 1 else next(iter(self._units), None)

    @property
    def last(self) -> dict[str, float]:
        """The metrics of the last one."""
        return {k: v[-1] for k, v in self.columns.items() if k != "step"}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"columns": self.columns, "units": sorted(self._units)}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what was reported."""
        self.columns, self._units = state["columns"], set(state["units"])
