"""Generators that a training draws from and does not make itself: a loader's, a global one.

Their state would go on from cell to cell, so that a cell came to what its neighbours left it.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.utils.data

from ...checks import is_users_own
from .source import cells_of, codes_in

__all__ = ["held", "seed_one", "set_state", "state_of"]

_KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# Installed, and hold the user's objects.
_HOLDERS = (
    torch.utils.data.Dataset, torch.utils.data.DataLoader, torch.utils.data.Sampler, torch.nn.Module
)  # fmt: skip
_MANY = 1000  # in a longer list there is data, which each cell would walk through


def held(train: Any) -> list[Any]:
    """The generators in what a training uses, in the same order in every process.

    Example:
        >>> own = np.random.default_rng(0)
        >>> def train(trial):
        ...     return own.normal()
        >>> held(functools.partial(train)) == [own]
        True
    """
    found: list[Any] = []
    seen: dict[int, Any] = {}  # the objects too: an identity may be given again
    waiting = [train]
    while waiting:
        value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if issubclass(type(value), _KINDS) and not issubclass(type(value), random.SystemRandom):
            found.append(value)
        else:
            waiting.extend(_within(value))
    return found


def _within(value: Any) -> Iterable[Any]:
    """What a value holds, or what its code names."""
    kind = type(value)
    if issubclass(kind, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if issubclass(kind, types.MethodType):
        return [value.__func__, value.__self__]
    if issubclass(kind, types.BuiltinMethodType):  # shuffle = random.Random(0).shuffle
        return [value.__self__]
    if issubclass(kind, types.FunctionType):
        return _function(value)
    if issubclass(kind, type):
        return list(vars(value).values()) if _theirs(value) else []
    if issubclass(kind, (staticmethod, classmethod)):
        return [value.__func__]
    if issubclass(kind, property):
        return [value.fget, value.fset]
    if issubclass(kind, dict):
        return list(dict.values(value)) if len(value) <= _MANY else []
    if issubclass(kind, (list, tuple, set, frozenset)):
        return list(value) if len(value) <= _MANY else []
    if issubclass(kind, _HOLDERS) or _theirs(kind) or kind.__module__.startswith("halflife.lab."):
        return [kind, *_attributes(value)]
    return [wrapped] if (wrapped := _attribute(value, "__wrapped__")) is not None else []


def _attributes(value: Any) -> list[Any]:
    names = _attribute(value, "__dict__")
    slots = [getattr(kind, "__slots__", ()) for kind in type(value).__mro__]
    slots = [[s] if isinstance(s, str) else list(s) for s in slots]
    found = list(names.values()) if isinstance(names, dict) else []
    return found + [_attribute(value, name) for names in slots for name in names]


def _attribute(value: Any, name: str) -> Any:
    """An attribute as objects have them, whatever the user's class makes of unknown names."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return None


def _function(function: types.FunctionType) -> list[Any]:
    if not _own_file(function.__code__.co_filename):
        return [w] if (w := function.__dict__.get("__wrapped__")) is not None else []
    found = [function.__dict__.get("__wrapped__")]
    found += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    found += cells_of(function).values()
    names = list(dict.fromkeys(n for code in codes_in(function.__code__) for n in code.co_names))
    found += [function.__globals__[name] for name in names if name in function.__globals__]
    seen: list[types.ModuleType] = []
    for value in found:  # which grows: a package's modules are attributes of it
        if not isinstance(value, types.ModuleType) or value in seen:
            continue
        seen.append(value)
        if _theirs_module(value):
            found += [vars(value)[name] for name in names if name in vars(value)]
    return found


def _theirs(kind: type) -> bool:
    """Whether a class is the user's own."""
    return _is_own(kind.__module__, sys.modules.get(kind.__module__))


def _theirs_module(module: types.ModuleType) -> bool:
    return _is_own(module.__name__, module)


def _is_own(name: str, module: types.ModuleType | None) -> bool:
    if name.partition(".")[0] in sys.stdlib_module_names:
        return False
    return _own_file(getattr(module, "__file__", None))  # of a script's there is none in a worker


def _own_file(file: str | None) -> bool:
    return not file or file.startswith("<") or is_users_own(file)


def seed_one(generator: Any, seed: int) -> None:
    """Seed a generator of Python's, NumPy's or torch's."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    else:
        generator.seed(seed % 2**32)  # more is too much for NumPy's old one


def state_of(generator: Any) -> Any:
    """The state of a generator, as plain data and tensors."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _as_tensors(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _as_tensors(generator.get_state(legacy=False))
    version, words, gauss = generator.getstate()
    return [version, list(words), gauss]


def set_state(generator: Any, state: Any) -> None:
    """Put a generator back."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state.cpu())
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = _as_arrays(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(_as_arrays(state))
    else:
        generator.setstate((state[0], tuple(state[1]), state[2]))


def _as_tensors(state: Any) -> Any:
    """Arrays as tensors, which torch loads without trusting the file."""
    if isinstance(state, Mapping):
        return {name: _as_tensors(value) for name, value in state.items()}
    # Of 64 bits without sign, which the oldest torch does not save.
    return torch.from_numpy(state.astype(np.uint64).view(np.int64)) if _is_array(state) else state


def _as_arrays(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {name: _as_arrays(value) for name, value in state.items()}
    return state.cpu().numpy().view(np.uint64) if isinstance(state, torch.Tensor) else state


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)
