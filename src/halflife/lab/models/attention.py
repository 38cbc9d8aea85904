"""The transformer block of ViT and GPT-2, with the norm before each part.

Pre-norm:

x <- x + attention(LN(x))
x <- x + W2 gelu(W1 LN(x))
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TransformerBlock"]


class TransformerBlock(nn.Module):
    """One block, from ``[batch, time, width]`` to the same.

    Args:
        width: of the tokens.
        heads: of the attention, which share the width.
        causal: whether a token attends to itself and those before it only.
        dropout: probability, for the attention and after each part.
        drop_path: probability that a part is left out for one row of a batch (Huang et al. 2016).
        eps: of the norms.
        approximate: torch's name for the form of GELU, ``"none"`` or ``"tanh"``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        eps: float = 1e-5,
        approximate: str = "none",
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps)
        self.attention = _Attention(width, heads, causal, dropout)
        self.mlp_norm = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(approximate),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )
        self.drop_path = drop_path

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens after this block."""
        tokens = tokens + self._kept(self.attention(self.attention_norm(tokens)))
        return tokens + self._kept(self.mlp(self.mlp_norm(tokens)))

    def _kept(self, part: Tensor) -> Tensor:
        """A part, or zeros in its place, for each row; what is kept makes up for the rest."""
        if not self.training or not self.drop_path:
            return part
        ones = part.new_ones(len(part), 1, 1)
        return part * F.dropout(ones, self.drop_path)

    @property
    def residual(self) -> tuple[nn.Linear, nn.Linear]:
        """The two layers whose outputs are added to the tokens."""
        last = self.mlp[2]
        assert isinstance(last, nn.Linear)
        return self.attention.projection, last


class _Attention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        # [batch, time, 3 width] -> three of [batch, heads, time, width / heads], as views
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind()
        probability = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(
            queries, keys, values, dropout_p=probability, is_causal=self.causal
        )
        return self.drop(self.projection(seen.transpose(1, 2).flatten(2)))
