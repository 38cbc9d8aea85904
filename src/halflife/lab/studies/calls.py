"""A study as a plan: what it asks to be measured, step by step, and what it concludes.

A plan is a generator over a study's settings. It yields lists of calls and is sent what each came
to; from these it may ask for more, as a choice on validation comes before fresh seeds; it returns
its findings. Nothing in it is measured twice: a call is known by its function and arguments, and
what a ledger has of it is taken from there. So the same plan, given a ledger alone, is the report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Call", "Curve", "Findings", "Plan", "Values", "advance", "call", "studies", "study"]

Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One measurement: a function of a module of this package, and its arguments as plain data.

    Attributes:
        function: returns numbers, or lists of them, by name.
        arguments: by name.
    """

    function: Callable[..., Mapping[str, Any]]
    arguments: Mapping[str, Any]

    @property
    def target(self) -> str:
        """``module.function`` within this package."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    @property
    def key(self) -> str:
        """What it is, as text: the same for equal calls.

        Example:
            >>> call(advance, seed=1, arm="adamw").key
            'calls.advance {"arm":"adamw","seed":1}'
        """
        own = json.dumps(self.arguments, sort_keys=True, separators=(",", ":"))
        return f"{self.target} {own}"


def call(function: Callable[..., Mapping[str, Any]], **arguments: Any) -> Call:
    """A measurement to be asked for."""
    return Call(function, arguments)


@dataclass(frozen=True)
class Curve:
    """A figure of a study: lines over an axis.

    Attributes:
        title: one line.
        x_label: with its unit.
        y_label: with its unit.
        lines: by name, points ``(x, y)``, or ``(x, y, low, high)``.
        log_x: whether the axis is logarithmic.
        log_y: likewise.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[tuple[float, ...]]]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Findings:
    """What a plan concludes with.

    Attributes:
        values: of each endpoint, one a fresh seed (or a case, where nothing is random). Beside a
            claim's own stand ``claim/null``, ``claim/planted`` and ``claim/`` with the name of each
            matching.
        curves: figures.
        notes: what should be known of this run: choices on a border, exclusions.
    """

    values: Mapping[str, Sequence[float]]
    curves: Sequence[Curve] = ()
    notes: Sequence[str] = field(default_factory=tuple)


Plan: TypeAlias = Callable[[Mapping[str, Any]], Generator[list[Call], list[Values], Findings]]

_PLANS: dict[str, Plan] = {}


def study(name: str) -> Callable[[Plan], Plan]:
    """The decorator that makes a plan that of the registered design of this name."""

    def registered(plan: Plan) -> Plan:
        if name in _PLANS and _PLANS[name].__module__ != plan.__module__:
            raise ValueError(f"study {name!r}: has a plan already")
        _PLANS[name] = plan
        return plan

    return registered


def studies() -> Mapping[str, Plan]:
    """The plans by name of their design."""
    return _PLANS


def advance(
    plan: Plan, settings: Mapping[str, Any], known: Mapping[str, Values]
) -> tuple[list[Call], Findings | None]:
    """How far what is known carries a plan.

    Args:
        plan: of a study.
        settings: of a budget.
        known: what calls came to, by key.

    Returns:
        What it asks for next that is not known, and no findings; or nothing, and the findings.
    """
    walk = plan(settings)
    try:
        wanted = next(walk)
        while True:
            missing = {each.key: each for each in wanted if each.key not in known}
            if missing:
                walk.close()
                return list(missing.values()), None
            wanted = walk.send([known[each.key] for each in wanted])
    except StopIteration as end:
        return [], end.value
