"""A study's ledger: the design that it began with, and what each call came to; a file of lines.

    {"op_code": "design", "name": ..., "sha256": ..., "budget": ..., "code": ...}
    {"op_code": "session", "began": ..., "versions": {...}, "machine": {...}}
    {"op_code": "call", "key": ..., "values": {...}, "seconds": ..., "sha256": ...}

Written through the lab's journal, so that a kill at any moment loses no line that was whole. What
is no number has ``null`` in its place, which is read as NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..ledger import as_plain
from ..ledger.errors import LedgerError
from ..ledger.journal import Written, read_lines
from .calls import Values
from .design import Design

__all__ = ["Recorded", "StudyError", "StudyLedger", "read_ledger"]


class StudyError(ValueError):
    """A study that cannot be run or read; the message says why and what to do."""


@dataclass
class Recorded:
    """What is in a study's ledger.

    Attributes:
        name: of the study.
        sha256: of the design that it began with.
        budget: at which it runs.
        code: digest of the code that measures.
        sessions: versions and machine of each process that added to it.
        values: what each call came to, by key.
        seconds: that the calls took together, each by one process.
    """

    name: str
    sha256: str
    budget: str
    code: str
    sessions: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Values] = field(default_factory=dict)
    seconds: float = 0.0


def read_ledger(path: Path) -> Recorded:
    """What a file holds; it is not touched.

    Raises:
        StudyError: if it is no ledger of a study, or a record does not match its checksum.
    """
    try:
        lines = read_lines(path)
    except LedgerError as error:
        raise StudyError(str(error)) from error
    found: Recorded | None = None
    for number, line in enumerate(lines, start=1):
        entry = json.loads(line)
        kind = entry.get("op_code")
        if kind == "design" and found is None:
            found = Recorded(*(entry[key] for key in ("name", "sha256", "budget", "code")))
        elif found is None:
            raise StudyError(f"{path}: begins with no design, so it is no ledger of a study.")
        elif kind == "session":
            found.sessions.append({k: v for k, v in entry.items() if k != "op_code"})
        elif kind == "call":
            if entry["sha256"] != _digest(entry["key"], entry["values"]):
                raise StudyError(
                    f"{path}, line {number}: does not match its checksum, so it was changed or "
                    "damaged; restore the file from a copy."
                )
            found.values[entry["key"]] = {k: _number(v) for k, v in entry["values"].items()}
            found.seconds += entry["seconds"]
    if found is None:
        raise StudyError(f"{path}: is empty.")
    return found


class StudyLedger:
    """A ledger that is written.

    Args:
        path: the file, made with the design as its first line if it is missing.
        design: of the study.
        budget: at which it runs.
        code: digest of the code that measures.
        about: of this process: versions, machine, when it began.

    Attributes:
        path: the file.
        notes: what was mended when it was opened.
        recorded: what it holds by now.

    Raises:
        StudyError: if it began with another design, at another budget, or with other code.
    """

    def __init__(
        self, path: Path, design: Design, budget: str, code: str, about: Mapping[str, Any]
    ) -> None:
        self.notes: list[str] = []
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Written(path, self.notes)
        self._journal.mend()
        self._about: dict[str, Any] | None = {"op_code": "session", **about}
        own = {"name": design.name, "sha256": design.sha256, "budget": budget, "code": code}
        if not path.exists() or not path.stat().st_size:
            self._journal.append_logs([{"op_code": "design", **own}])
        self.recorded = read_ledger(path)
        words = {"name": "study", "sha256": "design", "budget": "budget", "code": "code"}
        for key, word in words.items():
            if getattr(self.recorded, key) != own[key]:
                raise StudyError(
                    f"{path}: was begun with another {word} of this study ("
                    f"{getattr(self.recorded, key)[:12]}, now {own[key][:12]}): what was measured "
                    "then and now is not one study. Run into another folder, or remove the file."
                )

    def record(self, key: str, values: Mapping[str, Any], seconds: float) -> None:
        """Write down what a call came to."""
        plain = {name: _stored(value) for name, value in as_plain(values).items()}
        entry = {
            "op_code": "call", "key": key, "values": plain, "seconds": round(seconds, 3),
            "sha256": _digest(key, plain),
        }  # fmt: skip
        # Whoever adds nothing leaves no trace.
        entries = [entry] if self._about is None else [self._about, entry]
        self._about = None
        self._journal.append_logs(entries)
        self.recorded.values[key] = {name: _number(value) for name, value in plain.items()}
        self.recorded.seconds += seconds


def _digest(key: str, values: Mapping[str, Any]) -> str:
    text = json.dumps([key, values], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _stored(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_stored(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(part) for part in value]
    return math.nan if value is None else value
