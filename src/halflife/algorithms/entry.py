"""What the catalogue holds of one published algorithm, and how it prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch.optim import Optimizer

from ..checks import aligned
from ..rules.contract import DecayRule

__all__ = ["Algorithm", "Algorithms"]


@dataclass(frozen=True)
class Algorithm:
    """A published algorithm as an optimizer, a decay rule and the paper's settings.

    Args:
        name: the key, as published, in lower case.
        optimizer: the class that runs it; None where it is no torch optimizer.
        rule: its decay rule; None where it has no weight decay.
        equation: the update in one line of plain text. ``u`` is the optimizer's direction without
            decay, ``alpha`` the peak lr, ``eta`` the schedule's multiplier, ``lr = alpha eta``.
        paper: authors and year, comma, title.
        source: section or algorithm in that paper.
        defaults: settings of the paper, or of its code, that differ from the optimizer's.
        aliases: other names that mean it.
        schedule: builds the scheduler that belongs to the algorithm, from the optimizer and the
            length of the run; None where it needs none.
        note: what to know before using it: names that collide, units, what to call.
    """

    name: str
    optimizer: Callable[..., Optimizer] | None
    rule: DecayRule | None
    equation: str
    paper: str
    source: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    schedule: Callable[..., Any] | None = None
    note: str = ""

    def create(self, params: Any, **overrides: Any) -> Any:
        """The optimizer, by the paper's settings where ``overrides`` does not say otherwise.

        Raises:
            ValueError: if the algorithm is no torch optimizer.
        """
        if self.optimizer is None:
            raise ValueError(f"name={self.name!r}: is no torch optimizer; {self.note}")
        rule = {} if self.rule is None else {"decay": self.rule}
        return self.optimizer(params, **{**rule, **self.defaults, **overrides})

    @property
    def optimizer_name(self) -> str:
        """The optimizer's name, "-" without one."""
        return getattr(self.optimizer, "__name__", "-")

    @property
    def rule_name(self) -> str:
        """The rule as it prints, "-" without one."""
        return "-" if self.rule is None else repr(self.rule)

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.defaults.items())
        lines = [
            f"{self.name}: {self.equation}",
            f"  {self.paper}, {self.source}",
            f"  {self.optimizer_name} + {self.rule_name}" + (f", {settings}" if settings else ""),
        ]
        if self.aliases:
            lines.append(f"  also: {', '.join(self.aliases)}")
        if self.schedule is not None:
            lines.append(f"  schedule: {self.schedule.__name__}")
        if self.note:
            lines.append(f"  note: {self.note}")
        return "\n".join(lines)


class Algorithms(list[Algorithm]):
    """A list of algorithms that prints as a table, a line each; an entry prints in full.

    Example:
        >>> rows = Algorithms([Algorithm("sgd", None, None, "w - lr g", "Robbins 1951", "Eq. 6")])
        >>> print(rows)
        name  optimizer  rule  paper         equation
        sgd   -          -     Robbins 1951  w - lr g
    """

    def as_dicts(self) -> list[dict[str, Any]]:
        """One plain dictionary per algorithm; classes, rules and functions by name."""
        rows = []
        for entry in self:
            row = {f.name: getattr(entry, f.name) for f in fields(entry)}
            row["optimizer"], row["rule"] = entry.optimizer_name, entry.rule_name
            row["schedule"] = None if entry.schedule is None else entry.schedule.__name__
            rows.append(row)
        return rows

    def __str__(self) -> str:
        rows = [("name", "optimizer", "rule", "paper", "equation")]
        rows += [
            (a.name, a.optimizer_name, a.rule_name, a.paper.split(",")[0], a.equation) for a in self
        ]
        return "\n".join(aligned(rows))
