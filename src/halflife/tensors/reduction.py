"""Sums over one whole model, for the rules whose fraction depends on a norm.

A rule never sums by itself. What "one whole model" is differs between a plain model and a stacked
ensemble of models, and only these reductions know:

    WholeModel   every element of every tensor belongs to the one model
    PerMember    the leading axis of every tensor counts the members of an ensemble

Of a tensor that is spread over processes (a DTensor: FSDP2, tensor parallelism) each process sums
its own shard, and the terms of all tensors are added up in one all-reduce. The gradients of DDP are
whole and equal on every process, and need none.

Terms come back in float64 where the device has it: they are few, and they feed recurrences. For
tensors on the CPU they come as a NumPy array, whose arithmetic on some dozens of numbers costs a
fraction of torch's; both kinds take the same operators.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .pieces import SMALL, on_host

__all__ = [
    "PLAIN",
    "PerMember",
    "Terms",
    "WholeModel",
    "is_sharded",
    "like",
    "part_like",
    "plus",
    "real",
    "shards",
    "spread_like",
]

Terms: TypeAlias = "Tensor | np.ndarray[Any, np.dtype[np.float64]]"

_BLAS = {torch.float32, torch.float64}
# Elements that one dot product sums in float32: on some processors it is a running sum, and 1e-4
# off over millions of like values.
_BLOCK = 1 << 16
_MANY = 4  # threads, from which torch's norms of many blocks outrun one thread's dot products
PLAIN = (Tensor, torch.nn.Parameter)


class WholeModel:
    """Sums over all elements: one number per tensor, one number per model.

    Example:
        >>> tensors = [torch.ones(2, 3), torch.full((2,), 2.0)]
        >>> WholeModel().squares(tensors)
        array([6., 8.])
        >>> WholeModel().numel(tensors)
        8
    """

    def squares(self, tensors: list[Tensor]) -> Terms:
        """Sum of squares of each tensor, shape ``[len(tensors)]``."""
        spread = _Spread()
        return spread.add_up(self._squares([spread.local(t) for t in tensors]))

    def squares_of(self, lists: list[list[Tensor]]) -> list[Terms]:
        """`squares` of several lists, at the communication of one."""
        terms = self.squares([t for tensors in lists for t in tensors])
        ends = list(accumulate(map(len, lists)))
        return [terms[end - len(ts) : end] for end, ts in zip(ends, lists, strict=True)]

    def mean_squares(self, tensors: list[Tensor]) -> Tensor:
        """Mean of the squares of each tensor's entries, shape ``[len(tensors)]``.

        Example:
            >>> WholeModel().mean_squares([torch.full((2, 3), 2.0)])
            tensor([4.], dtype=torch.float64)
        """
        squares = torch.as_tensor(self.squares(tensors))
        # Of numbers of the host, which a tensor on a device would wait for.
        return torch.stack(torch._foreach_div(squares.unbind(), [*map(self._entries, tensors)]))

    def _entries(self, tensor: Tensor) -> int:
        return tensor.numel()

    def _squares(self, tensors: list[Tensor]) -> Terms:
        # On the CPU a dot product is faster than torch's norms, and NumPy's costs least to call.
        # Memory order: channels-last gradients are not copied.
        squares = []
        compiling = torch.compiler.is_compiling()  # whose graphs hold tensors only
        for t in tensors:
            if compiling or not on_host(t) or t.dtype not in _BLAS:
                return _norms(list(map(real, tensors)), 2).square()
            flat = (t.detach() if t.requires_grad else t).numpy().ravel("K")
            if flat.size <= _BLOCK:
                squares.append(flat.dot(flat))
            else:
                squares.append(_square_in_blocks(flat))
        return np.array(squares, np.float64)

    def products(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Inner product of each pair, shape ``[pairs]``; they need not exist all at once.

        The second of a pair is taken as the first is spread.

        Example:
            >>> WholeModel().products([(torch.ones(2, 3), torch.full((2, 3), 2.0))])
            tensor([12.], dtype=torch.float64)
        """
        spread, terms = _Spread(), []
        small: dict[int, tuple[Tensor, Tensor]] = {}
        for i, (a, b) in enumerate(pairs):
            one, other = spread.local(a), shards([b], like=[a])[0]
            if on_host(one) or one.numel() > SMALL:
                terms.append(_product(one, other))
            else:
                small[i] = one, other
                terms.append(one)  # in its place until all small ones are there
        for i, term in zip(small, _products([*small.values()]), strict=True):
            terms[i] = term
        return torch.as_tensor(spread.add_up(_gather(terms)))

    def sums(self, tensors: Iterable[Tensor]) -> Tensor:
        """Sum of each tensor, shape ``[len(tensors)]``; they need not exist all at once."""
        spread, terms = _Spread(), []
        for t in map(spread.local, tensors):
            terms.append(real(t).sum(dtype=_wide(t)))
        return torch.as_tensor(spread.add_up(_gather(terms)))

    def sums_of_nonnegative(self, tensors: list[Tensor]) -> Tensor:
        """`sums` of tensors that hold no negative number: on an accelerator, their 1-norms.

        Example:
            >>> WholeModel().sums_of_nonnegative([torch.ones(2, 3)])
            tensor([6.], dtype=torch.float64)
        """
        if any(on_host(t) or is_sharded(t) for t in tensors) or torch.compiler.is_compiling():
            return self.sums(tensors)
        return _norms(list(map(real, tensors)), 1)

    def total(self, terms: Terms) -> Any:
        """Sum over the tensors of a model: the last step of every norm."""
        return terms.sum(0)

    def numel(self, tensors: list[Tensor]) -> int:
        """Number of real elements per model; a complex one counts twice, as in torch's Adam."""
        return sum([t.numel() * (1 + t.is_complex()) for t in tensors])


