"""A language model after GPT-2 (Radford et al. 2019), of any size.

    logits = E LN(blocks(E[token] + P[place]))

with one table E for what comes in and what goes out, and causal attention in the blocks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...checks import require, require_count
from .attention import TransformerBlock
from .vit import require_transformer

__all__ = ["gpt"]


def gpt(
    vocabulary: int,
    *,
    context: int = 128,
    layers: int = 4,
    heads: int = 4,
    width: int = 128,
    dropout: float = 0.0,
) -> nn.Module:
    """A GPT-2 of any size; small enough for a CPU by default.

    Structure and initialisation are GPT-2's, as in `karpathy/nanoGPT`: norms first, biases, GELU by
    its tanh, the output shares the tokens' table; matrices and tables from N(0, 0.02²), those whose
    outputs are added to the tokens from N(0, 0.02² / (2 layers)), biases 0. GPT-2 small has a
    vocabulary of 50,257, a context of 1024, 12 layers, 12 heads, a width of 768 and dropout 0.1.

    Args:
        vocabulary: number of different tokens.
        context: most tokens that it can see. Unit: tokens.
        layers: number of blocks.
        heads: of the attention; they divide `width`.
        width: of the tokens.
        dropout: probability, for attention, parts of blocks and tokens.

    Returns:
        A module from tokens ``[batch, time]``, integers, to logits ``[batch, time, vocabulary]``
        of the token after each.

    Raises:
        ValueError: for heads that do not share the width, or a probability outside [0, 1).

    Example:
        >>> import torch
        >>> model = gpt(65)
        >>> model(torch.zeros(2, 16, dtype=torch.long)).shape
        torch.Size([2, 16, 65])
    """
    require_count("vocabulary", vocabulary, "pass the number of different tokens")
    require_count("context", context, "pass the most tokens of a row")
    require_count("layers", layers, "pass the number of blocks")
    require_transformer(width, heads, dropout)
    model = _GPT(vocabulary, context, width, dropout)
    blocks = [
        TransformerBlock(width, heads, causal=True, dropout=dropout, approximate="tanh")
        for _ in range(layers)
    ]
    model.blocks.extend(blocks)
    added = {id(layer.weight) for block in blocks for layer in block.residual}
    for parameter in model.parameters():  # each once, though two have a table
        if parameter.ndim == 2:
            scale = math.sqrt(2 * layers) if id(parameter) in added else 1.0
            nn.init.normal_(parameter, std=0.02 / scale)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


class _GPT(nn.Module):
    def __init__(self, vocabulary: int, context: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        time, context = tokens.shape[1], self.positions.num_embeddings
        require(time <= context, "tokens", f"at most {context} long", time, "pass context=...")
        # By a call: under FSDP2 a weight is whole only within its module's.
        place = self.positions(torch.arange(time, device=tokens.device))
        seen = self.drop(self.tokens(tokens) + place)
        for block in self.blocks:
            seen = block(seen)
        return self.head(self.norm(seen))
