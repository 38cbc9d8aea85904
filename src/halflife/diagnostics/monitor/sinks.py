"""Where records go: files, experiment loggers, functions, told apart by what they can do."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ...checks import finite

__all__ = ["CSVSink", "JSONLSink", "Record", "Sink", "as_sink", "numbers", "read_records"]

Record: TypeAlias = "dict[str, Any]"

# What a record says of its step and tensor, and does not measure.
LABELS = ("step", "epoch", "name", "note")


class Sink(Protocol):
    """What takes the records of a sampled step: the global one first, then one per tensor."""

    def write(self, records: list[Record]) -> None:
        """Keep or show them."""


def as_sink(target: Any) -> Sink:
    """The sink for a target.

    - a path that ends in ``.jsonl`` or ``.csv``: appended to
    - ``add_scalar(tag, value, step)``: TensorBoard's SummaryWriter
    - ``log_metrics(metrics, step=)``: the mlflow module, Lightning's loggers
    - ``log(metrics, step=)``: a W&B run, an Accelerator
    - a `logging.Logger`: one line for each record
    - ``write(records)``, or any function of the records

    Tags are ``rotation/layer.weight`` and, beside it, ``rotation/layer.weight/predicted``.

    Raises:
        TypeError: if the target is none of these.
        ValueError: for a path that ends in something else.
    """
    if isinstance(target, (str, os.PathLike)):
        path = Path(target)
        kinds: dict[str, Callable[[Path], Sink]] = {".jsonl": JSONLSink, ".csv": CSVSink}
        if path.suffix not in kinds:
            raise ValueError(f"sink {str(path)!r}: must end in {' or '.join(kinds)}; rename it.")
        return kinds[path.suffix](path)
    if isinstance(target, logging.Logger):
        return _Each(lambda record: target.info(_line(record)))
    if callable(getattr(target, "add_scalar", None)):

        def add(record: Record) -> None:
            for tag, value in numbers(record).items():
                target.add_scalar(tag, value, record["step"])

        return _Each(add)
    for method in ("log_metrics", "log"):
        if callable(log := getattr(target, method, None)):
            return _Together(log)
    if callable(getattr(target, "write", None)) and not hasattr(target, "readable"):
        own: Sink = target
        return own
    if callable(target):
        return _Function(target)
    raise TypeError(
        f"sink {target!r}: must be a path, a logger with add_scalar, log_metrics or log, or a "
        "function of a list of records; pass one of these."
    )


def numbers(record: Record) -> dict[str, float]:
    """A record's finite numbers by tag, for loggers of scalars.

    Example:
        >>> numbers({"step": 1, "name": "w", "rotation": 0.1, "rotation_predicted": None})
        {'rotation/w': 0.1}
    """
    tags = {}
    for key, value in record.items():
        if key not in LABELS and isinstance(value, (int, float)) and math.isfinite(value):
            quantity = key.removesuffix("_predicted")
            end = "/predicted" if quantity != key else ""
            tags[f"{quantity}/{record['name']}{end}"] = float(value)
    return tags


class JSONLSink:
    """One JSON object a line, appended; what a killed process left half-written is ended first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if _torn(path):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def write(self, records: list[Record]) -> None:
        """Append one line for each record; what is not finite becomes null."""
        lines = [json.dumps(finite(record)) for record in records]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


class CSVSink:
    """One row for each record, appended; the first row names the columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._columns: list[str] | None = None
        if path.exists() and path.stat().st_size:
            with path.open(newline="", encoding="utf-8") as file:
                self._columns = next(csv.reader(file))
            if _torn(path):
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n")

    def write(self, records: list[Record]) -> None:
        """Append the records.

        Raises:
            ValueError: if the file has other columns.
        """
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            for record in records:
                if self._columns is None:
                    self._columns = list(record)
                    writer.writerow(self._columns)
                if list(record) != self._columns:
                    raise ValueError(
                        f"{self._path}: its columns are {', '.join(self._columns)}, not "
                        f"{', '.join(record)}; write another preset to another file."
                    )
                writer.writerow(["" if v is None else v for v in record.values()])


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a ``.jsonl`` file; of those of one step and name, the last one written.

    A run that was resumed from a checkpoint has written some steps twice. A line that a killed
    process left half-written is passed over.
    """
    found: dict[Any, Record] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            found[record["step"], record["name"]] = record
    return sorted(found.values(), key=lambda record: record["step"])


class _Each:
    def __init__(self, function: Callable[[Record], object]) -> None:
        self._function = function

    def write(self, records: list[Record]) -> None:
        for record in records:
            self._function(record)


class _Together:
    def __init__(self, log: Callable[..., object]) -> None:
        self._log = log

    def write(self, records: list[Record]) -> None:
        tags = {tag: value for record in records for tag, value in numbers(record).items()}
        self._log(tags, step=records[0]["step"])


class _Function:
    def __init__(self, function: Callable[[list[Record]], object]) -> None:
        self._function = function

    def write(self, records: list[Record]) -> None:
        self._function(records)


def _torn(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _line(record: Record) -> str:
    shown = (
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in record.items()
        if value is not None and value != ""
    )
    return " ".join(shown)
