"""One sampled step: weights are copied before it, and compared after it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from ...mechanism.decayed import Decayed
from ...rules import facts
from ...tensors.pieces import on_host
from ...tensors.reduction import Terms, WholeModel, is_sharded, real, shards
from ...tensors.rounding import is_half
from .quantities import COMPARED, Sums

__all__ = ["Sample", "Watched"]


class Watched(NamedTuple):
    """A parameter and the group that it is in."""

    name: str
    tensor: Tensor
    group: int


class Sample:
    """What one step does to some parameters; nothing of theirs is written.

    Args:
        optimizer: about to step.
        watched: parameters, none of them empty.
        quantities: names of what is wanted, which decides what it costs.
        closure: whether the step computes its gradients itself; they are then read afterwards.
    """

    @torch.no_grad()
    def __init__(
        self,
        optimizer: Optimizer,
        watched: list[Watched],
        quantities: Collection[str],
        closure: bool,
    ) -> None:
        self.watched = watched
        self._optimizer, self._closure = optimizer, closure
        self._wanted = set(quantities)
        self._reduction = WholeModel()
        self.sums = [Sums() for _ in watched]
        self._params = [w.tensor for w in watched]
        for s, p in zip(self.sums, self._params, strict=True):
            s.elements = float(self._reduction.numel([p]))
        moves = self._wanted & COMPARED
        self._copies = _copied(self._params) if moves else None
        if self._copies is None:
            self._fill("weights", self._reduction.squares(self._params))
        if not closure:
            self._read_gradients()

    @torch.no_grad()
    def finish(self, fractions: list[float | None], lrs: list[float]) -> None:
        """Compare with the weights after the step.

        Args:
            fractions: of each group, what its decay has removed; None if unknown.
            lrs: of each group.
        """
        if self._closure:
            self._read_gradients()
        if self._copies is None:
            self._forget("updates", "along", "lost")
        else:
            self._compare(self._copies, fractions)
            self._copies = None
        for s, w in zip(self.sums, self.watched, strict=True):
            s.split(fractions[w.group])
        if "constraint_use" in self._wanted:
            for s, p, w in zip(self.sums, self._params, self.watched, strict=True):
                d, lr = fractions[w.group], lrs[w.group]
                known = d is not None and lr > 0.0
                s.constraint = d / lr * _largest(p) if d is not None and known else None

    def _compare(self, copies: list[Tensor], fractions: list[float | None]) -> None:
        reduction, after = self._reduction, self._params
        self._fill("weights", reduction.squares(copies))
        if "lost_decay" in self._wanted:
            self._count_lost(copies, fractions)
        moves = _differences(after, copies)
        self._fill("updates", reduction.squares(moves))
        self._fill("along", reduction.products(zip(copies, moves, strict=True)))

    def _read_gradients(self) -> None:
        present = [i for i, w in enumerate(self.watched) if w.tensor.grad is not None]
        grads = {i: self._gradient(self.watched[i]) for i in present}
        squares: Any = self._reduction.squares(list(grads.values())) if grads else []
        for i, value in zip(grads, _floats(squares), strict=True):
            self.sums[i].gradients = value
        dense = [i for i in present if not grads[i].is_sparse]
        for i in set(present) - set(dense):
            self.sums[i].uphill = self.sums[i].active = None
        if "gradient_cosine" in self._wanted and dense:
            pairs = ((self._params[i], grads[i]) for i in dense)
            for i, value in zip(dense, _floats(self._reduction.products(pairs)), strict=True):
                self.sums[i].uphill = value
        if "cautious_fraction" in self._wanted:
            self._count_active(dense)

    def _gradient(self, watched: Watched) -> Tensor:
        """Unscaled; a fused step under a gradient scaler finds it scaled."""
        grad: Any = watched.tensor.grad
        scale = None if self._closure else getattr(self._optimizer, "grad_scale", None)
        return grad if scale is None else grad / scale

    def _count_active(self, dense: list[int]) -> None:
        if self._closure or facts.fact("direction", type(self._optimizer)) is None:
            self._forget("active")
            return
        for i in set(range(len(self.watched))) - set(dense):
            self.sums[i].active = None
        for index, group in enumerate(self._optimizer.param_groups):
            mine = [i for i in dense if self.watched[i].group == index]
            if not mine:
                continue
            try:
                directions = facts.direction(
                    self._optimizer, group, [self.watched[i].tensor for i in mine]
                )
            except (KeyError, ValueError):  # a state that the fact does not know
                self._forget("active")
                return
            masks = (real(u * self._params[i]) >= 0 for i, u in zip(mine, directions, strict=True))
            for i, value in zip(mine, _floats(self._reduction.sums(masks)), strict=True):
                self.sums[i].active = value

    def _count_lost(self, copies: list[Tensor], fractions: list[float | None]) -> None:
        kept = isinstance(self._optimizer, Decayed)  # they round stochastically
        for s, w, copy in zip(self.sums, self.watched, copies, strict=True):
            fraction = fractions[w.group]
            if not is_half(copy) or not fraction:
                continue
            live = copy != 0
            s.halves, s.lost = (float(self._reduction.sums([live])[0]), 0.0)
            if not kept:
                same = (copy.float() * (1.0 - fraction)).to(copy.dtype) == copy
                s.lost = float(self._reduction.sums([same & live])[0])

    def _fill(self, name: str, terms: Terms) -> None:
        for s, value in zip(self.sums, _floats(terms), strict=True):
            setattr(s, name, value)

    def _forget(self, *names: str) -> None:
        for s in self.sums:
            for name in names:
                setattr(s, name, None)


def _copied(tensors: list[Tensor]) -> list[Tensor]:
    if any(on_host(t) or is_sharded(t) for t in tensors):
        return [t.clone() for t in tensors]
    return list(torch._foreach_mul(tensors, 1.0))


def _differences(after: list[Tensor], before: list[Tensor]) -> list[Tensor]:
    if any(on_host(t) or is_sharded(t) or is_half(t) for t in after):
        # In float32 the difference of two halves is exact, or nearly so.
        return [
            a.float() - b.float() if is_half(a) else a - b
            for a, b in zip(after, before, strict=True)
        ]
    return list(torch._foreach_sub(after, before))


def _floats(terms: Any) -> list[float]:
    """As Python numbers, in one transfer from a device."""
    return list(map(float, terms.tolist() if hasattr(terms, "tolist") else terms))


def _largest(param: Tensor) -> float:
    part = shards([param])[0]
    largest = part.abs().max() if part.numel() else torch.zeros_like(part).sum().abs()
    if is_sharded(param):
        spread: Any = param
        largest = largest.to(torch.promote_types(largest.dtype, torch.float32))
        for dim, placement in enumerate(spread.placements):
            if placement.is_shard():
                group = spread.device_mesh.get_group(dim)
                torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group)
    return float(largest)
