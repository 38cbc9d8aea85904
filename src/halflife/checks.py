"""What every module says alike: what is wrong with an argument, tables of text, data for JSON.

A check names the argument, its value, what is required, and what to do.
"""

from __future__ import annotations

import difflib
import functools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from torch import Tensor

from .versions import is_fake

__all__ = [
    "Scalar",
    "aligned",
    "came_of",
    "finite",
    "in_short",
    "is_number",
    "is_users_own",
    "known_number",
    "near",
    "numbers_of",
    "require",
    "require_argument",
    "require_count",
    "require_curve",
    "require_finite",
    "require_in_unit_interval",
    "require_momentum",
    "require_nonnegative",
    "require_positive",
]

Scalar: TypeAlias = "float | Tensor"

_SHORT = 160  # characters of another's message


def is_number(value: object) -> bool:
    """Whether a value is a real number; ``True`` is none.

    Example:
        >>> is_number(1), is_number(True), is_number("1")
        (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def known_number(value: Any) -> float | None:
    """A number that can be read without waiting for a device; else None.

    Example:
        >>> known_number(1), known_number("1")
        (1.0, None)
    """
    if not isinstance(value, Tensor):
        return float(value) if is_number(value) else None
    known = value.is_cpu and value.numel() == 1 and not is_fake(value)
    return float(value.detach()) if known else None


def numbers_of(value: Any) -> tuple[Scalar, ...] | None:
    """Some numbers as a plain tuple, whatever holds them in order; None if it is something else.

    A list of a configuration (omegaconf's), a NumPy array, or NumPy's own numbers would be refused
    by torch here and there, and by ``torch.load`` in a checkpoint.

    Example:
        >>> numbers_of([0.9, 0.999]), numbers_of("0.9"), numbers_of(0.9)
        ((0.9, 0.999), None, None)
    """
    ordered = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if not ordered or isinstance(value, (str, bytes, Mapping)) or getattr(value, "ndim", 1) != 1:
        return None
    if not all(is_number(v) or isinstance(v, Tensor) for v in value):
        return None
    return tuple(v if isinstance(v, (Tensor, int)) else float(v) for v in value)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, its columns as wide as their longest cells.

    Example:
        >>> aligned([("rule", "lr"), ("decoupled", "0.1")])
        ['rule       lr', 'decoupled  0.1']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def finite(data: Any) -> Any:
    """Data for JSON, which has no word for a number that is not finite: None in its place.

    Example:
        >>> finite({"half_life": float("inf"), "lrs": [0.1]})
        {'half_life': None, 'lrs': [0.1]}
    """
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def in_short(error: Exception) -> str:
    """Another's error, for a sentence of ours that says what failed and what to do.

    Example:
        >>> in_short(KeyError("lr"))
        "KeyError: 'lr'"
    """
    text = str(error).strip().partition("\n")[0]
    text = text if len(text) <= _SHORT else f"{text[:_SHORT]}..."
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def is_users_own(file: str | None) -> bool:
    """Whether a file's code is the user's: neither Python's, nor installed, nor ours.

    Example:
        >>> is_users_own(math.__spec__.origin), is_users_own(__file__), is_users_own("<string>")
        (False, False, False)
    """
    if not file or file.startswith("<"):
        return False
    return not str(Path(file).resolve()).startswith(_others())


@functools.cache
def _others() -> tuple[str, ...]:
    """Folders of code that is not the user's; looked for when first asked."""
    import site
    import sysconfig

    paths = sysconfig.get_paths()
    folders = {
        *(paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")),
        *getattr(site, "getsitepackages", list)(),
        *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []),
        Path(__file__).parent,
    }
    return tuple(str(Path(folder).resolve()) + os.sep for folder in folders)


def came_of(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an error is of a kind, or came of one that is."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def near(name: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or a full stop.

    Example:
        >>> near("lyon", ["adamw", "lion"]), near("x", ["lion"])
        ("; did you mean 'lion'?", '.')
    """
    found = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f"; did you mean {found[0]!r}?" if found else "."


def require(ok: bool, name: str, requirement: str, value: object, remedy: str) -> None:
    """Raise ``ValueError`` unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {requirement}, got {value!r}; {remedy}.")


def require_count(name: str, value: object, remedy: str, *, minimum: int = 1) -> None:
    """Require an integer of at least `minimum`; ``True`` is not a count."""
    ok = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= minimum
    require(ok, name, f"an integer >= {minimum}", value, remedy)


def require_finite(name: str, value: object, remedy: str) -> None:
    """Require a finite number."""
    require(_is_finite(value), name, "a finite number", value, remedy)


def require_nonnegative(name: str, value: object, remedy: str) -> None:
    """Require a finite number of at least zero."""
    require(_is_finite(value) and value >= 0, name, "a finite number >= 0", value, remedy)


def require_positive(name: str, value: object, remedy: str) -> None:
    """Require a finite number above zero."""
    require(_is_finite(value) and value > 0, name, "a finite number > 0", value, remedy)


def require_in_unit_interval(name: str, value: object, remedy: str) -> None:
    """Require a number above 0 and at most 1."""
    ok = _is_finite(value) and 0 < value <= 1
    require(ok, name, "a number > 0 and <= 1", value, remedy)


def require_momentum(name: str, value: object) -> None:
    """Require an averaging factor, in [0, 1)."""
    ok = _is_finite(value) and 0 <= value < 1
    require(ok, name, "a number in [0, 1)", value, "pass that of the optimizer")


def require_curve(name: str, curve: object) -> None:
    """Raise ``TypeError`` unless `curve` can be called."""
    if not callable(curve):
        raise TypeError(
            f"{name} must be a function of the step, got {curve!r}; "
            "pass a curve such as cosine(total)."
        )


def require_argument(
    owner: str, name: str, value: object, holds: bool, requirement: str, remedy: str = ""
) -> None:
    """Refuse an argument of a rule or a strength.

    Raises:
        ValueError: unless ``holds``.
    """
    if not holds:
        then = f"; {remedy}" if remedy else ""
        raise ValueError(f"{owner}: {name}={value!r} must be {requirement}{then}.")


def _is_finite(value: object) -> TypeGuard[float]:
    return is_number(value) and math.isfinite(value)  # type: ignore[arg-type]
