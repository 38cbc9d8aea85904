"""What the adapters share: the extra that is missing, a training's name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["needed", "training_name"]


def needed(package: str, extra: str, who: str) -> Any:
    """A package of an extra.

    Args:
        package: its name.
        extra: of halflife.
        who: what needs it.

    Raises:
        ImportError: if it is not installed, naming the extra.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{who} needs the extra '{extra}' ({error}): pip install torch-halflife[{extra}]"
        ) from error


def training_name(make: Callable[..., Any]) -> str:
    """The name that a training has by what makes its model."""
    while isinstance(make, functools.partial):
        make = make.func
    return str(getattr(make, "__name__", type(make).__name__))
