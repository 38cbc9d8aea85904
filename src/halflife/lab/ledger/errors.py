"""What goes wrong with a ledger, said in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from ...checks import in_short

__all__ = ["LedgerError", "explained"]


class LedgerError(ValueError):
    """A ledger that cannot be used as asked; the message says why and what to do."""


@contextlib.contextmanager
def explained(place: str) -> Iterator[None]:
    """Say in one sentence what the system or the database says of a ledger being written.

    Raises:
        LedgerError: in place of their errors.
    """
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"{place}: cannot be written ({error.strerror or error}); what is recorded is safe: "
            "make room or mend the file system, and resume."
        ) from error
    except Exception as error:
        if not _of_database(error):
            raise
        raise LedgerError(
            f"{place}: the database does not answer ({_reason(error)}); what is recorded is safe: "
            "see that it runs and can be reached, and resume."
        ) from error


def _of_database(error: BaseException | None) -> bool:
    """Optuna wraps what SQLAlchemy raises, and a driver may raise by itself."""
    while error is not None:
        if isinstance(error, SQLAlchemyError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    original = getattr(error, "orig", None) or error
    return in_short(original).splitlines()[0].strip().rstrip(".")
