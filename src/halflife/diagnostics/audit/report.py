"""What an audit returns: a row for each parameter, the findings, a table, plain data."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .findings import SEVERITIES, Finding, Severity

__all__ = ["Audit", "ParameterAudit", "names_of"]

_HEAD = ("parameter", "shape", "group", "fraction/step", "half-life", "timescale")
_COLUMNS = (*_HEAD, "total", "RMS", "predicted", "reason")


@dataclass(frozen=True)
class ParameterAudit:
    """The decay of one parameter; None where it cannot be known or does not decay.

    Args:
        name: its first name in the model, without the prefixes of wrappers.
        tied_names: its other names.
        shape: its shape.
        dtype: its dtype, such as ``"float32"``.
        optimizer: index of its optimizer; None if it is in none.
        group: index of its group.
        decays: whether it decays.
        fraction: share of each weight removed per step where the schedule makes it largest.
        half_life: steps until half of a weight is left if nothing is added.
        timescale: steps over which the weight averages past updates.
        half_life_epochs: the same in epochs.
        timescale_epochs: the same in epochs.
        timescale_of_training: the timescale as a share of the training.
        total_decay: sum of the fractions over the training; about ``exp(-K)`` of the start is left.
        rms: RMS of the weights now (of this process's shard).
        predicted_rms: their equilibrium RMS in the random-walk model.
        unchanged: share of the weights that one step's decay, rounded to their dtype, leaves as
            they are; None where rounding is no concern.
        reason: what it is, and which rule it follows.
    """

    name: str
    tied_names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    optimizer: int | None
    group: int | None
    decays: bool
    fraction: float | None
    half_life: float | None
    timescale: float | None
    half_life_epochs: float | None
    timescale_epochs: float | None
    timescale_of_training: float | None
    total_decay: float | None
    rms: float | None
    predicted_rms: float | None
    unchanged: float | None
    reason: str


@dataclass(frozen=True)
class Audit:
    """The result of `audit`; prints as a table with the findings below.

    Args:
        optimizer: class name, or names joined by ``" + "``.
        parameters: one row for each parameter of the model.
        findings: errors first.
        steps: steps of the training that was looked at; None if unknown.
        steps_per_epoch: as given.
    """

    optimizer: str
    parameters: tuple[ParameterAudit, ...]
    findings: tuple[Finding, ...]
    steps: int | None = None
    steps_per_epoch: float | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings of severity ``"error"``."""
        return self.of("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings of severity ``"warning"``."""
        return self.of("warning")

    @property
    def exit_code(self) -> int:
        """1 if there is an error, else 0: for a step of continuous integration."""
        return int(bool(self.errors))

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(f for f in self.findings if f.severity == severity)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {
            "optimizer": self.optimizer,
            "steps": self.steps,
            "steps_per_epoch": self.steps_per_epoch,
            "exit_code": self.exit_code,
            "findings": [{"severity": f.severity, **asdict(f)} for f in self.findings],
            "parameters": [asdict(row) for row in self.parameters],
        }

    def table(self) -> list[tuple[str, ...]]:
        """The rows as text, the head first; equal layers share a row (``h.*.weight x12``)."""
        merged: dict[Any, list[ParameterAudit]] = {}
        for row in self.parameters:
            # Whatever differs only in a layer's number and in its measured RMS.
            key = (_pattern(row.name), row.shape, row.group, row.optimizer, row.reason)
            merged.setdefault((*key, row.fraction, row.tied_names), []).append(row)
        return [_COLUMNS, *(_cells(rows) for rows in merged.values())]

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        training = "" if self.steps is None else f", {self.steps:,} steps"
        lines = [f"{self.optimizer}, at the schedule's peak{training}"]
        for row in rows:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(padded).rstrip())
        lines += [f"{f.severity} {f.code}: {f.message}" for f in self.findings]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """How many findings there are of each severity."""
        counts = [(len(self.of(severity)), severity) for severity in SEVERITIES]
        parts = [f"{n} {'note' if s == 'info' else s}{'s' * (n != 1)}" for n, s in counts if n]
        return ", ".join(parts) or "nothing found"


def _pattern(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", "*", name)


def _cells(rows: list[ParameterAudit]) -> tuple[str, ...]:
    row, many = rows[0], len(rows) > 1
    name = f"{_pattern(row.name)} x{len(rows)}" if many else row.name
    sizes = [r.rms for r in rows if r.rms is not None]
    rms = math.sqrt(sum(x * x for x in sizes) / len(sizes)) if sizes else None
    return (
        " = ".join((name, *row.tied_names)),
        "x".join(map(str, row.shape)) or "scalar",
        "-" if row.group is None else _place(row),
        _number(row.fraction),
        _duration(row.half_life, row.half_life_epochs),
        _duration(row.timescale, row.timescale_epochs),
        _number(row.total_decay),
        _number(rms),
        _number(row.predicted_rms),
        row.reason,
    )


def _place(row: ParameterAudit) -> str:
    return f"{row.group}" if not row.optimizer else f"{row.optimizer}:{row.group}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _duration(steps: float | None, epochs: float | None) -> str:
    if steps is None:
        return "-"
    text = f"{steps:,.0f} steps" if steps >= 100 else f"{steps:.3g} steps"
    return text if epochs is None else f"{text} = {epochs:.3g} epochs"


def names_of(parameters: Iterable[str], most: int = 3) -> str:
    """Some names, for a message."""
    names = list(parameters)
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
