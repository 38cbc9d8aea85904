"""The ledger: every finished cell of a landscape, safe against a kill at any moment.

It is an Optuna study, so optuna-dashboard and Optuna's own tools read it. A finished cell is one
complete trial, written as one line of a journal file: there is nothing half-recorded to clean up,
and no trial left running. What a kill can leave is a torn last line, which is set aside when the
ledger is opened next.

    ledger.journal          the study
    ledger.journal.lock     held for each line written (the system, Windows too, releases it with
                            the process)
    ledger.lock             held by the process that owns the directory
    ledger.journal.torn-N   a line that was not written to its end, kept for inspection

Instead of the file, a database URL that Optuna knows (``sqlite:///...``, ``postgresql://...``)
can hold the study, as network file systems need; ``ledger.url`` then says which.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from .lock import FileLock
from .meta import Meta, spelled_as_now

__all__ = ["CellKey", "Ledger", "LedgerError", "cell_of"]

# Rule ("none" for the baseline), lr, strength, seed.
CellKey = tuple[str, float, float, int]

_STUDY = "landscape"
_DISTRIBUTIONS = {
    "lr": FloatDistribution(1e-12, 1e12, log=True),
    "strength": FloatDistribution(0.0, 1.0),
    "seed": IntDistribution(0, 2**31 - 1),
}


class LedgerError(ValueError):
    """A ledger that cannot be used as asked; the message says why and what to do."""


class Ledger:
    """The finished cells in a directory.

    Args:
        directory: where the ledger is; made if missing.
        storage: database URL. Default: the journal file in the directory, or the database that
            the directory was last used with.
        writing: whether this process will write, which one process at a time may.

    Raises:
        LedgerError: if the directory cannot be used, holds a corrupt ledger, or (when not
            writing) holds none.
    """

    def __init__(
        self, directory: str | Path, *, storage: str | None = None, writing: bool = False
    ) -> None:
        self.directory = Path(directory)
        self.path = self.directory / "ledger.journal"
        self.notes: list[str] = []
        self._owner: FileLock | None = None
        self._disconnect: Callable[[], object] | None = None
        with _quiet_optuna():
            try:
                self._study = self._open(storage, writing)
            except OSError as error:
                self.close()
                raise LedgerError(
                    f"out={str(self.directory)!r}: cannot be used ({error.strerror}); choose a "
                    "directory you can write to."
                ) from error
            except BaseException:
                self.close()
                raise
            self._records = {cell_of(r): r for r in map(_from_trial, self._finished())}

    def _open(self, storage: str | None, writing: bool) -> optuna.Study:
        pointer = self.directory / "ledger.url"
        if storage is None and pointer.exists():
            storage = pointer.read_text().strip()
        if not writing:
            if storage is None and not self.path.exists():
                raise LedgerError(
                    f"out={str(self.directory)!r}: holds no {self.path.name}; run 'halflife "
                    "landscape' there first."
                )
            return optuna.load_study(study_name=_STUDY, storage=self._storage(storage, False))
        self.directory.mkdir(parents=True, exist_ok=True)
        self._owner = FileLock(self.directory / "ledger.lock")
        if not self._owner.acquire(blocking=False):
            self._owner = None
            raise LedgerError(
                f"out={str(self.directory)!r}: another process is writing here; wait for it, or "
                "choose another directory."
            )
        if storage is not None:
            pointer.touch(mode=0o600)  # the URL may hold a password
            pointer.write_text(storage + "\n")
        return optuna.create_study(
            study_name=_STUDY, storage=self._storage(storage, True), load_if_exists=True
        )

    def _storage(self, url: str | None, writing: bool) -> BaseStorage:
        if url is not None:
            database = RDBStorage(url)
            self._disconnect = weakref.finalize(self, _disconnected, database)
            return get_storage(database)
        lines, torn = read_journal(self.path)
        if torn and writing:
            self.notes.append(set_aside(self.path, len(lines), torn))
        return JournalStorage(JournalFileBackend(str(self.path), FileLock(f"{self.path}.lock")))

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def configure(self, configuration: Mapping[str, Any], *, resume: bool) -> None:
        """Claim the ledger for one configuration, or find that it has been for the same.

        Args:
            configuration: settings that all cells share, as plain data.
            resume: whether going on with earlier cells is wanted.

        Raises:
            LedgerError: if it holds cells and going on is not wanted, or another configuration.
        """
        wanted = json.loads(json.dumps(configuration))
        known = self._study.user_attrs.get("configuration")
        if known is not None:
            known, wanted = spelled_as_now(known), spelled_as_now(wanted)
            for name in sorted({*wanted, *known}):
                if wanted.get(name) != known.get(name):
                    raise LedgerError(
                        f"{name}={wanted.get(name)!r}: the landscape in "
                        f"{str(self.directory)!r} was made with {name}={known.get(name)!r}; use "
                        "the same settings, or another directory."
                    )
            if self._records and not resume:
                raise LedgerError(
                    f"out={str(self.directory)!r}: holds {len(self._records)} finished cells; "
                    "add --resume to go on from them, or choose another directory."
                )
        else:
            self._study.set_user_attr("configuration", wanted)

    def add(self, record: Mapping[str, Any]) -> None:
        """Record a finished cell; it is on disk when this returns.

        Raises:
            LedgerError: if it cannot be written.
        """
        names = ("rule", "lr", "strength", "seed")
        rules = ("none", *self._study.user_attrs["configuration"]["rules"])
        error = record["test_error"]
        with _quiet_optuna(), _explained(self.path):
            self._study.add_trial(
                create_trial(
                    params={name: record[name] for name in names},
                    distributions={"rule": CategoricalDistribution(rules), **_DISTRIBUTIONS},
                    # Optuna takes no NaN for a value; the record keeps what was measured.
                    value=error if math.isfinite(error) else math.inf,
                    user_attrs={k: _storable(v) for k, v in record.items() if k not in names},
                )
            )
        self._records[cell_of(record)] = dict(record)

    def set_meta(self, meta: Meta) -> None:
        """Replace what is known of the landscape as a whole.

        Raises:
            LedgerError: if it cannot be written.
        """
        with _explained(self.path):
            self._study.set_user_attr("meta", meta.as_dict())

    def meta(self) -> Meta:
        """What is known of the landscape as a whole.

        Raises:
            ValueError: if it is damaged; see `Meta.read`.
        """
        return Meta.read(self._study.user_attrs.get("meta", {}))

    def records(self) -> list[dict[str, Any]]:
        """All finished cells, in the order in which they were recorded."""
        return list(self._records.values())

    def __contains__(self, cell: CellKey) -> bool:
        """Whether the cell is finished."""
        return cell in self._records

    def close(self) -> None:
        """Let another process write, and the database go; what has been read stays."""
        if self._disconnect is not None:
            self._disconnect()
        if self._owner is not None:
            self._owner.release()
            self._owner = None

    def __enter__(self) -> Ledger:
        """Use as ``with Ledger(...) as ledger``."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()


