"""How a study was run, from its design and its ledger: settings, machine, time, commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...units.writing import counted
from .design import Design
from .ledger import Recorded
from .results import StudyResult

__all__ = ["facts_of", "rerun_command", "seconds_text", "settings_of"]


def facts_of(study: StudyResult) -> dict[str, Any]:
    """What was set, by which versions and machine, how long it took, and how to do it again."""
    design, recorded = study.design, study.recorded
    budget = recorded.budget if recorded else "minutes"
    facts = [("budget", budget)]
    if recorded is not None:
        facts += _record(recorded)
    facts.append(("design, SHA-256", design.sha256))
    if recorded is not None:
        facts.append(("code that measured, SHA-256", recorded.code))
    return {
        "settings": settings_of(design, budget),
        "facts": facts,
        "command": rerun_command(design, budget),
        "began": _began(recorded.sessions)[:10] if recorded else "",
    }


def settings_of(design: Design, budget: str) -> list[tuple[str, str]]:
    """The settings of a budget, each as text.

    Args:
        design: of the study.
        budget: ``"minutes"`` or ``"hours"``.
    """
    return [(key, _written(value)) for key, value in design.settings(budget).items()]


def rerun_command(design: Design, budget: str) -> str:
    """The command that runs a study again."""
    more = "" if budget == "minutes" else f" --budget {budget}"
    return f"halflife study run {design.name}{more}"


def seconds_text(seconds: float) -> str:
    """A duration as people say it.

    Example:
        >>> seconds_text(42.3), seconds_text(754.0), seconds_text(8000.0)
        ('42 s', '12 min 34 s', '2 h 13 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _record(recorded: Recorded) -> list[tuple[str, str]]:
    sessions = recorded.sessions
    versions = {", ".join(f"{k} {v}" for k, v in s.get("versions", {}).items()) for s in sessions}
    machines = {_machine(s.get("machine", {})) for s in sessions}
    return [
        ("begun", _began(sessions)),
        ("measurements", f"{len(recorded.values):,}"),
        ("time", f"{seconds_text(recorded.seconds)}, all measurements together, one process each"),
        ("versions", "; ".join(sorted(versions))),
        ("machine", "; ".join(sorted(machines))),
    ]


def _began(sessions: Sequence[dict[str, Any]]) -> str:
    return min((str(s.get("began", "")) for s in sessions), default="")


def _machine(machine: dict[str, Any]) -> str:
    known = {key: value for key, value in machine.items() if value}
    cores = known.pop("cores", None)
    words = " ".join(map(str, known.values()))
    return f"{words}, {counted(cores, 'core')}" if cores else words


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_written(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_written, value))
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value)
        if isinstance(value, str)
        else json.dumps(value)
    )
