"""What a checkpoint needs beyond torch's: rules as plain data, numbers in their own precision.

A checkpoint brings the decay that it was saved with. Where the optimizer was constructed with
another rule or strength, one of the two is replaced, and that is said.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.effective_rate import SUM_KEY
from ..checks import is_number, known_number
from ..rules.contract import as_rule
from ..rules.maps import ANCHOR_KEY, anchor_device
from ..tensors import rounding
from ..units.stated import (
    STATED,
    divides_by_peak,
    same_number,
    stated_number,
    strength_of,
)

if TYPE_CHECKING:
    from .decayed import Decayed

__all__ = ["load", "make_plain"]

# What of a group says how it decays; the lr and everything else are the checkpoint's.
_SETTINGS = ("decay", "peak_lr", "weight_decay", STATED)
_SAVED = "saved"  # in a file, beside what the number was given as: the number in force


class Replaced(NamedTuple):
    """One group whose decay a checkpoint replaces."""

    group: int
    constructed: str
    loaded: str


def make_plain(_: Optimizer, state_dict: dict[str, Any]) -> None:
    """Make rules plain data, and counters ones that no later step advances."""
    for group in state_dict["param_groups"]:
        if group["decay"] is not None:
            group["decay"] = as_rule(group["decay"]).as_dict()
        if STATED in group:  # torch.distributed.checkpoint loads into what it is given
            group[STATED] = {**group[STATED], _SAVED: known_number(group["weight_decay"])}
        for key in rounding.KEYS & group.keys():
            group[key] = group[key].clone()


def load(
    optimizer: Decayed,
    native: Callable[[dict[str, Any]], None],
    state_dict: dict[str, Any],
    keep: str | None,
) -> None:
    """Load a checkpoint, between its hooks.

    Args:
        optimizer: the one that loads.
        native: torch's own loading.
        state_dict: of an optimizer of ours or of torch's.
        keep: whose decay is to hold, "checkpoint" or "constructed"; None is the checkpoint's, and
            that is said where it replaces what was constructed.

    Raises:
        ValueError: if the checkpoint does not fit, or ``keep`` is no choice.
    """
    if keep not in (None, "checkpoint", "constructed"):
        raise ValueError(
            f"keep={keep!r}: must be 'checkpoint' or 'constructed', whose decay is to hold after "
            "loading; leave it out for the checkpoint's, with a warning where the two differ."
        )
    loaded: dict[str, Any] = {}
    replaced: list[Replaced] = []

    def complete(_: Optimizer, given: dict[str, Any]) -> dict[str, Any]:
        groups = _completed(optimizer, given["param_groups"], keep, replaced)
        loaded.update(given, param_groups=groups)
        return {**loaded}

    before = optimizer.register_load_state_dict_pre_hook(complete)
    after = optimizer.register_load_state_dict_post_hook(
        lambda _: _restore_precision(optimizer, loaded), prepend=True
    )
    try:
        native(state_dict)
    finally:
        before.remove()
        after.remove()
    if replaced:
        _warn_of(optimizer, replaced)


def _completed(
    optimizer: Decayed,
    saved_groups: list[dict[str, Any]],
    keep: str | None,
    replaced: list[Replaced],
) -> list[dict[str, Any]]:
    """The groups of a checkpoint, with their rules, and with what it does not know."""
    groups = []
    for position, saved in enumerate(map(_consistent, saved_groups)):
        live = optimizer.param_groups[position] if position < len(optimizer.param_groups) else {}
        own = {key: live.get(key) for key in (*optimizer.own, "weight_decay")}
        own |= {key: live[key] for key in (*rounding.KEYS, STATED) if key in live}
        group = {**own, **saved}
        if group["decay"] is not None:
            group["decay"] = as_rule(group["decay"])
        if STATED in group and STATED not in saved:
            same = same_number(group["weight_decay"], live["weight_decay"])
            if not same or _plain(group["decay"]) != _plain(live["decay"]):
                group[STATED] = stated_number(group["weight_decay"], group["peak_lr"])
        if keep == "constructed":
            kept = {key: live[key] for key in _SETTINGS if key in live}
            group = {**{k: v for k, v in group.items() if k not in _SETTINGS}, **kept}
        elif keep is None and live and _replaces(type(optimizer), group, live, STATED in saved):
            replaced.append(Replaced(position, _said(live), _said(group, "decay" not in saved)))
        groups.append(group)
    return groups


def _consistent(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved group, without what was said of another number than the one in it.

    torch.distributed.checkpoint, told to load partially, fills in a state dict of ours: it takes
    the number alone of torch's file, and what we said of ours stays beside it.
    """
    if not isinstance(kept := saved.get(STATED), dict):
        return saved
    of_number = same_number(kept.get(_SAVED), saved.get("weight_decay"))
    rest = {k: v for k, v in saved.items() if k != STATED}
    return {**rest, STATED: {k: v for k, v in kept.items() if k != _SAVED}} if of_number else rest


