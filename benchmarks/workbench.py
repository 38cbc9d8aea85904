"""One model's weights, gradients and moments, which all candidates of a benchmark step.

Memory and its placement are then equal for all, and only the code differs.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from .shapes import MODELS

CACHE_BYTES = 64 * 2**20  # more than the caches of most machines hold

ADAM = {"lr": 1e-4, "weight_decay": 0.1}
SGD = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 0.1}


class Workbench:
    """The tensors of a model, and torch's fused optimizers, whose state the others share.

    Args:
        model: name in `shapes.MODELS`; or the parameters.
        cold: empty the caches before each candidate runs.
        device: where the tensors are.
        dtype: of all of them.
    """

    def __init__(
        self,
        model: str | list[torch.nn.Parameter],
        cold: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.params = (
            model
            if isinstance(model, list)
            else [
                torch.nn.Parameter(
                    (torch.randn(shape, generator=generator) * 0.02).to(device, dtype)
                )
                for shape in MODELS[model]()
            ]
        )
        self.elements = sum(p.numel() for p in self.params)
        self._gradients = [
            (torch.randn(p.shape, generator=generator) * 1e-3).to(p.device, p.dtype)
            for p in self.params
        ]
        self._written = [torch.empty_like(p) for p in self.params]
        self._caches = torch.zeros(CACHE_BYTES // 4) if cold else None
        self.before()
        self.adamw = torch.optim.AdamW(self.params, fused=True, **ADAM)
        self.adamw.step()

    @functools.cached_property
    def sgd(self) -> Optimizer:
        """torch's fused SGD, which not every version has for half precision on the CPU."""
        made = torch.optim.SGD(self.params, fused=True, **SGD)
        made.step()
        return made

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients as one vector."""
        return math.sqrt(sum(float(g.norm()) ** 2 for g in self._gradients))

    def before(self) -> None:
        """Write the gradients anew, as a backward pass does: a candidate may have changed them."""
        if self._caches is not None:
            self._caches.add_(1.0)
        torch._foreach_copy_(self._written, self._gradients)
        for p, gradient in zip(self.params, self._written, strict=True):
            p.grad = gradient  # some optimizers remove it

    def sharing(self, reference: Optimizer, optimizer: Optimizer, **keys: str) -> Optimizer:
        """The optimizer, with the reference's state tensors as its own.

        Args:
            reference: `adamw` or `sgd`.
            optimizer: that is to share.
            keys: which of the reference's tensors it keeps under which name. Default: all, by
                their names.
        """
        for p, held in reference.state.items():
            given = {own: held[name] for own, name in keys.items()} if keys else held
            optimizer.state[p] = {**optimizer.state[p], **given}
        return optimizer


def state_bytes(optimizer: Optimizer) -> float:
    """Bytes of optimizer state per parameter element."""
    held = [optimizer.state]
    tensors: list[Tensor] = []
    while held:
        value = held.pop()
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, (dict, list, tuple)):
            held += value.values() if isinstance(value, dict) else value
    size = sum(v.numel() * v.element_size() for v in tensors)
    return size / sum(p.numel() for group in optimizer.param_groups for p in group["params"])