class PerMember(WholeModel):
    """Sums over all but the leading axis: one number per member of a stacked ensemble.

    Terms have the shape ``[len(tensors), members]``.

    Example:
        >>> PerMember().squares([torch.ones(2, 3), torch.tensor([[2.0], [0.0]])])
        tensor([[3., 3.],
                [4., 0.]], dtype=torch.float64)
    """

    def squares(self, tensors: list[Tensor]) -> Tensor:
        """Sum of squares of each tensor and member."""
        return _gather([_by_member(t).square().sum(1, dtype=_wide(t)) for t in tensors])

    def products(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Inner product of each pair and member."""
        terms = [(_by_member(a) * _by_member(b)).sum(1, dtype=_wide(a)) for a, b in pairs]
        return _gather(terms)

    def sums(self, tensors: Iterable[Tensor]) -> Tensor:
        """Sum of each tensor and member."""
        return _gather([_by_member(t).sum(1, dtype=_wide(t)) for t in tensors])

    def _entries(self, tensor: Tensor) -> int:
        return tensor.numel() // tensor.shape[0]

    def sums_of_nonnegative(self, tensors: list[Tensor]) -> Tensor:
        """`sums`."""
        return self.sums(tensors)

    def total(self, terms: Terms) -> Tensor:
        """Sum over the tensors of each member, shape ``[members]``."""
        return torch.as_tensor(terms).sum(0)

    def numel(self, tensors: list[Tensor]) -> int:
        """Number of elements of one member."""
        return super().numel(tensors) // tensors[0].shape[0]


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is spread over processes: a DTensor, which may also be replicated."""
    return type(tensor) not in PLAIN and hasattr(tensor, "device_mesh")


@torch.no_grad()
def shards(tensors: list[Tensor], like: list[Tensor] | None = None) -> list[Tensor]:
    """What this process holds of each tensor, sharing its memory; plain tensors as they are.

    Args:
        tensors: DTensors and plain tensors.
        like: one tensor for each, whose placement it is to have: a gradient may still be one
            process's part of a sum.
    """
    local = []
    for i, t in enumerate(tensors):
        d: Any = t
        if is_sharded(t):
            other: Any = t if like is None else like[i]
            if d.placements != other.placements:
                d = d.redistribute(placements=other.placements)
            d = d.to_local()
            d = d.wait() if hasattr(d, "wait") else d  # still on its way
        local.append(d)
    return local


def spread_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, the same on every process, spread over them as another one is.

    Where the other is not spread, or both are, the tensor itself.
    """
    if not is_sharded(other) or is_sharded(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    d: Any = other
    return distribute_tensor(tensor, d.device_mesh, d.placements)


def part_like(other: Tensor, part: Tensor) -> Tensor:
    """What this process holds of a tensor that is spread as another one is; whole, if that is."""
    if not is_sharded(other):
        return part
    from torch.distributed.tensor import DTensor

    d: Any = other
    shape, stride = d.shape, d.stride()
    return DTensor.from_local(
        part, d.device_mesh, d.placements, run_check=False, shape=shape, stride=stride
    )


def real(tensor: Tensor) -> Tensor:
    """A real view of a complex tensor, as torch's optimizers see it."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def like(terms: Terms, other: Terms) -> Terms:
    """The other as the kind, and on the device, of the terms."""
    if isinstance(terms, Tensor):
        return torch.as_tensor(other).to(terms)
    return other.cpu().double().numpy() if isinstance(other, Tensor) else other


def plus(a: Any, b: Any) -> Any:
    """Sum of two totals, which may live on two devices."""
    return a + like(a, b)


class _Spread:
    """Where the terms of tensors that are spread over processes have to be added up."""

    def __init__(self) -> None:
        self._count = 0
        self._over: dict[Any, list[int]] = {}  # terms by mesh and placements

    def local(self, tensor: Tensor) -> Tensor:
        """What this process holds of the next tensor; of a sparse one, its entries."""
        index = self._count
        self._count += 1
        if not is_sharded(tensor):
            return tensor.coalesce().values() if tensor.is_sparse else tensor
        from torch.distributed.tensor import Partial, Replicate

        t: Any = tensor.detach()
        # The square of a sum is not the sum of squares: what is still to be added is added.
        placements = [Replicate() if p.is_partial() else p for p in t.placements]
        t = t.redistribute(placements=placements)
        over = tuple(Replicate() if p.is_replicate() else Partial() for p in placements)
        if any(p.is_partial() for p in over):
            self._over.setdefault((t.device_mesh, over), []).append(index)
        return shards([t])[0]

    def add_up(self, terms: Terms) -> Terms:
        """The terms of whole tensors: one all-reduce for each kind of spreading."""
        for (mesh, over), indices in self._over.items():
            from torch.distributed.tensor import DTensor

            part = torch.as_tensor(terms[indices]).to(mesh.device_type)
            total = DTensor.from_local(part, mesh, over, run_check=False).full_tensor()
            terms[indices] = like(terms, total)  # type: ignore[assignment]
        return terms


def _by_member(tensor: Tensor) -> Tensor:
    """Shape ``[members, elements of one]``; a member's parameter may be a scalar."""
    return real(tensor).reshape(tensor.shape[0], tensor[0].numel() * (1 + tensor.is_complex()))


@torch.no_grad()
def _square_in_blocks(flat: np.ndarray[Any, Any]) -> float:
    """The sum of squares of a long vector; by torch where many threads share it, NumPy has one."""
    whole = flat.size - flat.size % _BLOCK if torch.get_num_threads() >= _MANY else 0
    total = 0.0
    if whole:
        rows = torch.from_numpy(flat[:whole]).view(-1, _BLOCK)
        total = float(torch.linalg.vector_norm(rows, dim=1).double().square().sum())
    parts = (flat[i : i + _BLOCK] for i in range(whole, flat.size, _BLOCK))
    return total + sum(float(part.dot(part)) for part in parts)


def _norms(tensors: list[Tensor], order: int) -> Tensor:
    """The norm of each, by one operation for each device and dtype."""
    kinds: dict[Any, list[int]] = {}
    for i, t in enumerate(tensors):
        kinds.setdefault((t.device, t.dtype), []).append(i)
    norms: list[Any] = [None] * len(tensors)
    for (_, dtype), places in kinds.items():
        wide = torch.promote_types(dtype, torch.float32)
        found = torch._foreach_norm([tensors[i] for i in places], order, dtype=wide)
        for i, norm in zip(places, found, strict=True):
            norms[i] = norm
    return _gather(norms)


def _product(a: Tensor, b: Tensor) -> Tensor:
    a, b = real(a), real(b)
    plain = a.is_cpu and a.dtype in _BLAS and a.dtype == b.dtype
    if plain and a.is_contiguous() and b.is_contiguous():
        parts = zip(a.view(-1).split(_BLOCK), b.view(-1).split(_BLOCK), strict=True)
        return torch.stack([torch.dot(x, y).to(_wide(a)) for x, y in parts]).sum()
    dtype = torch.promote_types(a.dtype, torch.float32)
    return (a.to(dtype) * b.to(dtype)).sum(dtype=_wide(a))


def _products(pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The inner products of small tensors, by operations on lists: which have norms, and no sum."""
    pairs = [(real(a), real(b)) for a, b in pairs]
    kinds: dict[Any, list[int]] = {}
    for i, (a, _) in enumerate(pairs):
        kinds.setdefault((a.device, a.dtype), []).append(i)
    found: list[Any] = [None] * len(pairs)
    for (_, dtype), places in kinds.items():
        wide = torch.promote_types(dtype, torch.float32)
        ones = [pairs[i][0].to(wide) for i in places]
        products = torch._foreach_mul(ones, [pairs[i][1].to(wide) for i in places])
        above = torch._foreach_norm(torch._foreach_clamp_min(products, 0.0), 1)
        below = torch._foreach_norm(torch._foreach_clamp_max(products, 0.0), 1)
        for i, term in zip(places, torch._foreach_sub(above, below), strict=True):
            found[i] = term
    return found


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _gather(terms: list[Tensor]) -> Tensor:
    device = terms[0].device
    if any(term.device != device for term in terms):  # a model spread over several devices
        # A copy to the host that is not waited for is read before it is there.
        terms = [term.to(device, non_blocking=device.type != "cpu") for term in terms]
    # What a rule reads is a number: no gradient flows through it, nor is its graph kept.
    return torch.stack(terms).detach().to(_wide(terms[0]))