def _replaces(
    cls: type[Decayed], loaded: dict[str, Any], live: dict[str, Any], stated_too: bool
) -> bool:
    """Whether a checkpoint brings another rule or strength than the one constructed.

    A schedule may have written another number by the time of saving: where both say what their
    number was given as, and it is the same, the number is the schedule's affair. What was
    constructed with the class's own decay leaves it to the checkpoint, as in torch.
    """
    if not any(known_number(group["weight_decay"]) != 0.0 for group in (loaded, live)):
        return False
    if _at_defaults(cls, live):
        return False
    if _plain(loaded["decay"]) != _plain(live["decay"]) or _moves_peak(loaded, live):
        return True
    one, other = loaded.get(STATED), live.get(STATED)
    before = other and other["weight_decay"]  # a scheduler that exists has written its own
    numbers = [live["weight_decay"], *([] if before is None else [before])]
    if any(same_number(loaded["weight_decay"], number) for number in numbers):
        return False
    if not stated_too or one is None or other is None:
        return True
    if one["of"] is not None or other["of"] is not None:
        return one["of"] != other["of"]
    return not same_number(one["weight_decay"], other["weight_decay"])


def _moves_peak(loaded: dict[str, Any], live: dict[str, Any]) -> bool:
    rule = live["decay"]
    other = not same_number(loaded["peak_lr"], live["peak_lr"])
    return other and rule is not None and divides_by_peak(as_rule(rule))


def _at_defaults(cls: type[Decayed], live: dict[str, Any]) -> bool:
    """Whether a group has the decay of its class: it is the checkpoint's to say, as in torch."""
    kept = live.get(STATED) or {}
    if kept.get("of") is not None or _plain(live["decay"]) != _plain(cls.default_rule):
        return False
    given = kept.get("weight_decay")
    return same_number(live["weight_decay"] if given is None else given, _default_decay(cls))


def _default_decay(cls: type[Decayed]) -> float:
    for base in cls.__mro__:
        if (init := vars(base).get("__init__")) is not None:
            known = inspect.signature(init).parameters.get("weight_decay")
            if known is not None and is_number(known.default):
                return float(known.default)
    return 0.0


def _plain(rule: Any) -> Any:
    return None if rule is None else as_rule(rule).as_dict()


def _said(group: dict[str, Any], without_rule: bool = False) -> str:
    kept, number = strength_of(group), known_number(group["weight_decay"])
    value = f"weight_decay={'a tensor' if number is None else f'{number:.6g}'}"
    if kept is not None:
        value = f"{kept['of']}, {value}"
    if without_rule:
        return f"{value} and no rule"
    rule = None if group["decay"] is None else as_rule(group["decay"])
    peak = rule is not None and divides_by_peak(rule) and known_number(group["peak_lr"])
    return f"{value}, decay={rule!r}" + (f", peak_lr={peak:.6g}" if peak else "")


def _warn_of(optimizer: Decayed, replaced: list[Replaced]) -> None:
    (position, live, saved), *others = replaced
    more = f" ({len(others)} more groups like it)" if others else ""
    warnings.warn(
        f"{type(optimizer).__name__}.load_state_dict: parameter group {position} was constructed "
        f"with {live}; the checkpoint brings {saved}, and that holds now{more}. "
        "load_state_dict(..., keep='constructed') goes on with what was constructed, "
        "keep='checkpoint' says that this is meant; where a framework loads, set "
        "optimizer.keep_on_load to one of them first.",
        stacklevel=4,
    )


def _restore_precision(optimizer: Decayed, loaded: dict[str, Any]) -> None:
    """Put back what torch has cast to the parameter's dtype, or left on another device."""
    saved_indices = chain.from_iterable(group["params"] for group in loaded["param_groups"])
    members = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        rounding.place(group)
    for index, (p, group) in zip(saved_indices, members, strict=True):
        saved_state = loaded["state"].get(index, {})
        for key, value in saved_state.items():
            scalar = isinstance(value, Tensor) and value.dim() == 0 and key != "step"
            if scalar or key == SUM_KEY:
                optimizer.state[p][key] = value.to(p.device, copy=True)
        if ANCHOR_KEY in saved_state:
            place = anchor_device(group["decay"], p)
            optimizer.state[p][ANCHOR_KEY] = saved_state[ANCHOR_KEY].to(place, copy=True)
            optimizer.__dict__.get("_pending_anchors", {}).pop(p, None)
        step = saved_state.get("step")
        if optimizer.prefers_fused and isinstance(step, Tensor) and step.device != p.device:
            # Fused kernels want the count beside the parameter; torch moves it only for
            # groups whose flag is set, and ours is chosen at each step.
            optimizer.state[p]["step"] = step.to(p.device, torch.float32, copy=True)
