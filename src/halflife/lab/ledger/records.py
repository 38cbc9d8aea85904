"""A record as it is stored: plain data with a checksum, and without numbers that JSON has not."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch

from ...checks import is_number
from ..metric import HIGHEST, LONGEST, is_name
from .errors import LedgerError

__all__ = ["RecordError", "as_plain", "checked", "sealed", "sound", "value_of"]

_STATUSES = ("done", "failed", "pruned")
_UNUSUAL = "not finite"  # key of what JSON has no number for
_MOST = 32 << 20  # characters of a record: half of the longest line that a journal is read with
_ERROR = 100_000  # characters of a traceback, whose end says what happened
_SHOWN = 80  # characters of a value in a message
_OPTIONAL = (
    "seconds",
    "steps",
    "epochs",
    "fraction",
    "weight_rms",
    "predicted_rms",
    "strength",
    "progress",
)


class RecordError(ValueError):
    """What a training came to, and what cannot be recorded; the message names key and value."""


def as_plain(value: Any) -> Any:
    """Data with Python's numbers where NumPy and torch have theirs.

    Example:
        >>> import numpy as np
        >>> as_plain({"step": [np.int64(3)], "loss": np.float32(0.5)})
        {'step': [3], 'loss': 0.5}
    """
    if isinstance(value, Mapping):
        return {key: as_plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [as_plain(part) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, (np.generic, np.ndarray)) and value.size == 1:
        return value.item()
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_meta:
        return value.detach().item()
    if type(value) in (str, bool, int, float):
        return value
    return float(value) if is_number(value) and not isinstance(value, Integral) else value


def sealed(record: Mapping[str, Any], value: float) -> dict[str, Any]:
    """A record to be stored, with its checksum and the value that Optuna's tools show.

    Raises:
        RecordError: for one that could not be read again.
    """
    content = _storable(as_plain(record))
    if isinstance(content.get("error"), str):
        content["error"] = content["error"][-_ERROR:]
    why = _flaw(_restored(content))
    if not why and len(text := _text(content)) > _MOST:
        why = f"has {len(text) >> 20} MB, where {_MOST >> 20} are read again; report less often"
    if why:
        raise RecordError(
            f"the training came to what cannot be recorded: it {why}; "
            "return and report numbers, under short names."
        )
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
    """What makes a record none, with key and value; empty for a good one."""
    for name in ("lr", "weight_decay"):
        value: Any = record.get(name)
        if not _number(value) or not math.isfinite(value):
            return f"has {name}={_shown(value)}, which is no finite number"
    seed = record.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        return f"has seed={_shown(seed)}, which is no integer from 0 on"
    if not is_name(record.get("rule")):
        return f"has rule={_shown(record.get('rule'))}, which is no name of one"
    if record.get("status") not in _STATUSES:
        return f"has status={_shown(record.get('status'))}, which is none of {', '.join(_STATUSES)}"
    for key, value in {name: record.get(name) for name in _OPTIONAL}.items():
        if value is not None and not _number(value):
            return f"has {key}={_shown(value)}, which is no number"
    for key in ("optimizer", "curve_unit"):
        if record.get(key) is not None and not is_name(record[key]):
            return f"has {key}={_shown(record[key])}, which is no name"
    if not isinstance(record.get("settings") or {}, Mapping):
        return f"has settings={_shown(record['settings'])}, which are no mapping"
    if not isinstance(record.get("error") or "", str):
        return f"has error={_shown(record['error'])}, which is no text"
    if not isinstance(record.get("diverged", False), bool):
        return f"has diverged={_shown(record['diverged'])}, which is neither true nor false"
    return (
        _of_numbers("params", record.get("params"), names=True)
        or _of_numbers("metrics", record.get("metrics"))
        or _curve_flaw(record.get("curve"))
    )


def _of_numbers(key: str, values: object, *, names: bool = False) -> str:
    """What makes a mapping none of numbers by name, or of numbers and names."""
    if not isinstance(values, Mapping):
        return f"has {key}={_shown(values)}, which is no mapping"
    for name, value in values.items():
        if not is_name(name):
            return f"has {key} named {_shown(name)}, not by 1 to {LONGEST} printable characters"
        fine = _number(value) or (names and (is_name(value) or isinstance(value, bool)))
        if not fine:
            what = "neither a number nor a name" if names else "no number"
            return f"has {key}[{name!r}]={_shown(value)}, which is {what}"
    return ""


def _curve_flaw(curve: object) -> str:
    if curve is None:
        return ""
    if not isinstance(curve, Mapping):
        return f"has curve={_shown(curve)}, which is no learning curve"
    for name, column in curve.items():
        if not is_name(name) or not isinstance(column, list):
            return f"has a curve of {_shown(name)} that is {_shown(column)}, and no list by name"
        for at, value in enumerate(column):
            if not _number(value):
                return f"has curve[{name!r}][{at}]={_shown(value)}, which is no number"
    if len({len(column) for column in curve.values()}) > 1:
        lengths = {name: len(column) for name, column in curve.items()}
        return f"has a curve with columns of different lengths, {_shown(lengths)}"
    return ""


def _shown(value: object) -> str:
    """A value in a message: short, and on one line."""
    try:
        text = repr(value)
    except Exception:  # an integer of too many digits; a user's object
        return f"<{type(value).__name__}>"
    line = text if text.isprintable() else ascii(text)
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _number(value: Any) -> bool:
    """Whether it is a number, and one that a float can be."""
    return is_number(value) and (isinstance(value, float) or abs(value) <= HIGHEST)


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(content).encode()).hexdigest()


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
        if value.keys() == {_UNUSUAL} and value[_UNUSUAL] in ("nan", "inf", "-inf"):
            return float(value[_UNUSUAL])
        return {k: _restored(v) for k, v in value.items()}
    return [_restored(v) for v in value] if isinstance(value, list) else value
