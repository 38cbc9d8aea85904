"""Maps on weights that are spread over processes (DTensors: FSDP2, tensor parallelism).

Norms are the whole model's and come from the reduction. What acts on each element by itself acts on
this process's shard, without communication.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..tensors.reduction import shards
from .facts import Column, Deferred
from .maps import View

__all__ = ["ShardedView"]


class ShardedView(View):
    """A group's weights of which this process may hold only a part."""

    def elementwise(self, function: Callable[..., None], *others: Column) -> None:
        """Call ``function(weight, amount, *others)`` on this process's shards."""
        whole = self.weights
        # A view of a DTensor as one flat piece may be a copy, and writes to it would be lost.
        self.weights = shards(whole)
        try:
            super().elementwise(function, *(list(map(_shard, other, whole)) for other in others))
        finally:
            self.weights = whole


def _shard(entry: Tensor | Deferred, weight: Tensor) -> Tensor | Deferred:
    if isinstance(entry, Deferred):
        return entry.of(lambda tensor: shards([tensor], like=[weight])[0])
    return shards([entry], like=[weight])[0]
