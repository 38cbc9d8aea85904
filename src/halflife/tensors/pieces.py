"""Flat pieces of tensors: an elementwise change takes them one by one, to bound what it holds.

On the CPU a piece fits the caches, where its temporaries then stay. On an accelerator every
operation has to be launched, so that a piece is as large as the memory for temporaries allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

__all__ = ["PIECE", "SMALL", "flat", "on_host", "piece_size", "pieces"]

# Elements that torch gives to one thread at least: a piece of two keeps two cores busy, and its
# temporaries in the cache.
_GRAIN = 1 << 15
PIECE = 2 * _GRAIN

# Elements up to which a tensor of an accelerator is small: its operations are all launch.
SMALL = 1 << 16

# On an accelerator: 128 MiB of float32, one temporary.
_ON_DEVICE = 1 << 25


def on_host(tensor: Tensor) -> bool:
    """Whether an operation on a tensor costs its work, and not its launch.

    Example:
        >>> on_host(torch.zeros(2)), on_host(torch.zeros(2, device="meta"))
        (True, False)
    """
    return tensor.is_cpu


def piece_size(tensor: Tensor) -> int:
    """Elements that an elementwise change of a tensor takes at once.

    Example:
        >>> piece_size(torch.zeros(1)) >= PIECE, piece_size(torch.zeros(1, device="meta"))
        (True, 33554432)
    """
    return max(PIECE, _GRAIN * torch.get_num_threads()) if on_host(tensor) else _ON_DEVICE


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Flat pieces of tensors of one shape, side by side, where they can be cut; else the tensors.

    They can where they lie in the memory alike and without gaps. What has one element only
    accompanies every piece.

    Example:
        >>> [len(w) for w, _ in pieces(torch.zeros(300, 300), torch.tensor(0.5))]
        [65536, 24464]
    """
    if torch.compiler.is_compiling():  # what is compiled has no temporaries
        yield tensors
        return
    first = tensors[0]
    size, most = first.numel(), piece_size(first)
    if size <= most:
        yield tensors
        return
    whole = [t for t in tensors if t.numel() != 1]
    lying = flat(whole) if all(t.shape == first.shape for t in whole) else None
    if lying is None:
        yield tensors
        return
    rest = iter(lying)
    cut = [repeat(t.view(())) if t.numel() == 1 else next(rest).split(most) for t in tensors]
    yield from zip(*cut, strict=False)  # what accompanies has no end


def flat(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """Tensors of one shape as flat ones, in the order of the memory; None where they differ in it.

    Example:
        >>> w = torch.zeros(2, 3)
        >>> flat([w.t(), torch.ones(2, 3).t()])[1].shape, flat([w, torch.ones(3, 2).t()])
        (torch.Size([6]), None)
    """
    first = tensors[0]
    if not first.is_contiguous():
        order = sorted(range(first.dim()), key=first.stride, reverse=True)
        tensors = [t.permute(order) for t in tensors]
    if not all(t.is_contiguous() for t in tensors):
        return None
    return [t.view(-1) for t in tensors]
