"""From what is written on a command line to an optimizer class and its arguments."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer

from ...bases.bench import arguments

__all__ = ["check_arguments", "find", "parse"]


def find(path: str) -> type[Optimizer]:
    """The optimizer class of an import path; without a module, torch's.

    Raises:
        ValueError: for a module that cannot be imported, or a name in it that is no optimizer.

    Example:
        >>> find("AdamW") is find("torch.optim.AdamW")
        True
    """
    module, _, name = path.strip().rpartition(".")
    module = module or "torch.optim"
    try:
        home = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{path!r}: {module} cannot be imported ({error}); install its package, and write "
            "package.Class."
        ) from error
    found = getattr(home, name, None)
    if isinstance(found, type) and issubclass(found, Optimizer) and found is not Optimizer:
        return found
    known = [
        n
        for n, c in vars(home).items()
        if isinstance(c, type) and issubclass(c, Optimizer) and c is not Optimizer
    ]
    near = difflib.get_close_matches(name, known, n=3) or [
        n for n in known if n.lower() == name.lower()
    ]
    hint = f"did you mean {' or '.join(f'{module}.{n}' for n in near)}?" if near else ""
    if not hint:
        hint = f"it has {', '.join(sorted(known)[:12])}." if known else "it has none."
    raise ValueError(f"{path!r}: {module} has no optimizer {name!r}; {hint}")


def check_arguments(cls: type[Optimizer], given: dict[str, Any]) -> None:
    """Refuse what the constructor does not know, and what it still needs.

    Raises:
        ValueError: for either.
    """
    known = arguments(cls)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in _signature(cls))
    for name in given:
        if name in ("lr", "weight_decay", "params"):
            raise ValueError(f"{name}={given[name]!r}: the probe sets {name} itself; leave it out.")
        if name not in known and not open_ended:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            raise ValueError(f"{name}={given[name]!r}: {cls.__name__} has no such argument; {hint}")
    missing = [n for n, p in known.items() if p.default is p.empty and n != "lr" and n not in given]
    if missing:
        raise ValueError(
            f"{cls.__name__}: its constructor needs {', '.join(missing)}; give each a value, "
            f"probe({cls.__name__}, {missing[0]}=...) or --arg {missing[0]}=..."
        )


def parse(pairs: Iterable[str]) -> dict[str, Any]:
    """``name=value`` texts as arguments; a value is read as Python, else it is a text.

    Raises:
        ValueError: for a text without ``=``.

    Example:
        >>> parse(["betas=(0.9, 0.95)", "amsgrad=True", "decay=cautious"])
        {'betas': (0.9, 0.95), 'amsgrad': True, 'decay': 'cautious'}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip().isidentifier():
            raise ValueError(f"--arg {pair!r}: must be name=value, such as --arg momentum=0.9.")
        try:
            values[name.strip()] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            values[name.strip()] = text.strip()
    return values


def _signature(cls: type[Optimizer]) -> Iterable[Any]:
    return inspect.signature(cls).parameters.values()
