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

__all__ = ["Known", "known_of"]

_PLAIN = (Tensor, torch.nn.Parameter)


class Known(NamedTuple):
    """What is known of one group.

    Attributes:
        rule: what ``group["decay"]`` was when this was found.
        way: how the native step takes a decay.
        halves: whether some weights are in half precision, whose decay a native step would lose.
        layout: how its weights lie in the memory, for fused kernels.
        plain: whether all of its tensors are ordinary ones, and no DTensors or other wrappers.
        stamp: of its tensors.
    """

    rule: Any
    way: Way
    halves: bool
    layout: fused.Layout
    plain: bool
    stamp: list[Any]

    def still_holds(self, group: dict[str, Any]) -> bool:
        """Whether what this was derived from is unchanged; asked at every step."""
        return group["decay"] is self.rule and _stamp(group["params"], self.plain) == self.stamp


def known_of(optimizer: Optimizer, group: dict[str, Any]) -> Known:
    """The record of a group of an optimizer. A copy of the optimizer may be run: not in a graph."""
    rule, params = group.get("decay"), group["params"]
    plain = all(type(p) in _PLAIN for p in params)
    return Known(
        rule,
        "none" if rule is None else native_kind(optimizer, group),
        any(map(rounding.is_half, params)),
        fused.layout(params),
        plain,
        _stamp(params, plain),
    )


def _stamp(params: list[Tensor], plain: bool) -> list[Any]:
    # Another dtype, layout or device comes with other memory. A wrapper's own has no address.
    return list(map(Tensor.data_ptr, params)) if plain else [p.dtype for p in params]
