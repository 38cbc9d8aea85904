"""What the trainings of a sweep tell of themselves, gathered from their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["length_told", "optimizer_told"]

Record = Mapping[str, Any]


def length_told(records: Sequence[Record], about: Mapping[str, Any]) -> dict[str, Any]:
    """Steps and epochs of one training, and what its curve counts, as fields of `Meta`.

    Args:
        records: of the ledger.
        about: what the training says itself, which is taken as it is.

    Example:
        >>> length_told([{"status": "done", "steps": 24, "epochs": 3, "curve_unit": None}], {})
        {'steps': 24, 'epochs': 3, 'steps_per_epoch': 8}
    """
    # Older records may call a framework's steps epochs; new ones say what their curves count.
    known = [r for r in records if "curve_unit" in r] or records
    # The longest: those that were stopped, or failed, took fewer steps.
    longest = max(known, key=_length, default={})
    told = {name: longest[name] for name in ("steps", "epochs") if longest.get(name)}
    units = {_unit(r) for r in known if r.get("curve")} - {None}
    if units:
        told["curve_unit"] = units.pop() if len(units) == 1 else "step"
    told |= about
    if told.get("steps") and told.get("epochs"):
        told.setdefault("steps_per_epoch", max(round(told["steps"] / told["epochs"]), 1))
    return told


def optimizer_told(records: Sequence[Record], stated: str | None, assumed: str) -> str | None:
    """Name of the trainings' optimizer: as the trials saw it, else as it was stated, else None.

    Args:
        records: of the ledger.
        stated: by the caller.
        assumed: what is known of records that do not say.

    Example:
        >>> optimizer_told([{"status": "done", "optimizer": None}], None, "adamw")
        >>> optimizer_told([{"status": "done", "optimizer": "sgd"}], None, "adamw")
        'sgd'
    """
    done = [r for r in records if r["status"] != "failed"]
    if any("optimizer" not in r for r in done):  # of a version that took it for granted
        return assumed
    seen = {r["optimizer"] for r in done} - {None}
    if len(seen) > 1:
        return None
    return seen.pop() if seen else stated


def _length(record: Record) -> tuple[bool, float, float]:
    return record["status"] == "done", record.get("steps") or 0, record.get("epochs") or 0


def _unit(record: Record) -> str | None:
    if "curve_unit" in record:
        return record["curve_unit"]
    return "epoch" if record.get("epochs") else None
