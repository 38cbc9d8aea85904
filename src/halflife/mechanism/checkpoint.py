"""What a checkpoint needs beyond torch's: rules as plain data, numbers in their own precision."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.effective_rate import SUM_KEY
from ..rules.contract import as_rule
from ..rules.maps import ANCHOR_KEY
from ..tensors import rounding

if TYPE_CHECKING:
    from .decayed import Decayed

__all__ = ["completed", "make_plain", "restore_precision"]


def make_plain(_: Optimizer, state_dict: dict[str, Any]) -> None:
    """Make rules plain data, and counters ones that no later step advances."""
    for group in state_dict["param_groups"]:
        if group["decay"] is not None:
            group["decay"] = as_rule(group["decay"]).as_dict()
        for key in rounding.KEYS & group.keys():
            group[key] = group[key].clone()


def completed(optimizer: Decayed, saved_groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups of a checkpoint, with their rules, and with what it does not know."""
    groups = []
    for position, saved in enumerate(saved_groups):
        live = optimizer.param_groups[position] if position < len(optimizer.param_groups) else {}
        own = {key: live.get(key) for key in (*optimizer.own, "weight_decay")}
        own |= {key: live[key] for key in rounding.KEYS & live.keys()}
        group = {**own, **saved}
        if group["decay"] is not None:
            group["decay"] = as_rule(group["decay"])
        groups.append(group)
    return groups


def restore_precision(optimizer: Decayed, loaded: dict[str, Any]) -> None:
    """Put back what torch has cast to the parameter's dtype, or left on another device."""
    saved_indices = chain.from_iterable(group["params"] for group in loaded["param_groups"])
    params = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for index, p in zip(saved_indices, params, strict=True):
        saved_state = loaded["state"].get(index, {})
        for key, value in saved_state.items():
            scalar = isinstance(value, Tensor) and value.dim() == 0 and key != "step"
            if scalar or key == SUM_KEY:
                optimizer.state[p][key] = value.to(p.device, copy=True)
        if ANCHOR_KEY in saved_state:
            optimizer.state[p][ANCHOR_KEY] = saved_state[ANCHOR_KEY].clone()
            optimizer.__dict__.get("_pending_anchors", {}).pop(p, None)
        step = saved_state.get("step")
        if optimizer.prefers_fused and isinstance(step, Tensor) and step.device != p.device:
            # Fused kernels want the count beside the parameter; torch moves it only for
            # groups whose flag is set, and ours is chosen at each step.
            optimizer.state[p]["step"] = step.to(p.device, torch.float32, copy=True)
