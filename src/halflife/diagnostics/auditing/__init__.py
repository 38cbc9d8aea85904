"""Which parameters decay, by how much per step, and what is wrong with it; before training.

    result = audit(model, optimizer, schedule=scheduler, steps=10_000, steps_per_epoch=391)
    print(result)
    sys.exit(result.exit_code)

`halflife audit module:function` does the same from the command line.
"""

from .findings import CODES, SEVERITIES, Finding, Severity
from .report import Audit, ParameterAudit
from .run import audit

__all__ = ["CODES", "SEVERITIES", "Audit", "Finding", "ParameterAudit", "Severity", "audit"]
