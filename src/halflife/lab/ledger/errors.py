"""What goes wrong with a ledger, said in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from sqlalchemy.exc import SQLAlchemyError

from ...checks import came_of, in_short

__all__ = ["LedgerError", "explained", "intact"]


class LedgerError(ValueError):
    """A ledger that cannot be used as asked; the message says why and what to do."""


@contextlib.contextmanager
def explained(place: str, secrets: Sequence[str] = (), *, writing: bool = True) -> Iterator[None]:
    """Say in one sentence what the system or the database says of a ledger.

    Args:
        place: where it is, in words.
        secrets: what the sentence may not show.
        writing: whether it is written.

    Raises:
        LedgerError: in place of their errors.
    """
    try:
        yield
    except LedgerError:
        raise
    except OSError as error:
        if came_of(error, SQLAlchemyError):  # of a server that cannot be reached
            raise LedgerError(_unreachable(place, error, secrets)) from None
        why = error.strerror or str(error)
        if not writing:
            raise LedgerError(f"{place}: cannot be read ({why}).") from error
        raise LedgerError(
            f"{place}: cannot be written ({why}); what is recorded is safe: make room or mend the "
            "file system, and resume."
        ) from error
    except Exception as error:
        if not came_of(error, SQLAlchemyError):
            raise
        # Not "from error", which would be shown too and may name what is secret.
        raise LedgerError(_unreachable(place, error, secrets)) from None


@contextlib.contextmanager
def intact(place: str) -> Iterator[None]:
    """Say of a ledger whose content makes no sense that it is damaged.

    Raises:
        LedgerError: in place of whatever reading it raises.
    """
    try:
        yield
    except Exception as error:
        # What is not the content's fault is said by `explained`.
        others = (LedgerError, OSError, MemoryError, ImportError)
        if isinstance(error, others) or came_of(error, SQLAlchemyError):
            raise
        raise LedgerError(
            f"{place}: is damaged, or no ledger of halflife ({type(error).__name__}: "
            f"{in_short(error)}); restore it from a copy."
        ) from None


def _unreachable(place: str, error: BaseException, secrets: Sequence[str]) -> str:
    reason = _reason(error)
    for secret in secrets:
        reason = reason.replace(secret, "***")
    return (
        f"{place}: the database does not answer ({reason}); what is recorded is safe: see that it "
        "runs and can be reached, and resume."
    )


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    original = getattr(error, "orig", None) or error
    return in_short(Exception(original)).splitlines()[0].strip().rstrip(".")
