"""The LSTM language model of word-level Penn Treebank: a table, LSTM layers, a linear layer.

A long text is read in pieces. The state after one piece is given back with the next, detached, so
that gradients end where a piece begins (truncated backpropagation through time).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...checks import require, require_count

__all__ = ["lstm"]

State = tuple[Tensor, Tensor]


def lstm(
    vocabulary: int,
    *,
    width: int = 512,
    layers: int = 2,
    dropout: float = 0.5,
    tied: bool = False,
) -> nn.Module:
    """An LSTM language model (Hochreiter and Schmidhuber 1997; Zaremba et al. 2014).

    Two layers of 512 are those of Xie et al. 2023 (appendix B.3); the medium model of Zaremba et
    al. has 650, the small one 200. Structure and initialisation are those of
    `pytorch/examples/word_language_model`: dropout after the table, between the layers and before
    the head; the table and the head's weight from U(-0.1, 0.1), the head's bias 0, the LSTM as
    torch has it, from U(-1/√width, 1/√width).

    Args:
        vocabulary: number of different tokens.
        width: of the table and of each layer.
        layers: number of LSTM layers.
        dropout: probability.
        tied: let the head share the table.

    Returns:
        A module that takes tokens ``[batch, time]``, integers, and a state (None at the beginning
        of a text), and returns logits ``[batch, time, vocabulary]`` of the token after each and the
        state after the last: two tensors ``[layers, batch, width]``, which the caller detaches.

    Raises:
        ValueError: for what is no count, or a probability outside [0, 1).

    Example:
        >>> model = lstm(10, width=8)
        >>> logits, state = model(torch.zeros(2, 5, dtype=torch.long))
        >>> logits.shape, state[0].shape
        (torch.Size([2, 5, 10]), torch.Size([2, 2, 8]))
        >>> logits, state = model(torch.ones(2, 5, dtype=torch.long), [s.detach() for s in state])
    """
    require_count("vocabulary", vocabulary, "pass the number of different tokens")
    require_count("width", width, "pass the width of the layers, such as 512")
    require_count("layers", layers, "pass the number of LSTM layers, such as 2")
    remedy = "pass a probability, 0 for none"
    require(0 <= dropout < 1, "dropout", "a number in [0, 1)", dropout, remedy)
    return _LSTM(vocabulary, width, layers, dropout, tied)


class _LSTM(nn.Module):
    def __init__(
        self, vocabulary: int, width: int, layers: int, dropout: float, tied: bool
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.drop = nn.Dropout(dropout)
        between = dropout if layers > 1 else 0.0  # torch warns of one that is not used
        self.cells = _Cells("LSTM", width, width, layers, batch_first=True, dropout=between)
        self.head = nn.Linear(width, vocabulary)
        if tied:
            self.head.weight = self.tokens.weight
        nn.init.uniform_(self.tokens.weight, -0.1, 0.1)
        if not tied:
            nn.init.uniform_(self.head.weight, -0.1, 0.1)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        seen, state = self.cells(self.drop(self.tokens(tokens)), state)
        return self.head(self.drop(seen)), state


class _Cells(nn.RNNBase):
    """`nn.LSTM`, of which the compiler makes no part of a graph; of what it calls it does."""

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        if inputs.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # Autocast hands oneDNN bfloat16, which fails on processors that have none.
            with torch.autocast("cpu", enabled=False):
                return self._read(inputs, state)
        return self._read(inputs, state)

    def _read(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        if state is None:
            zeros = inputs.new_zeros(self.num_layers, len(inputs), self.hidden_size)
            state = (zeros, zeros)
        weights: list[Tensor] = [weight for layer in self.all_weights for weight in layer]
        # Whoever casts a model's inputs, as Fabric in mixed precision, casts the state too.
        before = [s.to(inputs.dtype) for s in state]
        seen, hidden, memory = torch.lstm(
            inputs,
            before,
            weights,
            has_biases=True,
            num_layers=self.num_layers,
            dropout=self.dropout,
            train=self.training,
            bidirectional=False,
            batch_first=True,
        )
        return seen, (hidden, memory)
