"""Checks of a theorem's constants: one sentence with name, value, requirement and remedy."""

from __future__ import annotations

import math
from numbers import Real

__all__ = [
    "require",
    "require_count",
    "require_finite",
    "require_momentum",
    "require_nonnegative",
    "require_positive",
]


def require(ok: bool, name: str, requirement: str, value: object, remedy: str) -> None:
    """Raise ``ValueError`` unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {requirement}, got {value!r}; {remedy}.")


def require_positive(name: str, value: float, remedy: str) -> None:
    """Require a finite number above zero."""
    require(_is_finite(value) and value > 0, name, "a finite number > 0", value, remedy)


def require_nonnegative(name: str, value: float, remedy: str) -> None:
    """Require a finite number of at least zero."""
    require(_is_finite(value) and value >= 0, name, "a finite number >= 0", value, remedy)


def require_finite(name: str, value: float, remedy: str) -> None:
    """Require a finite number."""
    require(_is_finite(value), name, "a finite number", value, remedy)


def require_momentum(name: str, value: float) -> None:
    """Require an averaging factor, in [0, 1)."""
    ok = _is_finite(value) and 0 <= value < 1
    require(ok, name, "a number in [0, 1)", value, "pass that of the optimizer")


def require_count(name: str, value: object, remedy: str) -> None:
    """Require an integer of at least one; ``True`` is not a count."""
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(ok, name, "an integer >= 1", value, remedy)


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
