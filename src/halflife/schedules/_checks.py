"""Checks of arguments: one sentence with name, value, requirement and remedy."""

from __future__ import annotations

import math
from numbers import Integral, Real

__all__ = [
    "require",
    "require_count",
    "require_curve",
    "require_in_unit_interval",
    "require_nonnegative",
    "require_positive",
]


def require(ok: bool, what: str, requirement: str, value: object, remedy: str) -> None:
    """Raise ``ValueError`` unless `ok`."""
    if not ok:
        raise ValueError(f"{what} must be {requirement}, got {value!r}; {remedy}.")


def require_count(what: str, value: object, remedy: str, *, minimum: int = 1) -> None:
    """Require an integer of at least `minimum`; ``True`` is not a count."""
    ok = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= minimum
    require(ok, what, f"an integer >= {minimum}", value, remedy)


def require_nonnegative(what: str, value: object, remedy: str) -> None:
    """Require a finite real number of at least zero."""
    require(_is_finite(value) and value >= 0, what, "a finite number >= 0", value, remedy)  # type: ignore[operator]


def require_positive(what: str, value: object, remedy: str) -> None:
    """Require a finite real number above zero."""
    require(_is_finite(value) and value > 0, what, "a finite number > 0", value, remedy)  # type: ignore[operator]


def require_in_unit_interval(what: str, value: object, remedy: str) -> None:
    """Require a real number above 0 and at most 1."""
    ok = _is_finite(value) and 0 < value <= 1  # type: ignore[operator]
    require(ok, what, "a number > 0 and <= 1", value, remedy)


def require_curve(what: str, curve: object) -> None:
    """Raise ``TypeError`` unless `curve` can be called."""
    if not callable(curve):
        raise TypeError(
            f"{what} must be a function of the step, got {curve!r}; "
            "pass a curve such as cosine(total)."
        )


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
