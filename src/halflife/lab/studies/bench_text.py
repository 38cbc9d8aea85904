"""A small language model that can be trained many at once."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tasks import Data, generator
from .bench import Net

__all__ = ["Characters", "documentation"]


class LSTM(nn.Module):
    """One layer of LSTM cells over one-hot characters, written out so that it can be stacked.

    Args:
        symbols: of the alphabet.
        units: of the layer.
    """

    def __init__(self, symbols: int, units: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(units)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))

        self.units = units
        self.input, self.hidden = uniform(symbols, 4 * units), uniform(units, 4 * units)
        self.bias = uniform(4 * units)
        self.output, self.output_bias = uniform(units, symbols), uniform(symbols)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next character, ``[rows, time, symbols]``, of one-hot rows likewise."""
        rows, time, _ = x.shape
        h = c = torch.zeros(rows, self.units, dtype=x.dtype)
        inputs = x @ self.input + self.bias
        out = []
        for t in range(time):
            i, f, g, o = (inputs[:, t] + h @ self.hidden).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
        return torch.stack(out, 1) @ self.output + self.output_bias


@dataclass(frozen=True)
class Characters(Net):
    """Windows of Python's documentation, character by character.

    Args:
        units: of the LSTM.
        time: characters of a window.
        characters: of the text, of which the last quarter is held out.
    """

    units: int = 32
    time: int = 25
    characters: int = 200_000
    batch_size: int = 30
    images: int = 3000  # windows of the training text
    epochs: int = 4

    @property
    def description(self) -> str:
        """One sentence on model and data."""
        return f"LSTM of {self.units} units on {self.characters} characters of documentation"

    def model(self) -> nn.Module:
        """The LSTM."""
        return LSTM(len(documentation(self.characters)[1]), self.units)

    def data(self, seed: int) -> Data:
        """One-hot windows, drawn for each seed, and the characters that follow.

        The held-out windows are the same in every seed: 300 to choose on, 600 to tell.
        """
        text, symbols = documentation(self.characters)
        border = len(text) * 3 // 4
        length = self.time + 1
        starts = torch.randint(0, border - length, (self.images,), generator=generator("w", seed))
        held = torch.linspace(border, len(text) - length, 900).long()
        held = held[torch.randperm(900, generator=generator("held", 0))]

        def windows(at: Tensor) -> tuple[Tensor, Tensor]:
            rows = text[at[:, None] + torch.arange(length)]
            return F.one_hot(rows[:, :-1], len(symbols)).float(), rows[:, 1:]

        return Data(*windows(starts), *windows(held))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of a character, in nats."""
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of a character, in bits."""
        return self.loss(outputs, targets) / math.log(2.0)


@functools.cache
def documentation(characters: int) -> tuple[Tensor, list[str]]:
    """The text as numbers, and its alphabet; it comes with Python, and differs by its version."""
    import pydoc_data.topics

    topics: dict[str, Any] = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics)).lower()[:characters]
    kept = "".join(c if c in " \nabcdefghijklmnopqrstuvwxyz.,'()_=\"" else "#" for c in text)
    symbols = sorted(set(kept))
    table = {symbol: number for number, symbol in enumerate(symbols)}
    return torch.tensor([table[c] for c in kept]), symbols
