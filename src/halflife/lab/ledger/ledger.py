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
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..meta import Meta
from ..trials.cell import Cell
from . import old
from .drivers import Presence, alive, forget, living
from .errors import LedgerError, explained, intact
from .records import as_plain, checked, sealed, value_of
from .same import require_same
from .stored import address, place_of, quiet_optuna, secrets_of, stored
from .trials import STATES, begun, news, shown

__all__ = ["FORMAT", "Ledger"]

FORMAT = 2
_STUDY = "halflife"


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
        self._driver: Presence | None = None
        self._disconnect: Callable[[], object] | None = None
        self._mine: dict[str, int] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._running: dict[int, FrozenTrial] = {}
        self._seen = self._first = 0
        url = None if storage is None else address(storage)
        self.place = place_of(self.out, url)
        self._secrets = secrets_of(url)
        try:
            with self._said(), intact(self.place):
                # At once: a training may change the folder that it is in.
                folder = None if self.out is None else self.out.absolute()
                self._storage, close = stored(folder, url, writing=writing, notes=self.notes)
                self._disconnect = weakref.finalize(self, close)
                name = f"{_STUDY}:{self.out.as_posix() if self.out else 'sweep'}"
                self._open(_STUDY if url is None else name, goal)
                self.refresh()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Say what goes wrong in a sentence, and let Optuna say nothing."""
        with quiet_optuna(), explained(self.place, self._secrets, writing=self._writing):
            yield

    # --- opening ----------------------------------------------------------------------------------

    def _open(self, name: str, goal: str) -> None:
        known = {study.study_name: study for study in self._storage.get_all_studies()}
        if old.STUDY in known and name not in known and name == _STUDY:
            self._read_old(self._storage.get_study_id_from_name(old.STUDY))
            return
        if name not in known and not self._writing:
            raise LedgerError(
                f"{self.place}: holds no sweep named {name}; run the sweep there first, or name "
                "its --out and --storage."
            )
        if self._writing:
            if self.out is not None:
                self.out.mkdir(parents=True, exist_ok=True)
            directions = optuna.study.StudyDirection
            direction = directions.MINIMIZE if goal == "min" else directions.MAXIMIZE
            self._study = optuna.create_study(
                study_name=name, storage=self._storage, load_if_exists=True, direction=direction
            )
        else:
            self._study = optuna.load_study(study_name=name, storage=self._storage)
        self._id = self._storage.get_study_id_from_name(name)
        found = self._attributes.get("halflife")
        if found is None and self._writing:
            self._study.set_user_attr("halflife", {"format": FORMAT})
        elif not isinstance(found, Mapping) or found.get("format") != FORMAT:
            raise LedgerError(
                f"{self.place}: was written in another format ({found!r:.80}), and this version "
                f"reads format {FORMAT} and the one before; use the version of halflife that wrote "
                "it."
            )
        self._first = int((self._attributes.get("configuration") or {}).get("first", 0))
        if self._writing:
            self._driver = Presence(self._sign)

    def _read_old(self, study: int) -> None:
        if self._writing:
            raise LedgerError(
                f"{self.place}: was written by an earlier version; it can be read (halflife "
                "report), and not gone on with: choose another directory."
            )
        attributes = self._storage.get_study_user_attrs(study)
        trials = self._storage.get_all_trials(study, deepcopy=False)
        self._old_meta = old.meta(attributes)
        self._records = {Cell.of(r).key: r for r in old.records(trials, self.place)}
        self._id = study
        self._seen = len(trials)

    def _sign(self, driver: str, sign: Mapping[str, Any]) -> None:
        with quiet_optuna():
            self._storage.set_study_user_attr(self._id, f"driver:{driver}", dict(sign))

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
        # Nothing has come of it yet, so all may be mended: begin with what it is now.
        anew = all(r["status"] == "failed" for r in self._records.values()) and not (
            living(self._attributes) - {self.driver}
        )
        if anew and known and (known["settings"], known["parts"]) != (wanted, dict(parts)):
            known, self._records, self._first = None, {}, self._seen
        if known is not None:
            cells = f"{len(self._records)} cells" if self._records else "trainings under way"
            with intact(self.place):
                require_same(known, wanted, parts, f"{cells} in {self.place}")
            if self._records and not resume:
                raise LedgerError(
                    f"out={str(self.out)!r}: holds {len(self._records)} trained cells; pass "
                    "resume=True to go on from them, or choose another directory."
                )
        with self._said():
            if anew:  # the lr that strengths are meant at, and what was measured there
                self._study.set_user_attr("meta", {})
            if known is None:
                # Trials before the first are of a training that has been mended since.
                stored = {"settings": wanted, "parts": dict(parts), "first": self._first}
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
        with self._said():
            self.refresh()
            taken = self._claimed()
            free = [
                c for c in cells
                if c.key not in taken and (c.key not in self._records or self.status(c) in again)
            ]  # fmt: skip
            created = {
                c.key: self._storage.create_new_trial(self._id, begun(c, self.driver)) for c in free
            }
            if not created:
                return []
            self.refresh()
            living, first = self._living(), dict[str, int]()
            for _, trial in sorted(self._running.items()):
                if trial.user_attrs["driver"] in living:
                    first.setdefault(trial.user_attrs["key"], self._place_of(trial))
            own = []
            for cell in free:
                ours = first.get(cell.key) == created[cell.key]
                if ours and (cell.key not in self._records or self.status(cell) in again):
                    self._mine[cell.key] = created[cell.key]
                    own.append(cell)
                else:
                    self._end(created[cell.key], TrialState.FAIL)
            return own

    def finish(self, cell: Cell, record: Mapping[str, Any], value: float) -> bool:
        """Record a claimed cell; it is on disk when this returns.

        Args:
            cell: that was trained.
            record: what it came to; see `halflife.lab.trials.cell.Outcome`, with a status that is
                ``"done"``, ``"failed"`` or ``"pruned"``.
            value: of the metric that settings are chosen by, for Optuna's tools.

        Returns:
            Whether it was recorded: not if this driver was silent for so long that another one has
            taken the cell.

        Raises:
            LedgerError: if it cannot be written.
            RecordError: for what could not be read again; the cell is still this driver's.
        """
        trial_id = self._mine[cell.key]
        full = as_plain({**cell.as_dict(), **record})
        content = sealed(full, value)
        with self._said():
            try:
                # From here on it is recorded; what follows is for Optuna's tools.
                self._storage.set_trial_user_attr(trial_id, "cell", content)
            except UpdateFinishedTrialError:
                del self._mine[cell.key]
                return False
            self._complete(trial_id, full, value)
        del self._mine[cell.key]
        self._records[cell.key] = full
        return True

    def _complete(self, trial_id: int, record: Mapping[str, Any], value: float) -> None:
        done = record["status"] == "done"
        self._end(
            trial_id,
            STATES[record["status"]],
            [shown(value, self._study.direction)] if done else None,
        )

    def release(self) -> None:
        """Give all claimed cells back untrained."""
        with self._said():
            while self._mine:
                self._end(self._mine.popitem()[1], TrialState.FAIL)

    def _end(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        # Another driver may have taken this one for dead, and ended its trial.
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_state_values(trial_id, state, values)

    def refresh(self) -> None:
        """Read what other drivers have written since."""
        fresh = news(self._storage, self._id, self._running, self._seen)
        self._seen = max([self._seen, *(t.number + 1 for t in fresh)])
        self._running = {}
        for trial in fresh:
            if trial.state == TrialState.RUNNING and "key" in trial.user_attrs:
                self._running[trial.number] = trial
            if "cell" in trial.user_attrs and trial.number >= self._first:
                record = checked(trial.user_attrs["cell"], f"{self.place}, trial {trial.number}")
                key = Cell.of(record).key
                if self._records.get(key, {}).get("status") != "done":
                    self._records[key] = record

    def _place_of(self, trial: FrozenTrial) -> int:
        """The storage's own number of a trial of this study."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)

    def _claimed(self) -> set[str]:
        """Cells that a living driver trains; the claims of dead ones are ended."""
        living, taken, dead = self._living(), set(), set()
        for number, trial in list(self._running.items()):
            if trial.user_attrs["driver"] in living:
                taken.add(trial.user_attrs["key"])
                continue
            dead.add(trial.user_attrs["driver"])
            if "cell" in trial.user_attrs:  # recorded, and killed before the trial was ended
                content = trial.user_attrs["cell"]
                self._complete(
                    self._place_of(trial), checked(content, self.place), value_of(content)
                )
            else:
                self._end(self._place_of(trial), TrialState.FAIL)
            del self._running[number]
        for name in dead:
            # For those that come now, who need not look for its file.
            self._sign(name, {"ended": True})
            forget(name)
        return taken

    def _living(self) -> set[str]:
        """Those of the drivers with running trials that live."""
        names = {t.user_attrs["driver"] for t in self._running.values()} - {self.driver}
        signs = self._attributes if names else {}
        return {self.driver, *(n for n in names if alive(n, signs.get(f"driver:{n}")))}

    def others(self) -> int:
        """Cells that other drivers train at the moment."""
        with self._said():
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
            ValueError: for what could not be read again, naming it.
        """
        stored = json.loads(json.dumps(meta.as_dict()))
        Meta.read(stored)
        with self._said():
            if self._attributes.get("meta") != stored:
                self._study.set_user_attr("meta", stored)

    def meta(self) -> Meta:
        """What is known of the sweep as a whole.

        Raises:
            LedgerError: if it is damaged.
        """
        if hasattr(self, "_old_meta"):
            return self._old_meta
        with self._said(), intact(self.place):
            return Meta.read(self._attributes.get("meta", {}))

    def records(self) -> list[dict[str, Any]]:
        """Records of all cells that are trained, failed or pruned, in the order of recording."""
        return list(self._records.values())

    def close(self) -> None:
        """Give back what is claimed, and the database; what has been read stays."""
        if self._driver is not None:
            # What cannot be written is no error now: the next driver sees that this one is gone.
            with contextlib.suppress(Exception):
                self.release()
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
