"""The generators that a training draws from: seeded, kept and put back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .held import seed_one, set_state, state_of

__all__ = ["Drawing", "generators", "seeded", "set_generators"]


def generators() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, as plain data and tensors."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """Put the generators back."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"]:
        torch.cuda.set_rng_state_all([s.cpu() for s in states["cuda"]])


@contextlib.contextmanager
def seeded(seed: int, held: Sequence[Any] = ()) -> Iterator[None]:
    """Seed all generators, and others that are at hand, and put them back afterwards."""
    before, states = generators(), [state_of(generator) for generator in held]
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    for generator in held:
        seed_one(generator, seed)
    try:
        yield
    finally:
        for generator, state in zip(held, states, strict=True):
            set_state(generator, state)
        set_generators(before)


class Drawing:
    """A generator with the methods of what is kept."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def state_dict(self) -> dict[str, Any]:
        """Its state, as a checkpoint keeps it."""
        return {"state": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the state back."""
        self._generator.set_state(state["state"].cpu())
