"""Measured beside predicted, while training: `Monitor` and what it writes to."""

from .live import LiveTable
from .monitor import Monitor
from .quantities import PRESETS
from .sinks import as_sink, read_records

__all__ = ["PRESETS", "LiveTable", "Monitor", "as_sink", "read_records"]