def read_journal(path: Path) -> tuple[list[bytes], bytes]:
    """The good lines of a journal, and what a kill left of the last one.

    Raises:
        LedgerError: if a line is corrupt that others follow.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if line.endswith(b"\n") and _is_operation(line):
            continue
        if number < len(lines):
            raise LedgerError(
                f"{path}, line {number}: corrupt record {line[:60]!r}, and {len(lines) - number} "
                "lines follow it, so no interrupted write did this; nothing was changed: restore "
                "the file from a copy, or delete that line, and resume."
            )
        return lines[:-1], line
    return lines, b""


def set_aside(path: Path, lines: int, torn: bytes) -> str:
    """Move a torn last line to a file of its own; returns a message that says so."""
    n = 1
    while (aside := path.with_name(f"{path.name}.torn-{n}")).exists():
        n += 1
    with open(aside, "wb") as file:
        file.write(torn)
        file.flush()
        os.fsync(file.fileno())
    os.truncate(path, path.stat().st_size - len(torn))
    return (
        f"{path}, line {lines + 1}: its write was interrupted ({torn[:60]!r}...); moved to "
        f"{aside.name}. All {lines} earlier lines are intact; the cell will be trained again."
    )


def _disconnected(database: RDBStorage) -> None:
    database.remove_session()
    database.engine.dispose()


def _is_operation(line: bytes) -> bool:
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError):
        return False


def cell_of(record: Mapping[str, Any]) -> CellKey:
    """The cell that a record is of."""
    return record["rule"], record["lr"], record["strength"], record["seed"]


def _storable(value: Any) -> Any:
    """Plain data without NaN or infinity, which are not JSON: they become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {k: _storable(v) for k, v in value.items()}
    return [_storable(v) for v in value] if isinstance(value, (list, tuple)) else value


def _restored(value: Any) -> Any:
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {k: _restored(v) for k, v in value.items()}
    return [_restored(v) for v in value] if isinstance(value, list) else value


def _from_trial(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {**trial.params, **_restored(trial.user_attrs)}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"{path}: cannot be written ({error.strerror}); what is recorded is safe: make room "
            "or mend the file system, and resume."
        ) from error


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
