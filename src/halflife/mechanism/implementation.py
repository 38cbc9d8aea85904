"""Which native implementation steps a group, where the user leaves it open or it cannot be his."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..tensors import fused
from .known import Known

if TYPE_CHECKING:
    from .decayed import Decayed

__all__ = ["chosen"]


def chosen(optimizer: Decayed, known: Known, group: dict[str, Any]) -> dict[str, Any]:
    """The group entries that choose the implementation of this step; none where they stand.

    torch leaves its fused kernel off unless asked. Ours runs it where it is asked for, or left open
    and preferred, and the group's tensors lie in memory as it needs them.

    Args:
        optimizer: whose step it is.
        known: what is known of the group.
        group: the group.

    Raises:
        ValueError: if it is asked for, cannot take the step, and a gradient scaler relies on it.
    """
    asked = group.get("fused")
    preferred = optimizer.prefers_fused and asked is None and group["foreach"] is None
    if not (asked or preferred) or known.layout is None:
        return {}  # what torch's kernel does not know, torch says itself
    if group.get("differentiable"):
        return {}
    if torch.compiler.is_compiling():
        if not asked:  # the compiler fuses by itself
            return {}
        keys = optimizer._walked(group)
        fits = known.layout != "with gaps"
        fits = fits and fused.lies_alike(group["params"], optimizer.state, keys)
    else:
        fits = optimizer._fits(known, group)
    if fits:
        return {"fused": True} if preferred else {}
    if not asked:
        return {}
    if getattr(optimizer, "grad_scale", None) is not None:
        raise ValueError(
            "fused=True: torch's fused kernel cannot take this step (a weight or a gradient lies "
            "in memory otherwise than it walks, or a dampened momentum begins), and the other "
            "implementations do not unscale gradients; leave fused out."
        )
    return {"fused": None}  # torch's own choice among the others
