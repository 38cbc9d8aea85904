"""What is chosen: one (rule, lr, weight decay, other parameters), and what tells two apart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...theory.equilibrium import half_life, timescale

__all__ = [
    "AXES",
    "BASELINE",
    "DEFAULT",
    "DEFAULT_RULE",
    "Key",
    "Record",
    "Setting",
    "key_of",
]

Record: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[Hashable, ...]

BASELINE = "none"  # the rule of the runs without decay
DEFAULT = "default"  # stands for torch's default, which is no rule of its own
DEFAULT_RULE = "decoupled"  # the rule that torch's default is a setting of
AXES = ("lr", "weight_decay")


@dataclass(frozen=True)
class Setting:
    """What is chosen: one (rule, lr, weight decay, other parameters).

    Attributes:
        rule: the rule's name.
        lr: peak learning rate.
        weight_decay: the rule's own coefficient.
        params: values of the other swept parameters, by name.
        fraction: share of each weight removed per step at this peak lr; None where undefined (L2).
        value: the metric, mean over seeds; None where it was not measured.
        standard_error: of that mean; None with one seed.
        seeds: number of runs.
    """

    rule: str
    lr: float
    weight_decay: float
    params: Mapping[str, Any] = field(default_factory=dict)
    fraction: float | None = None
    value: float | None = None
    standard_error: float | None = None
    seeds: int = 0

    @property
    def key(self) -> Key:
        """What tells it from other settings."""
        return (self.rule, self.lr, self.weight_decay, _frozen(self.params))

    @property
    def place(self) -> dict[str, Any]:
        """Value of everything swept, by name."""
        return {"lr": self.lr, "weight_decay": self.weight_decay, **self.params}

    @property
    def half_life(self) -> float | None:
        """Steps until half of a weight is left at the peak lr; None without a fraction."""
        return half_life(self.fraction) if self.fraction else None

    @property
    def timescale(self) -> float | None:
        """Steps the weights average over at the peak lr; None without a fraction."""
        return timescale(self.fraction) if self.fraction else None


def key_of(record: Record) -> Key:
    """The key of a record's setting, as `Setting.key`."""
    params = record.get("params") or {}
    return (record["rule"], record["lr"], record["weight_decay"], _frozen(params))


def _frozen(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))
