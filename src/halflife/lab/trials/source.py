"""A training's code: as text without comments, docstrings and layout, and what it refers to."""

from __future__ import annotations

import ast
import dis
import importlib
import importlib.util
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle

from ...checks import is_users_own

__all__ = [
    "FUNCTIONS",
    "cells_of",
    "codes_in",
    "functions_in",
    "global_names",
    "globals_of",
    "imported",
    "instructions",
    "is_by_name",
    "is_own_module",
    "is_theirs",
    "own_module",
    "strings_in",
    "tree_of",
]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OUTSIDE = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL"}


def is_theirs(thing: Any) -> bool:
    """Whether code is the user's own: neither installed, nor ours, nor Python's."""
    try:
        file = inspect.getsourcefile(thing) or inspect.getfile(thing)
    except (TypeError, OSError):
        # Typed in, or run from text: there is no file.
        return getattr(thing, "__module__", None) == "__main__"
    if file.startswith("<"):
        return True
    return is_users_own(file)


def tree_of(thing: Any) -> ast.Module | None:
    """The source of a class, a module or some code, without docstrings; None where there is none.

    Of a lambda too: its source is the whole statement in which it stands.
    """
    if isinstance(thing, types.CodeType) and thing.co_name == "<lambda>":
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return None
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = [] if node.body[1:] else [ast.Pass()]
    return tree


def instructions(code: types.CodeType) -> str:
    """Some code as text, of what has no source."""
    constants = [_constant(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames}"


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return instructions(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    if isinstance(value, frozenset):  # whose order is another in each process
        return f"{{{', '.join(sorted(map(_constant, value)))}}}"
    return repr(value)


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Some code, and that of the functions and classes within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_in(constant)


def global_names(code: types.CodeType) -> list[str]:
    """Names that some code has from outside, in order."""
    found = (i.argval for i in dis.get_instructions(code) if i.opname in _OUTSIDE)
    return list(dict.fromkeys(found))


def strings_in(code: types.CodeType) -> set[str]:
    """Texts in some code that may be the names of attributes."""
    return {c for c in code.co_consts if isinstance(c, str) and c.isidentifier()}


def imported(code: types.CodeType, package: str | None) -> Iterator[types.ModuleType]:
    """The user's own modules that some code imports when it runs.

    They are imported for that, as whether they have been before must not matter.
    """
    before: list[Any] = [None, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level, names = before
            base = own_module("." * (level or 0) + instruction.argval, package)
            if base is not None:
                yield base
                inner = [n for n in names or () if hasattr(base, "__path__")]
                found = [
                    own_module(f"{base.__name__}.{n}", None) for n in inner if n not in vars(base)
                ]
                yield from (module for module in found if module is not None)
        before = [before[1], instruction.argval]


def own_module(name: str, package: str | None) -> types.ModuleType | None:
    """A module of the user's own, imported; None if it is none, or cannot be imported."""
    try:
        name = importlib.util.resolve_name(name, package)
        # Of the package, as to look for what is in it would import it.
        spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is None:
            return None
        places = [spec.origin, *(spec.submodule_search_locations or ())]
        own = is_users_own(next((p for p in places if p), None))
        return importlib.import_module(name) if own else None
    except (Exception, SystemExit):  # whatever the module does; the training will say so itself
        return None


def is_own_module(module: types.ModuleType) -> bool:
    """Whether a module is the user's own; one without a file is, where its folder is."""
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return is_users_own(next((p for p in places if p), None))


def is_by_name(thing: Any) -> bool:
    """Whether cloudpickle sends a function or class by its name, to be imported there."""
    name = str(getattr(thing, "__module__", None))
    parents = {name.rsplit(".", i)[0] for i in range(name.count(".") + 1)}
    if name == "__main__" or parents & {*cloudpickle.list_registry_pickle_by_value()}:
        return False
    found: Any = sys.modules.get(name)
    for part in thing.__qualname__.split("."):
        found = inspect.getattr_static(found, part, None)
    return getattr(found, "__func__", found) is thing


def cells_of(function: types.FunctionType) -> dict[str, Any]:
    """What a function has from those around it, by name."""
    held = {}
    names = function.__code__.co_freevars
    for variable, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            held[variable] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return held


def functions_in(member: Any) -> list[types.FunctionType]:
    """The functions of a class's member: of a property up to three."""
    if isinstance(member, types.FunctionType):
        return [member]
    if isinstance(member, type) or not hasattr(type(member), "__get__"):
        return []
    places = ("__func__", "fget", "fset", "fdel", "func", "__wrapped__")
    found = (getattr(member, place, None) for place in places)
    return list({id(f): f for f in found if isinstance(f, types.FunctionType)}.values())


def globals_of(kind: type) -> Mapping[str, Any]:
    """The globals of the module that a class was defined in."""
    for member in vars(kind).values():
        for function in functions_in(member):
            if function.__module__ == kind.__module__:
                return function.__globals__
    return vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
