"""What is seen of a training's optimizers: steps, what a step removes, the size of the weights."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch.optim import Optimizer

from ...rules.contract import DecayRule
from ...tensors.reduction import is_sharded
from ...units.reading import read_group

__all__ = ["Watch"]

# Steps whose fraction is read: the first, then one in ten, as reading waits for a device.
_SAMPLES, _EVERY = 50, 10


class Watch:
    """The optimizers of one training.

    Args:
        rule: the decay rule.
        lr: peak learning rate.

    Attributes:
        optimizers: those that are watched; the first one's steps count.
        steps: that it took.
    """

    def __init__(self, rule: DecayRule, lr: float) -> None:
        self.optimizers: list[Optimizer] = []
        self.steps = 0
        self._rule, self._lr = rule, lr
        self._removed = self._passed = 0.0

    def add(self, optimizer: Optimizer) -> None:
        """Watch one more."""
        self.optimizers.append(optimizer)
        optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if optimizer is not self.optimizers[0]:
            return
        self.steps += 1
        first = self.steps <= _SAMPLES
        if self._rule.follows_gradients and (first or self.steps % _EVERY == 0):
            decaying = [g for g in optimizer.param_groups if g.get("weight_decay")]
            if not decaying:
                return
            group = decaying[0]
            lr = float(group["lr"])
            fraction = read_group(optimizer, group).fraction_at(lr, group["weight_decay"])
            if fraction is not None and math.isfinite(float(fraction)):
                for_steps = 1 if first else _EVERY
                self._removed += for_steps * float(fraction)
                self._passed += for_steps * lr / self._lr

    @property
    def fraction(self) -> float | None:
        """Removed per step at the peak lr, over the steps read; None where none was."""
        return self._removed / self._passed if self._passed else None

    @torch.no_grad()
    def weight_rms(self) -> float | None:
        """RMS over the weight matrices in the optimizers; None if there are none."""
        groups = itertools.chain(*(o.param_groups for o in self.optimizers))
        matrices = [p for g in groups for p in g["params"] if p.dim() >= 2]
        count = sum(p.numel() for p in matrices)
        if not count:
            return None
        squares = [p.double().square().sum() for p in matrices]
        # Of a weight that is spread over processes each has a part of the sum.
        whole = [s.full_tensor() if is_sharded(s) else s for s in squares]
        return math.sqrt(sum(map(float, whole)) / count)

    def counts(self) -> list[float]:
        """What was counted, for a checkpoint."""
        return [self.steps, self._removed, self._passed]

    def take_up(self, counts: list[float]) -> None:
        """Go on from what was counted."""
        self.steps, self._removed, self._passed = int(counts[0]), *counts[1:]
