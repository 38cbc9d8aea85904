"""Diagnostics for any ``torch.optim.Optimizer``: they look, and change nothing."""

from .audit import audit
from .monitor import Monitor
from .probe import Probe, probe

__all__ = ["Monitor", "Probe", "audit", "probe"]
