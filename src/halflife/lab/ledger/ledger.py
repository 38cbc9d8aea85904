"""The ledger of a sweep: what has been trained, what failed, what is being trained and by whom.

It is an Optuna study, so optuna-dashboard and Optuna's own tools read it. A cell that is being
trained is a running trial that names its driver; finished, the same trial is complete, failed or
pruned and holds the cell's record with a checksum. A driver that dies leaves running trials; who
comes next sees that it is gone, marks them failed, and trains those cells anew.

    ledger.journal          the study
    ledger.journal.lock     held for each line written (the system, Windows too, releases it with
                            the process)
    ledger.journal.torn-N   a line that was not written to its end, kept for inspection
    checkpoints/            of trainings that are not finished

Instead of the file, a database that SQLAlchemy knows can hold the study (``sqlite:///...``,
``postgresql://...``), named by its directory. Only the command line says which: no address that is
found in a directory is ever used.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ..cell import Cell
from ..meta import Meta
from . import old
from .drivers import BEAT, Driver, alive
from .errors import LedgerError, explained
from .journal import ReadOnly, Written, read_lines
from .records import checked, sealed

__all__ = ["FORMAT", "Ledger"]

FORMAT = 2
_STUDY = "halflife"
_STATES = {"done": TrialState.COMPLETE, "failed": TrialState.FAIL, "pruned": TrialState.PRUNED}


class Ledger:
    """The trainings of one sweep.

    Args:
        out: directory of the sweep; made if missing, when writing. None keeps all in memory.
        storage: database URL, instead of the journal file in the directory.
        writing: whether this process trains. Reading makes and changes nothing.
        goal: ``"min"`` or ``"max"``, of the metric that trials show to Optuna's tools.

    Attributes:
        notes: what is to be said about the state it was found in.

    Raises:
        LedgerError: if it cannot be used, is corrupt, or (when reading) is not there.
    """

    def __init__(
        self,
        out: str | Path | None,
        *,
        storage: str | None = None,
        writing: bool = False,
        goal: str = "min",
    ) -> None:
        self.out = None if out is None else Path(out)
        self.notes: list[str] = []
        self._writing = writing
        self._driver: Driver | None = None
        self._disconnect: Callable[[], object] | None = None
        self._mine: dict[str, int] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._running: dict[int, FrozenTrial] = {}
        self._seen = 0
        self._stop = threading.Event()
        self.place = self._place(storage)
        with _quiet_optuna():
            try:
                with explained(self.place):
                    self._open(storage, goal)
                    self.refresh()
            except BaseException:
                self.close()
                raise

    def _place(self, storage: str | None) -> str:
        """Where it is, in words, without a password."""
        if storage is None:
            return "in memory" if self.out is None else str(self.out)
        try:
            return make_url(storage).render_as_string(hide_password=True)
        except ArgumentError:
            raise LedgerError(
                "storage=...: must be a database URL such as sqlite:///runs.db or "
                "postgresql://user@host/database."
            ) from None

    # --- opening ----------------------------------------------------------------------------------

    def _open(self, storage: str | None, goal: str) -> None:
        name = _STUDY
        if storage is not None:
            name = f"{_STUDY}:{self.out.as_posix() if self.out else 'sweep'}"
        self._storage = self._stored(storage)
        known = {study.study_name: study for study in self._storage.get_all_studies()}
        if old.STUDY in known and name not in known and storage is None:
            self._read_old(known[old.STUDY]._study_id)
            return
        if name not in known and not self._writing:
            raise LedgerError(
                f"{self.place}: holds no sweep named {name}; run the sweep there first, or name "
                "its --out and --storage."
            )
        if self._writing and self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study if self._writing else optuna.load_study
        options: dict[str, Any] = {}
        if self._writing:
            direction = "minimize" if goal == "min" else "maximize"
            options = {"load_if_exists": True, "direction": direction}
        self._study = study(study_name=name, storage=self._storage, **options)
        self._id = self._storage.get_study_id_from_name(name)
        stored = self._attributes.get("halflife")
        if stored is None and self._writing:
            self._study.set_user_attr("halflife", {"format": FORMAT})
        elif not isinstance(stored, Mapping) or stored.get("format") != FORMAT:
            raise LedgerError(
                f"{self.place}: was written in another format ({stored!r}), and this version reads "
                f"format {FORMAT} and the one before; use the version of halflife that wrote it."
            )
        if self._writing:
            self._driver = Driver()
            self._beat()
            if storage is not None or self.out is not None:
                threading.Thread(target=self._live, daemon=True).start()

    def _stored(self, storage: str | None) -> BaseStorage:
        if storage is not None:
            return self._database(storage)
        if self.out is None:
            return InMemoryStorage()
        path = self.out / "ledger.journal"
        if not self._writing:
            if not path.exists() and not path.is_symlink():
                raise LedgerError(
                    f"out={str(self.out)!r}: holds no {path.name}; run a sweep there first, or "
                    "name the database that holds it (--storage)."
                )
            return _replayed(ReadOnly(read_lines(path)), self.place)
        self.out.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.exists():
            read_lines(path)  # a corrupt one is refused before anything is written
        backend = Written(path, self.notes)
        if path.stat().st_size and path.read_bytes()[-1:] != b"\n":
            backend.append_logs([])
        return _replayed(backend, self.place)

    def _database(self, url: str) -> BaseStorage:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername=f"postgresql+{_postgres_driver()}")
        missing = parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists()
        if missing and not self._writing:
            raise LedgerError(f"{self.place}: there is no such file, and reading makes none.")
        database = RDBStorage(
            parsed.render_as_string(hide_password=False), skip_table_creation=not self._writing
        )
        self._disconnect = weakref.finalize(self, _disconnected, database)
        return get_storage(database)

    def _read_old(self, study: int) -> None:
        if self._writing:
            raise LedgerError(
                f"{self.place}: was written by an earlier version; it can be read (halflife "
                "report), and not gone on with: choose another directory."
            )
        attributes = self._storage.get_study_user_attrs(study)
        trials = self._storage.get_all_trials(study, deepcopy=False)
        self._old_meta = old.meta(attributes)
        self._records = {Cell.of(r).key: r for r in old.records(trials)}
        self._id = study
        self._seen = len(trials)

    @property
    def _attributes(self) -> dict[str, Any]:
        return self._storage.get_study_user_attrs(self._id)

    # --- claiming a ledger ------------------------------------------------------------------------

    def configure(
        self, settings: Mapping[str, Any], parts: Mapping[str, str], *, resume: bool
    ) -> None:
        """Use the ledger for one training, or find that it has been used for the same.

        Args:
            settings: what all cells share, as plain data.
            parts: digests of the training's code, by name.
            resume: whether going on with earlier cells is wanted.

        Raises:
            LedgerError: if it holds cells and going on is not wanted, or those of another training.
        """
        wanted = json.loads(json.dumps(settings))
        known = self._attributes.get("configuration")
        if all(r["status"] == "failed" for r in self._records.values()):
            # Nothing has come of it yet, so the training may be mended: begin with what it is now.
            known = None if known is None or known["parts"] != dict(parts) else known
            if known is None:
                self._records = {}
        if known is not None:
            for name in sorted({*wanted, *known["settings"]}):
                if wanted.get(name) != known["settings"].get(name):
                    raise LedgerError(
                        f"{name}={wanted.get(name)!r}: the sweep in {self.place} was made with "
                        f"{name}={known['settings'].get(name)!r}; use the same settings, or another "
                        "directory."
                    )
            edited = [n for n in {*parts, *known["parts"]} if parts.get(n) != known["parts"].get(n)]
            if edited:
                raise LedgerError(
                    f"{', '.join(sorted(edited))}: not as it was when the {len(self._records)} "
                    f"cells in {self.place} were trained, so that these and new ones cannot be "
                    "compared; undo the change, or choose another directory."
                )
            if self._records and not resume:
                raise LedgerError(
                    f"out={str(self.out)!r}: holds {len(self._records)} trained cells; pass "
                    "resume=True to go on from them, or choose another directory."
                )
        else:
            with explained(self.place):
                stored = {"settings": wanted, "parts": dict(parts)}
                self._study.set_user_attr("configuration", stored)

    # --- training ---------------------------------------------------------------------------------

    def claim(self, cells: Sequence[Cell], again: Sequence[str] = ()) -> list[Cell]:
        """Those of the cells that are now this driver's to train: neither trained nor claimed.

        Args:
            cells: wanted.
            again: statuses of records (``"failed"``, ``"pruned"``) that are trained again.

        Raises:
            LedgerError: if it cannot be written.
        """
        with _quiet_optuna(), explained(self.place):
            self.refresh()
            taken = self._claimed()
            free = [
                c for c in cells
                if c.key not in taken and (c.key not in self._records or self.status(c) in again)
            ]  # fmt: skip
            created = {
                c.key: self._storage.create_new_trial(self._id, self._begun(c)) for c in free
            }
            if not created:
                return []
            self.refresh()
            first: dict[str, int] = {}
            for number, trial in sorted(self._running.items()):
                key = trial.user_attrs["key"]
                if trial.user_attrs["driver"] == self.driver or self._alive(trial):
                    first.setdefault(key, number)
            own = []
            for cell in free:
                trial_id = created[cell.key]
                ours = self._storage.get_trial(trial_id).number == first.get(cell.key)
                if ours and (cell.key not in self._records or self.status(cell) in again):
                    self._mine[cell.key] = trial_id
                    own.append(cell)
                else:
                    self._end(trial_id, TrialState.FAIL)
            return own

    def _begun(self, cell: Cell) -> FrozenTrial:
        params: dict[str, Any] = {
            "lr": cell.lr,
            "weight_decay": cell.weight_decay,
            "seed": cell.seed,
        }
        distributions: dict[str, BaseDistribution] = {
            "lr": FloatDistribution(0.0, 1e300),
            "weight_decay": FloatDistribution(0.0, 1e300),
            "seed": IntDistribution(0, 2**53),
        }
        for name, value in cell.params:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                params[name] = float(value)
                distributions[name] = FloatDistribution(-1e300, 1e300)
        # A rule is no parameter: Optuna lets no value be added to a category later.
        attributes = {"rule": cell.rule, "key": cell.key, "driver": self.driver}
        return create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs=attributes,
        )

    def finish(self, cell: Cell, record: Mapping[str, Any], value: float) -> None:
        """Record a claimed cell; it is on disk when this returns.

        Args:
            cell: that was trained.
            record: what it came to; see `halflife.lab.cell.Outcome`, with a status that is
                ``"done"``, ``"failed"`` or ``"pruned"``.
            value: of the metric that settings are chosen by, for Optuna's tools.

        Raises:
            LedgerError: if it cannot be written.
        """
        trial_id = self._mine[cell.key]
        full = {**cell.as_dict(), **record}
        with _quiet_optuna(), explained(self.place):
            self._storage.set_trial_user_attr(trial_id, "cell", sealed(full))
            values = None
            if full["status"] == "done":
                # Optuna takes no NaN; the record has what was measured.
                worst = math.inf if self._minimizes else -math.inf
                values = [worst if math.isnan(value) else value]
            self._end(trial_id, _STATES[full["status"]], values)
        del self._mine[cell.key]
        self._records[cell.key] = full

    def release(self, cells: Iterable[Cell] | None = None) -> None:
        """Give claimed cells back untrained. Default: all."""
        keys = list(self._mine) if cells is None else [c.key for c in cells]
        with _quiet_optuna(), explained(self.place):
            for key in keys:
                if (trial_id := self._mine.pop(key, None)) is not None:
                    self._end(trial_id, TrialState.FAIL)

    def _end(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        # Another driver may have taken this one for dead, and ended its trial.
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, RuntimeError):
            self._storage.set_trial_state_values(trial_id, state, values)

    def refresh(self) -> None:
        """Read what other drivers have written since."""
        trials = self._storage.get_all_trials(self._id, deepcopy=False)
        fresh = trials[self._seen :]
        fresh = [trials[n] for n in self._running] + fresh
        self._seen = len(trials)
        self._running = {}
        for trial in fresh:
            if trial.state == TrialState.RUNNING and "key" in trial.user_attrs:
                self._running[trial.number] = trial
            elif "cell" in trial.user_attrs:
                record = checked(trial.user_attrs["cell"], f"{self.place}, trial {trial.number}")
                key = Cell.of(record).key
                if self._records.get(key, {}).get("status") != "done":
                    self._records[key] = record

    def _claimed(self) -> set[str]:
        """Cells that a living driver trains; the claims of dead ones are ended."""
        taken = set()
        for number, trial in list(self._running.items()):
            if trial.user_attrs["driver"] == self.driver or self._alive(trial):
                taken.add(trial.user_attrs["key"])
            else:
                self._end(trial._trial_id, TrialState.FAIL)
                del self._running[number]
        return taken

    def _alive(self, trial: FrozenTrial) -> bool:
        name = trial.user_attrs["driver"]
        return alive(name, self._attributes.get(f"driver:{name}"))

    def others(self) -> int:
        """Cells that other drivers train at the moment."""
        with _quiet_optuna(), explained(self.place):
            self.refresh()
            self._claimed()
        return sum(t.user_attrs["driver"] != self.driver for t in self._running.values())

    # --- what is known ----------------------------------------------------------------------------

    @property
    def driver(self) -> str:
        """This process's name among those that train."""
        return "" if self._driver is None else self._driver.name

    def status(self, cell: Cell) -> str | None:
        """Of a cell's record; None without one."""
        return self._records.get(cell.key, {}).get("status")

    def set_meta(self, meta: Meta) -> None:
        """Replace what is known of the sweep as a whole.

        Raises:
            LedgerError: if it cannot be written.
        """
        stored = json.loads(json.dumps(meta.as_dict()))
        with _quiet_optuna(), explained(self.place):
            if self._attributes.get("meta") != stored:
                self._study.set_user_attr("meta", stored)

    def meta(self) -> Meta:
        """What is known of the sweep as a whole.

        Raises:
            ValueError: if it is damaged; see `Meta.read`.
        """
        if hasattr(self, "_old_meta"):
            return self._old_meta
        return Meta.read(self._attributes.get("meta", {}))

    def records(self) -> list[dict[str, Any]]:
        """Records of all cells that are trained, failed or pruned, in the order of recording."""
        return list(self._records.values())

    @property
    def _minimizes(self) -> bool:
        return self._study.direction == optuna.study.StudyDirection.MINIMIZE

    # --- living -----------------------------------------------------------------------------------

    def _beat(self) -> None:
        assert self._driver is not None
        self._storage.set_study_user_attr(
            self._id, f"driver:{self._driver.name}", self._driver.sign()
        )

    def _live(self) -> None:
        """Say every so often that this driver lives; of a thread of its own."""
        while not self._stop.wait(BEAT):
            # A database that does not answer is said where a cell is recorded.
            with contextlib.suppress(Exception):
                self._beat()

    def close(self) -> None:
        """Give back what is claimed, and the database; what has been read stays."""
        self._stop.set()
        if self._mine:
            with contextlib.suppress(LedgerError):
                self.release()
        if self._driver is not None:
            self._driver.close()
            self._driver = None
        if self._disconnect is not None:
            self._disconnect()

    def __enter__(self) -> Ledger:
        """Use as ``with Ledger(...) as ledger``."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()


def _replayed(backend: Any, place: str) -> BaseStorage:
    """The storage of a journal, all of whose operations make sense."""
    try:
        return JournalStorage(backend)
    except LedgerError:
        raise
    except Exception as error:
        raise LedgerError(
            f"{place}: the journal cannot be replayed ({type(error).__name__}: {error}); restore "
            "it from a copy."
        ) from error


def _postgres_driver() -> str:
    for module in ("psycopg", "psycopg2"):
        with contextlib.suppress(ImportError):
            __import__(module)
            return module
    raise LedgerError(
        'storage=postgresql://...: needs psycopg, which is not installed: pip install "psycopg[binary]".'
    )


def _disconnected(database: RDBStorage) -> None:
    database.remove_session()
    database.engine.dispose()


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
