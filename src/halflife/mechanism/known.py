"""What is known of a parameter group: one record, found when the group has been accepted.

Everything in it is derived, from the group's rule and from how its tensors lie in the memory. The
step compares it with what these are now, and has it made anew where they differ: after
``model.to(torch.bfloat16)``, another memory format, or another rule written into the group.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from ..bases.native_decay import Way, check_closure, native_kind
from ..rules.contract import DecayRule
from ..tensors import fused, rounding
from ..units.stated import STRAYED, strength_of
from .parts import check_part

__all__ = ["Known", "known_of"]


class Known(NamedTuple):
    """What is known of one group.

    Attributes:
        group: the group.
        rule: what ``group["decay"]`` was when this was found.
        way: how the native step takes a decay.
        halves: whether some weights are in half precision, whose decay a native step would lose.
        layout: how its weights lie in the memory, for fused kernels.
        dtypes: of its tensors.
        strides: of its tensors, unless they are all contiguous.
        most: the rate above which a step removes another share than the group's strength asked
            for; None without a strength.
        accepted: forms of the group with which a native step went through, behind a decay that is
            a pass of its own (`halflife.mechanism.undo`).
    """

    group: dict[str, Any]
    rule: DecayRule | None
    way: Way
    halves: bool
    layout: fused.Layout
    dtypes: list[torch.dtype]
    strides: list[Any]
    most: float | None
    accepted: set[Any]

    def still_holds(self) -> bool:
        """Whether what this was derived from is unchanged; asked at every step, so in few calls.

        That contiguous weights are so is looked at by `fused.fits`.
        """
        group = self.group
        if group["decay"] is not self.rule or [p.dtype for p in group["params"]] != self.dtypes:
            return False
        return self.layout == "contiguous" or [p.stride() for p in group["params"]] == self.strides

    def laid_anew(self) -> Known:
        """The record of weights that lie otherwise by now."""
        params = self.group["params"]
        return self._replace(layout=fused.layout(params), strides=[p.stride() for p in params])


def known_of(optimizer: Optimizer, group: dict[str, Any]) -> Known:
    """The record of a group of an optimizer. A copy of the optimizer may be run: not in a graph.

    Raises:
        ValueError: if the group has a rule, and the optimizer cannot step without a closure, or
            holds one process's part of what the rule looks at.
    """
    rule, params = group["decay"], group["params"]
    if rule is not None:
        check_closure(optimizer)
        check_part(optimizer, group, rule)
    layout, kept = fused.layout(params), strength_of(group)
    return Known(
        group,
        rule,
        "none" if rule is None else native_kind(optimizer, group),
        any(map(rounding.is_half, params)),
        layout,
        [p.dtype for p in params],
        [] if layout == "contiguous" else [p.stride() for p in params],
        None if rule is None or kept is None else STRAYED * kept["rate"],
        set(),
    )
