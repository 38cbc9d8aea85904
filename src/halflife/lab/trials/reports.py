"""What a training reports: columns of its learning curve, and the last value of each metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["Reports"]


class Reports:
    """The reports of one training.

    Attributes:
        columns: ``"step"`` and one by metric, of one length; NaN where a row has no value.
        last: the last value that was reported of each metric.

    Example:
        >>> reports = Reports()
        >>> reports.add(1, "epoch", {"val": 0.5})
        >>> reports.add(1, "epoch", {"train": 0.25})
        >>> reports.add(2, "epoch", {"val": 0.75})
        >>> reports.columns["step"], reports.last
        ([1, 2], {'val': 0.75, 'train': 0.25})
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {}
        self.last: dict[str, float] = {}
        self._row: set[str] = set()  # what the last row has: a NaN may be a value that it was told
        self._units: set[str] = set()

    def __len__(self) -> int:
        return len(self.columns.get("step", []))

    def add(self, step: Any, unit: str, values: Mapping[str, float]) -> None:
        """Take a report; what is told of one moment in several reports is one row.

        Args:
            step: when it was.
            unit: what that counts.
            values: metrics by name.
        """
        self._units.add(unit)
        steps = self.columns.setdefault("step", [])
        if not steps or steps[-1] != step or self._row & values.keys():
            steps.append(step)
            self._row = set()
            for name in self.columns.keys() - {"step"}:
                self.columns[name].append(math.nan)
        for name, value in values.items():
            self.columns.setdefault(name, [math.nan] * len(steps))[-1] = value
        self._row |= values.keys()
        self.last |= values

    @property
    def unit(self) -> str | None:
        """What all steps count, a step where they differ; None without any."""
        return "step" if len(self._units) > 1 else next(iter(self._units), None)

    def state_dict(self) -> dict[str, Any]:
        """All of it, as a checkpoint keeps it."""
        return {
            "columns": self.columns,
            "last": self.last,
            "row": sorted(self._row),
            "units": sorted(self._units),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the reports back."""
        self.columns, self.last = state["columns"], state["last"]
        self._row, self._units = set(state["row"]), set(state["units"])
