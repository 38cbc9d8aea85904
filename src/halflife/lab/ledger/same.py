"""Whether a ledger's cells are of the training that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..trials.fingerprint import difference
from .errors import LedgerError

__all__ = ["require_same"]


def require_same(
    known: Mapping[str, Any], settings: Mapping[str, Any], parts: Mapping[str, str], cells: str
) -> None:
    """Check that settings and code are those that a ledger was begun with.

    Args:
        known: what it was begun with.
        settings: that all cells share.
        parts: digests of the training's code, by name.
        cells: that are there, in words.

    Raises:
        LedgerError: if one differs, naming it.
    """
    for name in difference(known["settings"], settings):
        raise LedgerError(
            f"{name}={settings.get(name)!r}: the {cells} were trained with "
            f"{name}={known['settings'].get(name)!r}; use the same settings, or another directory."
        )
    if edited := difference(known["parts"], parts):
        raise LedgerError(
            f"{', '.join(edited)}: not as it was when the {cells} were trained, so that these and "
            "new ones cannot be compared; undo the change, or choose another directory."
        )
