"""The folder of a run, which is read again when it goes on.

    run.json            recipe and options, by which another run is not taken for this one
    metrics.jsonl       a line for each step and each evaluation
    monitor.jsonl       what a monitor sampled
    checkpoint-STEP/    the whole state; `latest` names the newest that is complete
    weights-STEP        weights alone, at the end of each cycle of restarts and of the run
    result.json         what it came to
    lock                held by the process that trains

Whatever is there under its own name is complete: it is written beside it and moved.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..ledger.lock import FileLock

__all__ = ["RunError", "RunFolder", "runs_below"]

_RUN, _RESULT, _LATEST, _LOCK = "run.json", "result.json", "latest", "lock"
_PARTS = ("recipe", "options")  # of what a run is
_METRICS = "metrics.jsonl"
_LOGS = (_METRICS, "monitor.jsonl")


class RunError(ValueError):
    """A run that cannot begin, or go on."""


class RunFolder:
    """The folder of a run.

    Args:
        path: of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / _LOCK)

    @property
    def begun(self) -> bool:
        """Whether it holds a run."""
        return (self.path / _RUN).exists()

    def begin(self, run: Mapping[str, Any]) -> None:
        """Write what the run is.

        Raises:
            RunError: if there are parts of another run, whose own file is missing.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        left = [name for name in (*_LOGS, _RESULT, _LATEST) if (self.path / name).exists()]
        if left:
            raise RunError(
                f"out={str(self.path)!r}: holds {left[0]} of a run without its {_RUN}; name another"
                " folder."
            )
        self._write(_RUN, json.dumps(run, indent=1))

    def hold(self) -> None:
        """Keep other processes from training in it, until this one ends.

        Raises:
            RunError: if another one does.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise RunError(f"out={str(self.path)!r}: is a file; name a folder.") from None
        if not self._lock.acquire(blocking=False):
            raise RunError(
                f"out={str(self.path)!r}: another process trains in it; wait for it, or name "
                "another folder."
            )

    def release(self) -> None:
        """Let others train in it."""
        self._lock.release()

    def require(self, run: Mapping[str, Any]) -> None:
        """Refuse to go on with another run than the one that is there."""
        mine = json.loads(json.dumps(run))
        theirs = _read(self.path / _RUN)
        for part in (*_PARTS, "data"):
            for name, value in mine[part].items():
                there = theirs.get(part, {}).get(name)
                if there != value:
                    raise RunError(
                        f"{name}={value!r}: the run in {self.path} was begun with {name}={there!r};"
                        " go on with the same, or name another folder."
                    )

    # --- what is logged ---------------------------------------------------------------------------

    def log(self, lines: list[dict[str, Any]]) -> None:
        """Add lines to the metrics."""
        with open(self.path / _METRICS, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def cut(self, step: int) -> None:
        """Leave out what was logged of later steps, which will be taken again."""
        for name in _LOGS:
            path = self.path / name
            if path.exists():
                lines = path.read_text("utf-8").splitlines(keepends=True)
                self._write(name, "".join(line for line in lines if _step_of(line) <= step))
        result = self.path / _RESULT
        if result.exists() and _read(result)["step"] > step:
            _remove(result)
        for weights in self.path.glob("weights-*"):
            if not weights.name.rpartition("-")[2] <= f"{step:09d}":
                _remove(weights)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write what the run came to."""
        self._write(_RESULT, json.dumps(result, indent=1))

    # --- checkpoints ------------------------------------------------------------------------------

    def latest(self) -> Path | None:
        """The newest complete checkpoint; None before the first."""
        named = self.path / _LATEST
        return self.path / named.read_text("utf-8").strip() if named.exists() else None

    @property
    def step(self) -> int:
        """Steps of the newest complete checkpoint, from which a run goes on."""
        latest = self.latest()
        return 0 if latest is None else int(latest.name.rpartition("-")[2])

    def open(self, name: str) -> Path:
        """An empty place beside where `name` will be."""
        beside = self.path / f"{name}.part"
        _remove(beside)
        return beside

    def close(self, name: str) -> None:
        """Give what was written beside it its name: it is complete."""
        _remove(self.path / name)  # of a run that was cut before it was named the latest
        os.replace(self.path / f"{name}.part", self.path / name)

    def keep(self, name: str) -> None:
        """This checkpoint is the latest, and the only one that is kept."""
        self._write(_LATEST, name)
        for old in self.path.glob("checkpoint-*"):
            if old.name != name:
                _remove(old)

    def _write(self, name: str, text: str) -> None:
        beside = self.path / f"{name}.part"
        beside.write_text(text, "utf-8")
        os.replace(beside, self.path / name)


def runs_below(root: Path) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any] | None]]:
    """The runs in a folder and those below it: where, what, and what they came to."""
    for path in sorted(root.rglob(_RUN)):
        try:
            run = _read(path)
            result = path.with_name(_RESULT)
            ended = _read(result) if result.exists() else None
        except (OSError, ValueError):  # another program's file of that name
            continue
        if isinstance(run, dict) and all(isinstance(run.get(p), dict) for p in _PARTS):
            yield path.parent, run, ended


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # cut within
        return float("inf")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
