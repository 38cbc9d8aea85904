"""What an audit returns: a row for each parameter, the findings, a table, plain data."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ...checks import aligned
from ...units.writing import counted, duration, number
from .findings import SEVERITIES, Finding, Severity

__all__ = ["Audit", "ParameterAudit", "names_of"]

_GROUPS = ("group", "weights", "rule", "lr", "weight_decay", "fraction/step", "half-life")
_GROUPS_HEAD = (*_GROUPS, "timescale", "total", "predicted RMS")
_SIDE_BY_SIDE = 4  # groups
_WIDTH = 100
_PARAMETERS_HEAD = ("parameter", "shape", "group", "decays", "RMS", "what it is")


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
        rule: the rule it follows, by name ("decoupled") or as code has it; empty if it is no rule
            of ours.
        lr: that of the step in which the schedule makes the decay strongest; None if the optimizer
            chooses its own.
        weight_decay: the coefficient of that step, in the rule's unit.
        fraction: share of each weight that this step removes.
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
        reason: what it is, and if it does not decay, why.
    """

    name: str
    tied_names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    optimizer: int | None
    group: int | None
    decays: bool
    rule: str
    lr: float | None
    weight_decay: float | None
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

    def tables(self) -> list[list[tuple[str, ...]]]:
        """Groups and parameters as text, a row each; equal layers share one (``*.bias x12``)."""
        groups: dict[Any, list[ParameterAudit]] = {}
        layers: dict[Any, list[ParameterAudit]] = {}
        for row in self.parameters:
            # Whatever differs only in a layer's number and in its measured RMS.
            key = (_pattern(row.name), row.shape, _place(row), row.decays, row.reason)
            layers.setdefault((*key, row.tied_names), []).append(row)
            if row.group is not None:
                groups.setdefault((row.optimizer, row.group), []).append(row)
        about = [_GROUPS_HEAD, *(_group_cells(groups[key]) for key in sorted(groups))]
        return [about, [_PARAMETERS_HEAD, *map(_parameter_cells, layers.values())]]

    def title(self) -> str:
        """What was audited, in a line."""
        training = "" if self.steps is None else f", {counted(self.steps, 'step')}"
        return f"{self.optimizer}, per step where it decays most{training}"

    def __str__(self) -> str:
        lines = [self.title()]
        about, parameters = self.tables()
        if len(about) <= 1 + _SIDE_BY_SIDE:  # columns side by side fit into any terminal
            about = list(zip(*about, strict=True))
        lines += [*aligned(about), "", *aligned(parameters), ""]
        for f in self.findings:
            text = f"{f.severity} {f.code}: {f.message}"
            lines += textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """How many findings there are of each severity."""
        counts = [(len(self.of(severity)), severity) for severity in SEVERITIES]
        parts = [f"{n} {'note' if s == 'info' else s}{'s' * (n != 1)}" for n, s in counts if n]
        return ", ".join(parts) or "nothing found"


def _pattern(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", "*", name)


def _group_cells(rows: list[ParameterAudit]) -> tuple[str, ...]:
    # Frozen parameters show what the group does to the others.
    row = next((r for r in rows if r.decays), rows[0])
    return (
        _place(row),
        f"{sum(math.prod(r.shape) for r in rows):,}",
        row.rule or "-",
        number(row.lr),
        number(row.weight_decay),
        number(row.fraction),
        duration(row.half_life, row.half_life_epochs),
        duration(row.timescale, row.timescale_epochs),
        number(row.total_decay),
        number(row.predicted_rms),
    )


def _parameter_cells(rows: list[ParameterAudit]) -> tuple[str, ...]:
    row, many = rows[0], len(rows) > 1
    name = f"{_pattern(row.name)} x{len(rows)}" if many else row.name
    sizes = [r.rms for r in rows if r.rms is not None]
    rms = math.sqrt(sum(x * x for x in sizes) / len(sizes)) if sizes else None
    return (
        " = ".join((name, *row.tied_names)),
        "x".join(map(str, row.shape)) or "scalar",
        _place(row),
        "yes" if row.decays else "no",
        number(rms),
        row.reason,
    )


def _place(row: ParameterAudit) -> str:
    """The group; behind the optimizer's number where there are several."""
    if row.group is None:
        return "-"
    return f"{row.optimizer}:{row.group}" if row.optimizer else f"{row.group}"


def names_of(parameters: Iterable[str], most: int = 3) -> str:
    """Some names, for a message."""
    names = list(parameters)
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
