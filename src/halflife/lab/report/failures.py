"""Trainings that are in no figure: those that failed, with what they said, and those stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...units.writing import counted
from ..statistics.surface import Record
from ..trials.cell import BASELINE, Cell
from ..wording import listed
from .svg import brief

__all__ = ["Failure", "failures", "last_line", "lost"]

_SHOWN, _NAMED = 30, 6  # different errors; cells of each
_LONG = 12_000  # characters of a traceback


@dataclass(frozen=True)
class Failure:
    """An error, and the trainings that ended with it.

    Attributes:
        line: its last line.
        cells: the first trainings, in words.
        more: how many others there are.
        traceback: the whole of it, or its end.
    """

    line: str
    cells: list[str]
    more: int
    traceback: str


def failures(records: Sequence[Record]) -> tuple[list[Failure], int]:
    """The errors of all failed trainings, the most frequent first, and how many are left out.

    Trainings that failed by the same error stand together.
    """
    by_error: dict[str, list[Record]] = {}
    for r in records:
        if r["status"] == "failed":
            by_error.setdefault((r.get("error") or "").strip(), []).append(r)
    ordered = sorted(by_error.items(), key=lambda one: -len(one[1]))
    shown = [
        Failure(
            last_line(error, 300),
            [brief(str(Cell.of(r)), 200) for r in failed[:_NAMED]],
            max(len(failed) - _NAMED, 0),
            error if len(error) <= _LONG else f"[...]\n{error[-_LONG:]}",
        )
        for error, failed in ordered[:_SHOWN]
    ]
    return shown, len(ordered) - len(shown)


def last_line(error: str | None, most: int) -> str:
    """What an error says at last.

    Example:
        >>> last_line("Traceback ..." + chr(10) + "ValueError: no", 100)
        'ValueError: no'
    """
    lines = (error or "").strip().splitlines()
    line = lines[-1].strip() if lines else "no reason given"
    return line if len(line) <= most else f"{line[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def lost(records: Sequence[Record]) -> list[str]:
    """How many trainings failed, were stopped or diverged, in sentences."""
    kinds: dict[str, dict[str, int]] = {"failed": {}, "pruned": {}, "diverged": {}}
    progress = [r.get("progress") or 0.0 for r in records if r["status"] == "pruned"]
    for r in records:
        kind = "diverged" if r["status"] == "done" and r.get("diverged") else r["status"]
        if kind in kinds:
            kinds[kind][r["rule"]] = kinds[kind].get(r["rule"], 0) + 1
    out = []
    for kind, counts in kinds.items():
        if not counts:
            continue
        verb = {"failed": "failed", "diverged": "diverged"}.get(kind, "stopped early")
        if kind == "pruned":
            low, high = f"{min(progress):.0%}", f"{max(progress):.0%}"
            verb += f", at {low} of the training" if low == high else f", at {low} to {high}"
        names = ((n, "no decay" if rule == BASELINE else brief(rule)) for rule, n in counts.items())
        parts = listed([f"{n} of {rule}" for n, rule in names])
        out.append(f"{counted(sum(counts.values()), 'training')} {verb}: {parts}.")
    return out
