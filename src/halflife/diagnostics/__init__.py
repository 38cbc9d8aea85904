"""Diagnostics for any ``torch.optim.Optimizer``: they look, and change nothing."""

from .auditing import audit
from .monitor import Monitor
from .probing import Probe, probe

__all__ = ["Monitor", "Probe", "audit", "probe"]
