"""Wrappers that give an optimizer one process's part of the model, without its knowing.

A norm over "the whole model" would be that of a part, another in each process, and so would the
decay. DTensors (FSDP2, tensor parallelism) carry how they are spread, and norms go over all of
them. Where tensors do not, a rule that looks at more than one element is refused.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from torch.optim import Optimizer

from ..bases.effective_rate import effective_rate_of
from ..rules import DecayMap
from ..rules.contract import DecayRule
from ..versions import is_flattened

__all__ = ["builder_of_parts", "check_part", "holder_of_part"]

_ZERO = "torch.distributed.optim.zero_redundancy_optimizer"
_DEPTH = 24  # frames between that class and our constructor, subclasses' included


def builder_of_parts() -> str | None:
    """The name of the wrapper in whose constructor this is called, with a part of the parameters.

    torch's ``ZeroRedundancyOptimizer`` builds the optimizer of a process like anybody would. So the
    callers are looked at; only where that class has been imported, and at construction only.
    """
    module = sys.modules.get(_ZERO)
    frame = sys._getframe(1) if module is not None else None
    for _ in range(_DEPTH):
        if frame is None:
            return None
        holder = frame.f_locals.get("self")
        if isinstance(holder, module.ZeroRedundancyOptimizer):  # type: ignore[union-attr]
            return type(holder).__name__ if holder.world_size > 1 else None
        frame = frame.f_back
    return None


def holder_of_part(optimizer: Optimizer) -> str | None:
    """The name of the wrapper that holds an optimizer which exists, with a part of the parameters.

    The optimizer does not know its wrapper, so all objects are looked at, where that class has been
    imported.
    """
    module = sys.modules.get(_ZERO)
    if module is None:
        return None
    for holder in gc.get_objects():
        zero = issubclass(type(holder), module.ZeroRedundancyOptimizer)
        if zero and vars(holder).get("optim") is optimizer and holder.world_size > 1:
            return type(holder).__name__
    return None


def check_part(optimizer: Optimizer, group: dict[str, Any], rule: DecayRule) -> None:
    """Refuse a rule, or a base, that would take one process's part for the whole.

    Raises:
        ValueError: naming the wrapper, and what works in its place.
    """
    base = type(optimizer).__name__ if getattr(optimizer, "spans_model", False) else None
    whole = base or (f"decay={rule!r}" if _spans_model(optimizer, rule) else None)
    holder = vars(optimizer).get("_part_of")
    if whole and holder is not None:
        raise ValueError(_message(whole, holder, "a part of the parameters"))
    tensor = isinstance(rule, DecayMap) and not rule.elementwise
    who = whole or (f"decay={rule!r}" if tensor else None)
    if who and any(map(is_flattened, group["params"])):
        raise ValueError(_message(who, "FullyShardedDataParallel", "a part of each tensor"))


def _spans_model(optimizer: Optimizer, rule: DecayRule) -> bool:
    if not rule.spans_model:
        return False
    by_itself = type(rule).spans_model is not DecayRule.spans_model
    if by_itself or {"gradient_norm", "weight_norm"} & {*rule.needs}:
        return True
    # Some effective rates are numbers of the settings: SGD's, and 1.
    return getattr(effective_rate_of(optimizer), "spans_model", True)


def _message(who: str, holder: str, part: str) -> str:
    return (
        f"{who}: takes norms or means of whole tensors or models, and {holder} gives each process "
        f"{part}; use fully_shard (FSDP2) or DistributedDataParallel, where they are those of one "
        "process, or a rule that is a number or acts on each element."
    )
