"""What is seen of a training's optimizers: steps, what a step removes, the size of the weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from ...bases.wrappers import unwrapped
from ...rules.contract import DecayRule
from ...tensors.reduction import is_sharded
from ...units.reading import read_group
from .bases import optimizer_name

if TYPE_CHECKING:
    from .bases import OptimizerKind

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
        made: the first one's name, None without one, and its settings if the trial made it.
    """

    def __init__(self, rule: DecayRule, lr: float) -> None:
        self.optimizers: list[Optimizer] = []
        self.steps = 0
        self._rule, self._lr = rule, lr
        self.made: tuple[str | None, dict[str, Any] | None] = None, None
        self._removed = self._passed = 0.0

    def add(
        self,
        optimizer: Optimizer,
        kind: OptimizerKind | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Watch one more; of one that the trial made, its kind and settings are known."""
        if not self.optimizers:
            name = optimizer_name(type(unwrapped(optimizer))) if kind is None else kind.name
            self.made = name, None if settings is None else dict(settings)
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

    def removes(self, fraction: float | None) -> bool:
        """Whether one of the optimizers is seen to remove this of each weight at the peak lr."""
        if not self.optimizers or not fraction:
            return False
        if self._rule.follows_gradients:
            return True  # it was read from the optimizer itself
        return any(
            math.isclose(self._seen(o, g), fraction, rel_tol=1e-6)
            for o in self.optimizers
            for g in o.param_groups
        )

    def _seen(self, optimizer: Optimizer, group: dict[str, Any]) -> float:
        optimizer = unwrapped(optimizer)
        try:  # an optimizer of any make, a copy of which is run
            reading = read_group(optimizer, group, self._lr)
            seen = reading.fraction_at(self._lr, group.get("weight_decay") or 0.0)
        except Exception:
            return math.nan
        return math.nan if seen is None else float(seen)

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
