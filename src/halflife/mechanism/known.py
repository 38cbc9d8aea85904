"""What is known of a parameter group: one record, found when the group has been accepted.

Everything in it is derived, from the group's rule and from how its tensors lie in the memory. The
step compares a stamp of these with the record's own, and has it made anew where they differ: after
``model.to(torch.bfloat16)``, another memory format, or another rule written into the group.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.native_decay import Way, native_kind
from ..tensors import fused, rounding

__all__ = ["Known", "known_of", "stamp"]

_PLAIN = (Tensor, torch.nn.Parameter)


class Known(NamedTuple):
    """What is known of one group.

    Attributes:
        rule: what ``group["decay"]`` was when this was found.
        way: how the native step takes a decay.
        halves: whether some weights are in half precision, whose decay a native step would lose.
        layout: how its weights lie in the memory, for fused kernels.
        stamp: of its tensors.
    """

    rule: Any
    way: Way
    halves: bool
    layout: fused.Layout
    stamp: list[Any]


def known_of(optimizer: Optimizer, group: dict[str, Any]) -> Known:
    """The record of a group of an optimizer. A copy of the optimizer may be run: not in a graph."""
    rule, params = group.get("decay"), group["params"]
    return Known(
        rule,
        "none" if rule is None else native_kind(optimizer, group),
        any(map(rounding.is_half, params)),
        fused.layout(params),
        stamp(params),
    )


def stamp(params: list[Tensor]) -> list[Any]:
    """What changes when the memory of a parameter does; asked at every step, so in few calls."""
    # Another dtype, layout or device comes with other memory. A wrapper's own has no address.
    return [p.data_ptr() if type(p) in _PLAIN else p.dtype for p in params]
