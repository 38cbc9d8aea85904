"""Data that is the same at every pass, and random states that a pass leaves alone.

The product of a Hessian with a vector is a sum over the data. It is linear, and symmetric, only if
every product sees the same data. A `DataLoader` shuffles, augments, and draws a seed from torch's
global generator whenever it is iterated, shuffling or not. So each pass starts from the random
state that the first one found, and puts back what it found itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Batches", "mapped", "rows_of"]


class Batches:
    """One batch, or an iterable of batches that gives the same ones again at every pass.

    Args:
        data: an iterable of batches, such as a `DataLoader` or a list; or one batch, recognised
            by being a tuple or list whose first element is a tensor.

    Raises:
        TypeError: if `data` can be iterated over only once, or not at all.

    Example:
        >>> loader = torch.utils.data.DataLoader(range(6), batch_size=3, shuffle=True)
        >>> batches = Batches(loader)
        >>> [b.tolist() for b in batches] == [b.tolist() for b in batches]
        True
    """

    def __init__(self, data: Iterable[Any]) -> None:
        if isinstance(data, Sequence) and len(data) and isinstance(data[0], Tensor):
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


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A batch with every tensor in its tuples, lists and dicts replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: mapped(entry, function) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(mapped(entry, function) for entry in value)
    return value


def rows_of(batch: Any) -> int:
    """Rows of a batch: the first dimension of the first tensor in it.

    Raises:
        ValueError: if there is none.
    """
    shapes: list[torch.Size] = []
    mapped(batch, lambda tensor: shapes.append(tensor.shape) or tensor)  # type: ignore[func-returns-value]
    if not shapes or not shapes[0]:
        raise ValueError(
            "a batch holds no tensor whose first dimension counts its rows; pass "
            "rows=, a function from the batch to its weight in the mean."
        )
    return shapes[0][0]


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
