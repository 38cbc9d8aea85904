"""A record as it is stored: plain data with a checksum, and without numbers that JSON has not."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from ...checks import is_number
from .errors import LedgerError

__all__ = ["checked", "is_parameter", "sealed", "sound", "value_of"]

_STATUSES = ("done", "failed", "pruned")
_NAME = 200  # characters of a rule or parameter
_UNUSUAL = "not finite"  # key of what JSON has no number for


def sealed(record: Mapping[str, Any], value: float) -> dict[str, Any]:
    """A record to be stored, with its checksum and the value that Optuna's tools show."""
    content = _storable(record)
    return {"record": content, "value": _storable(value), "sha256": _checksum(content)}


def value_of(stored: Mapping[str, Any]) -> float:
    """The value that was sealed with a record."""
    value = _restored(stored.get("value"))
    return float(value) if is_number(value) else math.nan


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
    record = _restored(content)
    return sound(record, where)


def sound(record: dict[str, Any], where: str) -> dict[str, Any]:
    """The record, if it is one.

    Raises:
        LedgerError: if a value is of another kind than its key says.
    """
    if why := _flaw(record):
        raise LedgerError(
            f"{where}: the record {why}, as none of halflife's; restore the ledger from a copy."
        )
    return record


def _flaw(record: Mapping[str, Any]) -> str:
    """What makes a record none; empty for a good one."""
    if not all(_number(record.get(n)) and math.isfinite(record[n]) for n in ("lr", "weight_decay")):
        return "has no numbers for lr and weight_decay"
    seed = record.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        return "has no seed"
    if not _name(record.get("rule")) or record.get("status") not in _STATUSES:
        return "has no rule, or no status"
    params, metrics = record.get("params"), record.get("metrics")
    if not isinstance(params, Mapping) or not all(
        _name(k) and is_parameter(v) for k, v in params.items()
    ):
        return "has parameters that are no numbers or names"
    if not isinstance(metrics, Mapping) or not all(
        _name(k) and _number(v) for k, v in metrics.items()
    ):
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
    if any(record.get(n) is not None and not _number(record[n]) for n in optional):
        return "has something else where a number belongs"
    curve = record.get("curve")
    if curve is not None and not (
        isinstance(curve, Mapping)
        and all(_name(k) and isinstance(c, list) and all(map(_number, c)) for k, c in curve.items())
        and len({len(c) for c in curve.values()}) <= 1
    ):
        return "has a learning curve that is none"
    if not isinstance(record.get("error") or "", str):
        return "has an error that is no text"
    return ""


def is_parameter(value: object) -> bool:
    """Whether a value of another parameter can be stored: a number, a short text, true or false."""
    return _name(value) or isinstance(value, bool) or _number(value)


def _number(value: Any) -> bool:
    """Whether it is a number, and one that a float can be."""
    return is_number(value) and (isinstance(value, float) or abs(value) <= 2**1000)


def _name(value: object) -> bool:
    """Whether it is a short text that does nothing to a terminal."""
    return isinstance(value, str) and 0 < len(value) <= _NAME and value.isprintable()


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _storable(value: Any) -> Any:
    """Plain data without NaN or infinity, which are not JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_UNUSUAL: str(value)}
    if isinstance(value, Mapping):
        return {str(k): _storable(v) for k, v in value.items()}
    return [_storable(v) for v in value] if isinstance(value, (list, tuple)) else value


def _restored(value: Any) -> Any:
    """Stored data with its numbers that are not finite."""
    if isinstance(value, dict):
        if value.keys() == {_UNUSUAL}:
            return float(value[_UNUSUAL])
        return {k: _restored(v) for k, v in value.items()}
    return [_restored(v) for v in value] if isinstance(value, list) else value
