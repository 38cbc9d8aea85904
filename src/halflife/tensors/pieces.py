"""Flat pieces of tensors: an elementwise change takes them one by one, to stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

__all__ = ["PIECE", "pieces"]


# Elements that an elementwise change takes at once: its temporaries stay in the cache.
PIECE = 1 << 16


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Flat pieces of tensors of one shape, side by side, where they can be cut; else the tensors.

    What has one element only accompanies every piece.

    Example:
        >>> [len(w) for w, _ in pieces(torch.zeros(300, 300), torch.tensor(0.5))]
        [65536, 24464]
    """
    size = tensors[0].numel()
    if torch.compiler.is_compiling():  # what is compiled has no temporaries, and is not unrolled
        yield tensors
        return
    if size <= PIECE or not all(t.is_contiguous() for t in tensors):
        yield tensors
        return
    if any(t.numel() not in (1, size) for t in tensors):
        yield tensors
        return
    cut = [repeat(t.view(())) if t.numel() == 1 else t.view(-1).split(PIECE) for t in tensors]
    yield from zip(*cut, strict=False)  # what accompanies has no end
