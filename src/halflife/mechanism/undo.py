"""A step that the native optimizer refuses changes nothing, also where its decay is a pass before.

What a native step, or a map, refuses (a sparse gradient, complex weights, a flag that the device
has not), it refuses at the first step with such a group. There a copy of the weights is kept until
it is through; later steps keep none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..tensors import rounding
from .known import Known
from .native_call import Call

if TYPE_CHECKING:
    from .decayed import Decayed

__all__ = ["accept", "undo_of"]

_FLAGS = ("foreach", "capturable", "differentiable")


def undo_of(optimizer: Decayed, calls: Sequence[Call]) -> Callable[[], None] | None:
    """What puts everything back as it is now; None where no step of this kind can be refused.

    Args:
        optimizer: whose step it is.
        calls: of its groups.
    """
    if torch.compiler.is_compiling():
        return None
    groups, state = optimizer.param_groups, optimizer.state
    new = [
        known
        for group, known in _with_a_pass(optimizer, calls)
        if not _forms(group) <= known.accepted
    ]
    if not new:
        return None
    params = [p for group in groups for p in group["params"] if p.grad is not None]
    weights = [p.detach().clone() for p in params]
    # What the native step has done to other groups until it refuses one; a run that is resumed,
    # with what it was saved with, need not hold its state twice.
    odd = any(known.accepted for known in new)
    odd = odd or any(p.grad.layout is not torch.strided for p in params)
    kept = {p: _clones(s) if odd else s for p in params if (s := state.get(p))}
    counts = [(g[key], g[key].clone()) for g in groups for key in rounding.KEYS & g.keys()]

    def undo() -> None:
        with torch.no_grad():
            for p, weight in zip(params, weights, strict=True):
                p.copy_(weight)
                if p in kept:
                    state[p] = kept[p]
                else:
                    state.pop(p, None)
            for count, was in counts:
                count.copy_(was)

    return undo


def accept(optimizer: Decayed, calls: Sequence[Call]) -> None:
    """Note that the native step takes such groups."""
    for group, known in _with_a_pass(optimizer, calls):
        known.accepted.update(_forms(group))


def _with_a_pass(
    optimizer: Decayed, calls: Sequence[Call]
) -> Iterator[tuple[dict[str, Any], Known]]:
    """The groups whose decay is a pass of its own, and their records."""
    for index, call in enumerate(calls):
        if call.factor is not None or call.view is not None:
            yield optimizer.param_groups[index], optimizer._known[index]


def _forms(group: dict[str, Any]) -> set[Any]:
    """What of a group native steps and maps look at, to refuse it; asked at every step."""
    grads = [g for p in group["params"] if (g := p.grad) is not None]
    flags = {(name, group.get(name)) for name in _FLAGS}
    return flags.union([g.layout for g in grads], [g.dtype for g in grads])


def _clones(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}
