"""How a native step is called so that it does what a rule wishes.

A wish is ``w <- (1 - amount) w - size u``, with ``u`` made of ``g + gradient * w``. A native step
has one decay of its own, lr-coupled or L2, or none. What it can be given costs no pass over memory:

    lr' = size    weight_decay' = amount / size      an lr-coupled one
    weight_decay' = gradient                         L2

and what it cannot be given is left to passes over the weights or gradients, before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..bases.native_decay import SWITCH
from ..checks import Scalar
from ..rules import DecayMap, View
from ..rules.wish import Wish, never
from ..versions import takes_decay
from .known import Known

__all__ = ["Call", "native_call"]


class Call(NamedTuple):
    """How one group's native step is to be called."""

    swap: dict[str, Any]  # group entries for the duration of the step
    factor: Scalar | None = None  # what the weights are multiplied by first
    gradient: Scalar | None = None  # multiple of the weights that joins the gradients first
    view: View | None = None  # what the rule changes by itself, before or after
    own: Callable[[], None] | None = None  # steps what the native step has been denied


def native_call(known: Known, group: dict[str, Any], wish: Wish, swap: dict[str, Any]) -> Call:
    """The call of one group's native step that carries out a wish; a map is applied beside it.

    Args:
        known: what is known of the group.
        group: the group, with the user's own entries.
        wish: what its rule wants.
        swap: what is to be swapped into it already; completed here.
    """
    decay = group["weight_decay"]
    # torch's optimizers look at the decay's value, which breaks a graph where it is a tensor. On a
    # device they would wait for it.
    unseen = torch.compiler.is_compiling() or (isinstance(decay, Tensor) and not decay.is_cpu)
    if wish.size is not group["lr"]:
        swap["lr"] = wish.size
    mapped, joins = isinstance(group["decay"], DecayMap), not never(wish.gradient)
    alone = joins and never(wish.rate) and not mapped  # one native decay cannot be two things
    by_hand = joins and not (alone and _gives_gradient(known, group, wish, swap, unseen))
    gradient = wish.gradient if by_hand else None
    if mapped or (alone and by_hand):
        swap["weight_decay"] = 0.0
    if mapped or alone:
        return Call(swap, gradient=gradient)
    return Call(swap, _give_decay(known, group, wish, swap, unseen), gradient)


def _gives_gradient(
    known: Known, group: dict[str, Any], wish: Wish, swap: dict[str, Any], unseen: bool
) -> bool:
    """Whether the native step adds the multiple of the weights; it is told so."""
    one_pass = swap.get("fused") or group.get("fused")  # adds in float32, rounds once
    native = known.way in ("switch", "l2") and (one_pass or not known.halves)
    if not native or (unseen and isinstance(wish.gradient, Tensor)):
        return False
    if not takes_decay(wish.gradient):
        return False
    if group.get(SWITCH):
        swap[SWITCH] = False
    if wish.gradient is not group["weight_decay"]:
        swap["weight_decay"] = wish.gradient
    return True


def _give_decay(
    known: Known, group: dict[str, Any], wish: Wish, swap: dict[str, Any], unseen: bool
) -> Scalar | None:
    """Let the native step remove the fraction; else the factor to multiply by, or None."""
    lr, (amount, size, _, rate) = group["lr"], wish
    # A native step rounds half-precision weights to the nearest: their decay would be lost.
    native = known.way in ("switch", "decoupled") and not known.halves
    if known.way == "switch" and not group.get(SWITCH):
        swap[SWITCH] = True
    on_device = isinstance(amount, Tensor)
    if native and rate is lr and size is lr and not (unseen and on_device):
        return None  # the native decay itself; a tensor stays what the user gave
    if not native or on_device or isinstance(size, Tensor) or size == 0.0:
        swap["weight_decay"] = 0.0
        return 1.0 - amount
    # In this order: lr / lr is exactly 1, whereas (lr * wd) / lr need not be wd.
    swap["weight_decay"] = 1.0 / size if amount == 1.0 else group["weight_decay"] * (rate / size)
    return None
