"""Diagnostics for any ``torch.optim.Optimizer``: they look, and change nothing."""

from .audit import audit
from .monitor import Monitor

__all__ = ["Monitor", "audit"]
