"""Small tensors as one flat one: on an accelerator what an operation costs is its launch.

They are copied into a buffer, and what was written is copied back, each by one operation on the
list. Buffers and their views are kept from step to step, as a view costs about as much to make as
an operation to launch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .pieces import SMALL, on_host
from .reduction import PLAIN

__all__ = ["Packs", "Row", "kind_of", "packs_of", "runs"]

Row: TypeAlias = "list[Tensor]"  # a tensor, and beside it others of its shape or of one element

# Elements of one buffer at most: 64 MiB of float32.
_BUFFER = 1 << 24
# Layouts whose views are kept; those of a training are few, but the tensors that take a step vary.
_KEPT = 256


class Packs:
    """Flat buffers of one optimizer, one for each place, device and dtype.

    Example:
        >>> packs = Packs()
        >>> tensors = [torch.ones(2, 2), torch.full((3,), 2.0)]
        >>> packs.fill(0, tensors)
        tensor([1., 1., 1., 1., 2., 2., 2.])
        >>> _ = packs.fill(0, tensors).mul_(3.0)
        >>> packs.write(0, tensors)
        >>> tensors[1]
        tensor([6., 6., 6.])
    """

    def __init__(self) -> None:
        self._buffers: dict[Any, Tensor] = {}
        self._layouts: dict[Any, tuple[Tensor, list[Tensor]]] = {}
        self._sizes: dict[Any, Tensor] = {}

    def row(self, rows: Sequence[Row], numbers_at: Sequence[int]) -> Row:
        """Rows of one kind as one: flat tensors, of which the first can be written back.

        Args:
            rows: of one `kind_of`.
            numbers_at: places of what has one element for each.
        """
        columns = [list(column) for column in zip(*rows, strict=True)]
        return [
            self.spread(column, columns[0]) if place in numbers_at else self.fill(place, column)
            for place, column in enumerate(columns)
        ]

    def fill(self, place: int, tensors: list[Tensor]) -> Tensor:
        """The tensors, side by side in the buffer of a place.

        Args:
            place: a number for each buffer that is in use at a time.
            tensors: of one device and dtype, none of them empty.
        """
        buffer, views = self._layout(place, tensors)
        torch._foreach_copy_(views, tensors)
        return buffer

    def write(self, place: int, tensors: list[Tensor]) -> None:
        """Copy what the buffer holds back into the tensors that it was filled with."""
        torch._foreach_copy_(tensors, self._layout(place, tensors)[1])

    def spread(self, numbers: list[Tensor], tensors: list[Tensor]) -> Tensor:
        """One number of each tensor, repeated for each of its elements: shape ``[elements]``.

        Args:
            numbers: tensors of one element.
            tensors: of one device and dtype, the ones that numbers are of.
        """
        first = tensors[0]
        sizes = [t.numel() for t in tensors]
        key = (first.device, *sizes)
        known = self._sizes.get(key)
        if known is None:
            if len(self._sizes) >= _KEPT:
                self._sizes.clear()
            known = self._sizes[key] = torch.tensor(sizes).to(first.device, non_blocking=True)
        column = torch.stack([n.view(()) if n.dim() else n for n in numbers])
        dtype = torch.promote_types(first.dtype, torch.float32)
        column = column.to(first.device, dtype, non_blocking=True)
        return column.repeat_interleave(known, output_size=sum(sizes))

    def _layout(self, place: int, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        first = tensors[0]
        where = (place, first.device, first.dtype)
        key = (*where, *[t.shape for t in tensors])
        known = self._layouts.get(key)
        if known is None:
            if len(self._layouts) >= _KEPT:
                self._layouts.clear()
            with torch.inference_mode(False):  # which this step may be under, and the next one not
                known = self._layouts[key] = self._laid_out(where, tensors)
        return known

    def _laid_out(
        self, where: tuple[Any, ...], tensors: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        ends = list(accumulate(t.numel() for t in tensors))
        buffer = self._buffers.get(where)
        if buffer is None or len(buffer) < ends[-1]:
            # Views would keep the smaller one in memory.
            self._layouts = {k: v for k, v in self._layouts.items() if k[: len(where)] != where}
            _, device, dtype = where
            buffer = self._buffers[where] = torch.empty(ends[-1], dtype=dtype, device=device)
        views = [
            buffer[end - t.numel() : end].view(t.shape)
            for end, t in zip(ends, tensors, strict=True)
        ]
        return buffer[: ends[-1]], views


def packs_of(optimizer: Any) -> Packs | None:
    """Those of an optimizer; None in a graph, which makes one of several operations by itself.

    They are kept as its attribute, which neither a pickle nor a copy of it takes along.
    """
    if torch.compiler.is_compiling():
        return None
    return vars(optimizer).setdefault("_packs", Packs())


def kind_of(row: Row) -> tuple[Any, tuple[int, ...]] | None:
    """What rows that share buffers have in common, and where in it numbers are.

    None for what goes by itself: tensors of the CPU and large ones, what is beside another shape,
    and what is more than memory, or sparse.
    """
    first, *others = row
    if on_host(first) or not 0 < first.numel() <= SMALL:
        return None
    if not all(type(t) in PLAIN and t.layout is torch.strided for t in row):
        return None
    numbers = []
    for place, t in enumerate(others, start=1):
        # On the host is a number too, also beside what has no dimension either: it is brought over.
        if t.shape != first.shape or t.device != first.device:
            if t.numel() != 1:
                return None
            numbers.append(place)
    return tuple((t.dtype, t.device) for t in row), tuple(numbers)


def runs(rows: Sequence[Row]) -> Iterator[slice]:
    """Slices of a list of rows, each of which fits one buffer.

    Example:
        >>> large, small = torch.empty(1 << 23, device="meta"), torch.empty(1, device="meta")
        >>> list(runs([[large], [large], [small]]))
        [slice(0, 2, None), slice(2, 3, None)]
    """
    start = total = 0
    for i, row in enumerate(rows):
        if total + row[0].numel() > _BUFFER:
            yield slice(start, i)
            start, total = i, 0
        total += row[0].numel()
    if rows:
        yield slice(start, len(rows))
