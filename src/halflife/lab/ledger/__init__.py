"""The ledger: every training of a sweep, safe against a kill at any moment."""

from .errors import LedgerError
from .ledger import Ledger
from .records import RecordError, as_plain

__all__ = ["Ledger", "LedgerError", "RecordError", "as_plain"]
