"""What a training is made of, so that an edited one is not taken for the one that was begun.

A part is a function or class of the user's own, found by following the names that the training
uses; its digest is that of its code without comments, docstrings and layout. Values that it takes
from around it (globals, closures, arguments of `functools.partial`) are parts too, where they are
plain data. What is installed is not followed: its versions are parts.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import inspect
import os
import platform
import site
import sysconfig
import textwrap
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..checks import is_number

__all__ = ["difference", "parts_of"]

_PLAIN = (str, bytes, bool, type(None))
_INSTALLED = tuple(
    str(Path(folder).resolve()) + os.sep
    for folder in {
        *(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")),
        *getattr(site, "getsitepackages", list)(),
        *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []),
    }
)
_OURS = str(Path(__file__).resolve().parents[1]) + os.sep


def parts_of(train: Any) -> dict[str, str]:
    """Digests of a training's parts, by name.

    Example:
        >>> def train(lr, weight_decay, seed):
        ...     return lr
        >>> sorted(parts_of(train))  # doctest: +ELLIPSIS
        ['halflife', 'python', 'torch', 'train...']
    """
    found: dict[str, str] = {}
    _Walk(found).visit(train)
    return found | {
        "torch": torch.__version__.partition("+")[0],
        "halflife": __version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Names of the parts that differ, are gone or are new."""
    return sorted(n for n in {*known, *wanted} if known.get(n) != wanted.get(n))


class _Walk:
    def __init__(self, found: dict[str, str]) -> None:
        self._found = found
        self._seen: set[int] = set()

    def visit(self, value: Any, name: str = "train") -> None:
        """Take a value's digest, and follow the names in it."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, functools.partial):
            self.visit(value.func, name)
            for key, given in {**dict(enumerate(value.args)), **value.keywords}.items():
                self.value(given, f"{name}({key})")
        elif isinstance(value, types.MethodType):
            self.visit(value.__func__, name)
            self.value(value.__self__, name)
        elif isinstance(value, types.FunctionType):
            self.function(value)
        elif isinstance(value, type):
            self.kind(value)
        else:
            self.value(value, name)

    def function(self, function: types.FunctionType) -> None:
        if not _theirs(function):
            return
        function = inspect.unwrap(function)  # type: ignore[assignment]
        name = f"{function.__module__}.{function.__qualname__}"
        self._found[name] = _digest(_code_text(function))
        self.names(function.__code__, function.__globals__, name)
        for variable, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                self.value(cell.cell_contents, f"{name}: {variable}")
            except ValueError:  # not filled yet
                continue
        for given in (function.__defaults__ or ()):
            self.value(given, f"{name}: default")

    def kind(self, kind: type) -> None:
        if not _theirs(kind):
            return
        name = f"{kind.__module__}.{kind.__qualname__}"
        self._found[name] = _digest(_code_text(kind))
        for base in kind.__mro__[1:]:
            self.visit(base)
        for member in vars(kind).values():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(function, types.FunctionType):
                self.names(function.__code__, function.__globals__, name)

    def names(self, code: types.CodeType, known: Mapping[str, Any], owner: str) -> None:
        """Follow the global names in some code, and in the code within it."""
        for name in code.co_names:
            if name in known and not hasattr(builtins, name):
                self.value(known[name], f"{owner}: {name}", code.co_names)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.names(constant, known, owner)

    def value(self, value: Any, name: str, used: tuple[str, ...] = ()) -> None:
        """A value that some code uses: followed if it is code, a part if it is plain data."""
        if isinstance(value, types.ModuleType):
            if _file_is_theirs(getattr(value, "__file__", None)):
                for attribute in used:
                    if attribute in vars(value):
                        self.value(vars(value)[attribute], f"{value.__name__}.{attribute}")
        elif isinstance(value, (types.FunctionType, types.MethodType, functools.partial, type)):
            self.visit(value, name)
        elif (text := _plain(value)) is not None:
            self._found[name] = _digest(text)
        elif _theirs(type(value)) and not isinstance(value, type):
            self.visit(type(value))
            state = getattr(value, "__dict__", {})
            if (text := _plain({k: v for k, v in state.items() if _plain(v) is not None})) :
                self._found[name] = _digest(text)


def _plain(value: Any, depth: int = 4) -> str | None:
    """Plain data as text that is the same for equal data; None for anything else."""
    if isinstance(value, _PLAIN) or is_number(value):
        return repr(value)
    if depth and isinstance(value, (list, tuple)):
        parts = [_plain(v, depth - 1) for v in value]
        return None if None in parts else f"[{', '.join(map(str, parts))}]"
    if depth and isinstance(value, (set, frozenset)):
        parts = [_plain(v, depth - 1) for v in value]
        return None if None in parts else f"{{{', '.join(sorted(map(str, parts)))}}}"
    if depth and isinstance(value, Mapping):
        items = [(_plain(k), _plain(v, depth - 1)) for k, v in value.items()]
        if any(None in item for item in items):
            return None
        return f"{{{', '.join(sorted(f'{k}: {v}' for k, v in items))}}}"
    return None


def _code_text(thing: Any) -> str:
    """Code without comments, docstrings and layout; of what has no source, its instructions."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        code = getattr(thing, "__code__", None)
        if code is None:
            return repr(thing)
        return f"{code.co_code.hex()} {_constants(code)} {code.co_names}"
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Pass()
    return ast.dump(tree)


def _constants(code: types.CodeType) -> list[str]:
    return [
        f"{c.co_code.hex()} {_constants(c)}" if isinstance(c, types.CodeType) else repr(c)
        for c in code.co_consts
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _theirs(thing: Any) -> bool:
    """Whether code is the user's own: neither installed, nor ours, nor Python's."""
    try:
        file = inspect.getsourcefile(thing) or inspect.getfile(thing)
    except (TypeError, OSError):
        # Typed in, or run from text: there is no file.
        return getattr(thing, "__module__", None) == "__main__"
    if file.startswith("<"):
        return True
    return _file_is_theirs(file)


def _file_is_theirs(file: str | None) -> bool:
    if not file:
        return False
    path = str(Path(file).resolve())
    return not path.startswith((_OURS, *_INSTALLED)) and not file.startswith("<frozen")
