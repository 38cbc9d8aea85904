"""What the callbacks share: an audit in the program's log, records as numbers with tags."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ..diagnostics.auditing import Audit
from ..diagnostics.monitor.sinks import Record, numbers

__all__ = ["log_audit", "tags"]

SUMMARIES = ("global", "decayed")


def log_audit(result: Audit, logger: logging.Logger) -> None:
    """Log errors and warnings as warnings, and the whole table as information."""
    logger.info("%s", result)
    for finding in (*result.errors, *result.warnings):
        logger.warning("%s %s: %s", finding.severity, finding.code, finding.message)


def tags(records: Iterable[Record], tensors: bool) -> dict[str, Any]:
    """The numbers of one sample, ``rotation/decayed`` and so on; of each tensor only if asked."""
    return {
        tag: value
        for record in records
        if tensors or record["name"] in SUMMARIES
        for tag, value in numbers(record).items()
    }
