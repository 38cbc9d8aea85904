"""What the callbacks share: an audit in the program's log, records as numbers with tags."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..diagnostics.auditing import Audit, audit
from ..diagnostics.monitor.sinks import Record, numbers

__all__ = ["audit_before", "log_audit", "tags"]

SUMMARIES = ("global", "decayed")


def audit_before(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    schedule: Any,
    logger: logging.Logger,
    **known: Any,
) -> Audit:
    """An audit that stops no training: a schedule that it refuses is left out, and that is logged.

    Args:
        model: as `audit` takes it.
        optimizer: as `audit` takes it.
        schedule: the scheduler, or all of them; None for none.
        logger: where the refusal goes.
        **known: other arguments of `audit`.
    """
    try:
        return audit(model, optimizer, schedule=schedule, **known)
    except (TypeError, ValueError) as error:
        refused = error
    result = audit(model, optimizer, **known)  # refuses what is not the schedule's fault
    logger.warning("The audit took the lr as constant: %s", refused)
    return result


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
