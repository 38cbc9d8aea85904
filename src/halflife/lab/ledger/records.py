"""A record as it is stored: plain data with a checksum, and without numbers that JSON has not."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from ...checks import is_number
from .errors import LedgerError

__all__ = ["checked", "restored", "sealed"]

_STATUSES = ("done", "failed", "pruned")
_NAME = 200  # characters of a rule or parameter


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record to be stored, with its checksum."""
    content = _storable(record)
    return {"record": content, "sha256": _checksum(content)}


def checked(stored: Any, where: str) -> dict[str, Any]:
    """The record that was stored.

    Raises:
        LedgerError: if it does not match its checksum, or is no record.
    """
    content = stored.get("record") if isinstance(stored, Mapping) else None
    if not isinstance(content, Mapping) or stored.get("sha256") != _checksum(content):
        raise LedgerError(
            f"{where}: the record does not match its checksum, so it was changed or damaged since "
            "it was written; restore the ledger from a copy."
        )
    record = restored(content)
    if why := _flaw(record):
        raise LedgerError(f"{where}: the record {why}, as none of halflife's; restore the ledger.")
    return record


def _flaw(record: Mapping[str, Any]) -> str:
    """What makes a record none; empty for a good one."""
    numbers = ("lr", "weight_decay")
    if not all(is_number(record.get(n)) and math.isfinite(record[n]) for n in numbers):
        return f"has no numbers for {' and '.join(numbers)}"
    if not isinstance(record.get("seed"), int) or isinstance(record["seed"], bool):
        return "has no seed"
    if not isinstance(record.get("rule"), str) or not 0 < len(record["rule"]) <= _NAME:
        return "has no rule"
    if record.get("status") not in _STATUSES:
        return "has no status"
    params, metrics = record.get("params"), record.get("metrics")
    if not isinstance(params, Mapping) or any(
        not isinstance(v, (str, int, float)) or len(str(v)) > _NAME or len(k) > _NAME
        for k, v in params.items()
    ):
        return "has parameters that are no numbers or names"
    if not isinstance(metrics, Mapping) or not all(map(is_number, metrics.values())):
        return "has metrics that are no numbers"
    optional = (
        "seconds",
        "steps",
        "fraction",
        "weight_rms",
        "predicted_rms",
        "strength",
        "progress",
    )
    if any(record.get(n) is not None and not is_number(record[n]) for n in optional):
        return "has a text where a number belongs"
    curve = record.get("curve")
    if curve is not None and not (
        isinstance(curve, Mapping)
        and all(isinstance(c, list) and all(map(is_number, c)) for c in curve.values())
        and len({len(c) for c in curve.values()}) == 1
    ):
        return "has a learning curve that is none"
    if not isinstance(record.get("error") or "", str):
        return "has an error that is no text"
    return ""


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _storable(value: Any) -> Any:
    """Plain data without NaN or infinity, which are not JSON: they become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _storable(v) for k, v in value.items()}
    return [_storable(v) for v in value] if isinstance(value, (list, tuple)) else value


def restored(value: Any) -> Any:
    """Stored data with its numbers that are not finite."""
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {k: restored(v) for k, v in value.items()}
    return [restored(v) for v in value] if isinstance(value, list) else value
