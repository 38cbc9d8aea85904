"""A sample as a table: measured beside predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...checks import aligned
from ...units.writing import number
from .quantities import PREDICTED
from .sinks import Record

__all__ = ["cells", "notes_of", "table"]


def cells(records: list[Record], quantities: Sequence[str]) -> list[list[str]]:
    """Rows of text, the head first; of a quantity with a prediction "measured (predicted)".

    Example:
        >>> record = {"step": 1, "name": "w", "rotation": 0.02, "rotation_predicted": 0.01}
        >>> cells([record], ["rotation"])
        [['', 'rotation'], ['w', '0.02 (0.01)']]
    """
    shown = [q for q in quantities if any(q in record for record in records)]
    rows = [["", *(q.replace("_", " ") for q in shown)]]
    for record in records:
        row = [str(record["name"])]
        for quantity in shown:
            text = _number(record.get(quantity))
            if quantity in PREDICTED and record.get(f"{quantity}_predicted") is not None:
                text += f" ({_number(record[f'{quantity}_predicted'])})"
            row.append(text)
        rows.append(row)
    return rows


def table(records: list[Record], quantities: Sequence[str]) -> str:
    """Records of one step as aligned text, with their notes below."""
    if not records:
        return "no step has been sampled yet"
    rows = cells(records, quantities)
    lines = [f"step {records[0]['step']}: measured (predicted at equilibrium)"]
    return "\n".join([*lines, *aligned(rows), *notes_of(records)])


def notes_of(records: list[Record]) -> list[str]:
    """What to know about them: each note once, after the names it belongs to."""
    notes: dict[str, list[str]] = {}
    for record in records:
        if record.get("note"):
            notes.setdefault(record["note"], []).append(record["name"])
    lines = []
    for note, names in notes.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(f"{', '.join(names[:3])}{more}: {note}")
    return lines


def _number(value: Any) -> str:
    return str(value) if value is not None and not math.isfinite(value) else number(value)
