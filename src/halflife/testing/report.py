"""The outcome of checks: what passed, what failed and why, what does not apply."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..rules.contract import DecayRule

__all__ = ["Check", "Report", "Skip", "outcome"]


@dataclass(frozen=True)
class Check:
    """One check's outcome.

    Args:
        name: what was checked.
        rule: with which rule.
        outcome: "passed", "failed" or "skipped".
        message: why it failed or was skipped.
    """

    name: str
    rule: str
    outcome: str
    message: str = ""


@dataclass(frozen=True)
class Report:
    """What was checked of one subject; prints as a list."""

    subject: str
    checks: tuple[Check, ...]

    def of(self, outcome: str) -> list[Check]:
        """The checks with one outcome."""
        return [check for check in self.checks if check.outcome == outcome]

    def __str__(self) -> str:
        return self.text(self.checks)

    def text(self, shown: Iterable[Check]) -> str:
        """The counts of all checks, and a line for each that is to be shown."""
        lines = [
            f"{self.subject}: {len(self.of('passed'))} passed, {len(self.of('failed'))} failed"
        ]
        for c in shown:
            lines.append(f"  {c.outcome:8}{c.name} [{c.rule}]" + (c.message and f": {c.message}"))
        return "\n".join(lines)


class Skip(Exception):
    """The check does not apply."""


def outcome(name: str, rule: DecayRule, check: Callable[..., None], *args: Any) -> Check:
    """Run one check."""
    try:
        check(*args)
    except Skip as reason:
        return Check(name, rule.name, "skipped", str(reason))
    except AssertionError as failure:
        return Check(name, rule.name, "failed", str(failure))
    except Exception as error:
        return Check(name, rule.name, "failed", f"it raised {type(error).__name__}: {error}")
    return Check(name, rule.name, "passed")
