"""Diagnostics for any ``torch.optim.Optimizer``: they look, and change nothing."""

from .monitor import Monitor

__all__ = ["Monitor"]
