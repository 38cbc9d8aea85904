"""A moving average of the weights, which is evaluated beside them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """An exponential moving average of the weights, ``w' <- d w' + (1 - d) w``, in their dtype.

    It is made before a run's precision changes the weights: in float32, in which it goes on where a
    bfloat16 average would stand still.

    Args:
        model: whose weights it begins with.
        decay: d.
        device: where it is kept.
    """

    def __init__(self, model: nn.Module, decay: float, device: torch.device) -> None:
        self.model = copy.deepcopy(model).to(device).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step towards the model's weights; the means of batch norm too."""
        mine, theirs = [], []
        for a, b in zip(_tensors(self.model), _tensors(model), strict=True):
            if a.is_floating_point():
                mine.append(a)
                theirs.append(b.to(a.dtype))
            else:  # counts of batches
                a.copy_(b)
        torch._foreach_lerp_(mine, theirs, 1.0 - self.decay)

    def agree(self) -> None:
        """Take what the first process has of batch norm's means, which each has of its own rows."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
