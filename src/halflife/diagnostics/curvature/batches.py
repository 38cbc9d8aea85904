"""Data that is the same at every pass, and random states that a pass leaves alone.

One batch, or several, is told by the type alone:

    one batch          a tuple, namedtuple, dataclass or dict; a tensor; a list that holds a tensor
    several batches    a `DataLoader`, a list of batches, or anything else to iterate over
    refused            a tuple of what could all be batches, which might mean either

The product of a Hessian with a vector is a sum over the data. It is linear, and symmetric, only if
every product sees the same data. A `DataLoader` shuffles, augments, and draws a seed from torch's
global generator whenever it is iterated, shuffling or not. So each pass starts from the random
state that the first one found, and puts back what it found itself.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

__all__ = ["Batches", "field_names", "mapped", "rows_of"]


class Batches:
    """One batch, or an iterable of batches that gives the same ones again at every pass.

    Args:
        data: one batch or several, as the module says.

    Raises:
        TypeError: if `data` can be iterated over only once, or not at all.
        ValueError: if it is a tuple that could be one batch or several.

    Example:
        >>> loader = torch.utils.data.DataLoader(range(6), batch_size=3, shuffle=True)
        >>> batches = Batches(loader)
        >>> [b.tolist() for b in batches] == [b.tolist() for b in batches]
        True
    """

    def __init__(self, data: Iterable[Any]) -> None:
        if _is_one_batch(data):
            data = [data]
        if isinstance(data, Iterator):
            raise TypeError(
                f"data is a {type(data).__name__}, which can be iterated over once; pass a "
                "DataLoader or a list of batches."
            )
        if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
            raise TypeError(f"data is a {type(data).__name__}; pass a DataLoader or batches.")
        self._data = data
        owners = [data, getattr(data, "sampler", None), getattr(data, "batch_sampler", None)]
        found = [getattr(owner, "generator", None) for owner in owners]
        self._generators = [g for g in found if isinstance(g, torch.Generator)]
        self._first = _random_states(self._generators)

    def __iter__(self) -> Iterator[Any]:
        with _random_states_kept(self._generators):
            _set_random_states(self._first, self._generators)
            yield from self._data


def field_names(value: Any) -> tuple[str, ...]:
    """The names of what a namedtuple or dataclass holds; empty for anything else.

    A `PackedSequence` is one tensor, and not its fields.

    Example:
        >>> from collections import namedtuple
        >>> field_names(namedtuple("Pair", "inputs targets")(1, 2)), field_names((1, 2))
        (('inputs', 'targets'), ())
    """
    if isinstance(value, (PackedSequence, Mapping, type)):
        return ()
    if is_dataclass(value):
        return tuple(field.name for field in fields(value))
    return getattr(value, "_fields", ()) if isinstance(value, tuple) else ()


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A batch with every tensor in it replaced: in tuples, lists, dicts, dataclasses."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, PackedSequence):
        return value._replace(data=function(value.data))
    if isinstance(value, Mapping):
        return {key: mapped(entry, function) for key, entry in value.items()}
    if names := field_names(value):
        changed = {name: mapped(getattr(value, name), function) for name in names}
        if isinstance(value, tuple):
            return value._replace(**changed)  # type: ignore[attr-defined]
        copied = copy.copy(value)  # not a constructor, which may want and do more than its fields
        for name, entry in changed.items():
            object.__setattr__(copied, name, entry)
        return copied
    if isinstance(value, (tuple, list)):
        return tuple(mapped(entry, function) for entry in value)
    return value


def rows_of(batch: Any) -> int:
    """Rows of a batch: the first dimension of the first tensor in it that has one.

    Raises:
        ValueError: if there is none.
    """
    rows = next(_row_counts(batch), None)
    if rows is None:
        raise ValueError(
            "a batch holds no tensor whose first dimension counts its rows; pass "
            "rows=, a function from the batch to its weight in the mean."
        )
    return rows


def _row_counts(value: Any) -> Iterator[int]:
    if isinstance(value, PackedSequence):  # its data have a row for each token
        yield int(value.batch_sizes[0])
    elif isinstance(value, Tensor):
        yield from value.shape[:1]
    else:
        entries: Iterable[Any] = value if isinstance(value, (tuple, list)) else ()
        if isinstance(value, Mapping):
            entries = value.values()
        elif names := field_names(value):
            entries = [getattr(value, name) for name in names]
        for entry in entries:
            yield from _row_counts(entry)


def _is_one_batch(data: Any) -> bool:
    """Whether it is one batch, and not an iterable of them.

    Raises:
        ValueError: for a tuple that could be either.
    """
    if isinstance(data, (Tensor, Mapping, PackedSequence)) or field_names(data):
        return True
    if not isinstance(data, (tuple, list)):
        return False
    part_of_one = any(entry is None or isinstance(entry, (Tensor, Number, str)) for entry in data)
    if isinstance(data, tuple) and not part_of_one:
        kinds = ", ".join(type(entry).__name__ for entry in data)
        raise ValueError(
            f"data is a tuple of {kinds or 'nothing'}, which could be one batch or {len(data)}; "
            "pass [data] for one batch, list(data) for batches."
        )
    return isinstance(data, tuple) or any(isinstance(entry, Tensor) for entry in data)


def _random_states(generators: Sequence[torch.Generator]) -> tuple[Any, ...]:
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    own = [generator.get_state() for generator in generators]
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), devices, own


def _set_random_states(states: tuple[Any, ...], generators: Sequence[torch.Generator]) -> None:
    python, numpy, cpu, devices, own = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if devices:
        torch.cuda.set_rng_state_all(devices)
    for generator, state in zip(generators, own, strict=True):
        generator.set_state(state)


@contextmanager
def _random_states_kept(generators: Sequence[torch.Generator]) -> Iterator[None]:
    before = _random_states(generators)
    try:
        yield
    finally:
        _set_random_states(before, generators)
