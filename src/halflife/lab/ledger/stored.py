"""Where a ledger lies: in memory, in a journal file, or in a database, opened without surprises.

Reading makes nothing and changes nothing: no directory, no file, no table, no lock. No message has
a password in it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage, get_storage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from .errors import LedgerError
from .journal import ReadOnly, Written, read_lines

__all__ = ["Stored", "address", "place_of", "quiet_optuna", "secrets_of", "stored", "written"]

_TRIES = 4  # of making the tables, which another process may be making at the same moment
_PATIENCE = 60  # seconds that a writer waits for another one in SQLite
_CONNECT = 10  # seconds for a database server to answer


class Stored(NamedTuple):
    """An open storage.

    Attributes:
        storage: as Optuna knows it.
        close: lets it go.
    """

    storage: BaseStorage
    close: Callable[[], object]


def address(storage: str) -> URL:
    """The database that is meant.

    Raises:
        LedgerError: if the text is no URL of one.
    """
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        # What they say may have the password in it.
        raise LedgerError(
            "storage=...: must be a database URL, such as sqlite:///runs.db or "
            "postgresql://user@host/database, with the characters :/?#@ of a password written as "
            "%3A and the like."
        ) from None
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise LedgerError(
            f"storage={storage!r}: names no file, which others could read; use sqlite:///runs.db, "
            "or no storage and no out to keep all in memory."
        )
    return url


def place_of(out: Path | None, url: URL | None) -> str:
    """Where the ledger is, in words."""
    if url is None:
        return "in memory" if out is None else str(out)
    return written(url)


def written(url: URL) -> str:
    """A database as it may be written down: a password may stand in the query too."""
    return url.set(query={}).render_as_string(hide_password=True)


def secrets_of(url: URL | None) -> list[str]:
    """What no message may show."""
    if url is None:
        return []
    query = [v if isinstance(v, str) else v[-1] for k, v in url.query.items() if "pass" in k]
    return [s for s in (url.password, *query) if s]


def stored(out: Path | None, url: URL | None, *, writing: bool, notes: list[str]) -> Stored:
    """Open the storage.

    Args:
        out: directory of the journal; made if missing, when writing.
        url: of a database, instead.
        writing: whether it is written to.
        notes: gets what is to be said about the state it was found in.

    Raises:
        LedgerError: if it is not there, or no ledger can be in it.
    """
    if url is not None:
        return _database(url, writing)
    if out is None:
        return Stored(InMemoryStorage(), lambda: None)
    path = out / "ledger.journal"
    if writing:
        out.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.exists():
            read_lines(path)  # a corrupt one is refused before anything is written
        backend: Any = Written(path, notes)
        backend.mend()
    elif path.is_symlink() or path.exists():
        backend = ReadOnly(read_lines(path))
    else:
        raise LedgerError(
            f"out={str(out)!r}: holds no {path.name}; run a sweep there first, or name the "
            "database that holds it (--storage)."
        )
    return Stored(JournalStorage(backend), lambda: None)


def _database(url: URL, writing: bool) -> Stored:
    place, backend = place_of(None, url), url.get_backend_name()
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername=f"postgresql+{_postgres_driver()}")
    options: dict[str, Any] = {"pool_pre_ping": True}
    if backend == "sqlite":
        file = Path(url.database or "")
        if not writing:
            if not file.exists():
                raise LedgerError(f"{place}: there is no such file, and reading makes none.")
            url = url.set(database=f"file:{file.resolve()}", query={"mode": "ro", "uri": "true"})
        elif not (url.database or "").startswith("file:"):
            file.parent.mkdir(parents=True, exist_ok=True)
        options = {"connect_args": {"timeout": _PATIENCE}}
    elif backend == "postgresql":
        options["connect_args"] = {"connect_timeout": _CONNECT}
    try:
        if not writing:
            engine = sqlalchemy.create_engine(url, **options)
            try:
                there = sqlalchemy.inspect(engine).has_table("studies")
            finally:
                engine.dispose()
            if not there:
                raise LedgerError(f"{place}: holds no sweep; run one there first.")
        text = url.render_as_string(hide_password=False)
        database = _made(text, options) if writing else RDBStorage(
            text, options, skip_table_creation=True
        )  # fmt: skip
    except ImportError as error:
        raise LedgerError(
            f"{place}: this kind of database needs {_lacking(error)}, which is not installed."
        ) from None
    return Stored(get_storage(database), lambda: _let_go(database))


def _made(url: str, options: dict[str, Any]) -> RDBStorage:
    """The database with its tables, which several processes may make at once."""
    for left in reversed(range(_TRIES)):
        try:
            return RDBStorage(url, options)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
            if not left:
                raise
            time.sleep(0.3)
    raise AssertionError


def _lacking(error: BaseException) -> str:
    """The module that an import did not find; Optuna says it in an error of its own."""
    found: BaseException | None = error
    while found is not None:
        if name := getattr(found, "name", None):
            return str(name)
        found = found.__cause__ or found.__context__
    return "a driver"


def _let_go(database: RDBStorage) -> None:
    database.remove_session()
    database.engine.dispose()


def _postgres_driver() -> str:
    for module in ("psycopg", "psycopg2"):
        with contextlib.suppress(ImportError):
            __import__(module)
            return module
    raise LedgerError(
        "storage=postgresql://...: needs psycopg, which is not installed: "
        'pip install "torch-halflife[postgres]".'
    )


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without what Optuna logs of its own accord."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
