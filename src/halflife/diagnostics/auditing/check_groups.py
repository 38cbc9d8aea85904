"""Findings about groups: what their settings say, and what the optimizer makes of them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ...bases.bench import arguments
from ...checks import is_number
from ...rules.scalar import Decoupled
from ...units.strength import Strength
from .findings import Finding
from .groups import GroupDecay, is_adaptive
from .schedules import unread_scales
from .subjects import Subject

__all__ = ["check_settings"]

_KEY = "weight_decay"
_OTHER_NAMES = {"wd", "l2", "l2_reg", "l2_lambda", "decay_rate", "weight_decay_rate", "reg"}
_NO_DECAY = re.compile(r"no[-_ ]?(weight[-_ ]?)?(decay|wd)|without[-_ ]decay|undecayed", re.I)
_DECAY = re.compile(r"decay|(^|[-_ ])wd($|[-_ ])", re.I)
_CLAIMS_DECOUPLED = re.compile(r"^Decoupled|[a-zD]W(\d+bit)?$")
_SWITCH = "decoupled_weight_decay"
_LONG = 80  # characters
_NEAR = 3.0


def check_settings(groups: Sequence[GroupDecay], subjects: Sequence[Subject]) -> Iterator[Finding]:
    """All findings about what is written in the groups."""
    for group in groups:
        yield from _value(group)
        yield from _keys(group)
        yield from _behaviour(group)
        yield from _group_name(group)
    yield from _overridden(groups, subjects)
    yield from _lr_scales(groups)


def _value(group: GroupDecay) -> Iterator[Finding]:
    value = group.settings.get(_KEY, 0.0)
    if value is None:
        return
    number = float(value) if is_number(value) or isinstance(value, Tensor) else math.nan
    if not 0.0 <= number < math.inf:
        yield Finding(
            "invalid-weight-decay",
            f"weight_decay={value!r} of {group.label}: must be a finite number >= 0, and torch "
            "checks only the constructor's; 0 turns the decay off.",
        )


def _keys(group: GroupDecay) -> Iterator[Finding]:
    known = set(group.optimizer.defaults) | {"params", "param_names", "initial_lr", _KEY}
    for key in group.settings:
        if key in known or not isinstance(key, str) or not is_number(group.settings[key]):
            continue
        plain = key.lower().replace("-", "_").replace(" ", "_")
        near = difflib.get_close_matches(plain, [_KEY, "weightdecay"], cutoff=0.8)
        if plain in _OTHER_NAMES or (near and not plain.startswith(f"{_KEY}_")):
            yield Finding(
                "misspelled-key",
                f"{key}={group.settings[key]!r} of {group.label}: "
                f"{type(group.optimizer).__name__} reads weight_decay "
                f"(here {group.settings.get(_KEY)!r}) and torch keeps unknown keys silently; "
                "write weight_decay.",
            )


def _behaviour(group: GroupDecay) -> Iterator[Finding]:
    name, native, value = type(group.optimizer).__name__, group.native, group.weight_decay
    if not value > 0.0:
        return
    if native is not None and native.kind == "absent":
        yield Finding(
            "decay-has-no-effect",
            f"weight_decay={value:g} of {group.label}: {name} was run with and without it and took "
            "the same steps; give it a rule, halflife.attach(optimizer, 'decoupled'), or choose "
            "another optimizer.",
        )
        return
    coupled = group.joins_gradient and is_adaptive(group)
    if coupled:
        yield Finding(
            "coupled-l2",
            f"weight_decay={value:g} of {group.label} is L2: {name} divides it by the gradients' "
            "size like any gradient, so it removes no fraction of the weights; use decoupled decay "
            "(AdamW, decay='decoupled'), at another value.",
        )
    switch, default = group.settings.get(_SWITCH), group.optimizer.defaults.get(_SWITCH)
    if native is not None and default is not None and switch is not default:
        yield Finding(
            "name-mismatch",
            f"{_SWITCH}={switch} of {group.label}: {name} was built with {default}, so something "
            "(a checkpoint of another class, say) has changed the meaning of weight_decay="
            f"{value:g}; set the flag back.",
        )
    elif native is not None and _CLAIMS_DECOUPLED.search(name) and native.kind == "l2":
        yield Finding(
            "name-mismatch",
            f"weight_decay={value:g} of {group.label}: {name} is named after decoupled decay and "
            "adds L2 to the gradient; look for a flag that switches it, or give it a rule with "
            "halflife.attach.",
        )
    if group.fractions is None and not coupled:
        remedy = "" if native is None else ", and halflife.attach(optimizer, rule) makes it known"
        yield Finding(
            "unknown-decay",
            f"weight_decay={value:g} of {group.label}: what {name} removes per step is not known "
            f"here: {group.note.rstrip('.')}; strength, timescale and precision were not checked; "
            f"halflife.diagnostics.probe says more{remedy}.",
        )


def _group_name(group: GroupDecay) -> Iterator[Finding]:
    name = group.settings.get("name") or group.settings.get("group_name")
    if not isinstance(name, str):
        return
    means_none = _NO_DECAY.search(name) is not None
    means_some = not means_none and _DECAY.search(name) is not None
    if (means_none and group.decays) or (means_some and not group.decays):
        yield Finding(
            "group-name-mismatch",
            f"weight_decay={group.weight_decay:g} of {group.label}, named {name!r}: the name says "
            f"otherwise; a group without weight_decay of its own inherits the optimizer's "
            f"({group.optimizer.defaults.get(_KEY)!r}); write it in the group.",
        )


def _overridden(groups: Sequence[GroupDecay], subjects: Sequence[Subject]) -> Iterator[Finding]:
    # Where only gains or biases train (IA3, BitFit), none is to decay.
    concerned = {s.group.number for s in subjects if s.group is not None and s.is_to_decay}
    for number in sorted(concerned):
        own = [group for group in groups if group.number == number]
        given: Any = own[0].optimizer.defaults.get(_KEY)
        asked = [_asked(given, group) for group in own]
        if not any(asked) or any(map(_has, own, asked)):
            continue
        shown = repr(given) if len(repr(given)) < _LONG else type(given).__name__
        values = ", ".join(dict.fromkeys(f"{group.weight_decay:g}" for group in own))
        then = "nothing decays" if not any(g.weight_decay for g in own) else "it is nowhere"
        yield Finding(
            "overridden-decay",
            f"weight_decay={shown} of {type(own[0].optimizer).__name__}: every parameter group has "
            f"its own, {values}, so {then}; remove it from the groups that are to have the "
            "optimizer's. (Hugging Face's Trainer writes args.weight_decay into its groups: there "
            "see halflife.integrations.transformers.)",
        )


def _asked(given: Any, group: GroupDecay) -> float:
    """The coefficient that the constructor's would be in a group; 0 if it was given none."""
    if isinstance(given, Strength):
        try:
            if not given.fraction(group.base):
                return 0.0
            return float(given.coefficient(group.rule or Decoupled(), group.base))
        except ValueError:  # the optimizer has no such number, and no group had to resolve it
            return math.nan
    cls = type(group.optimizer)
    standard = next((a[_KEY].default for c in cls.__mro__ if _KEY in (a := _of(c))), None)
    number = float(given) if is_number(given) or isinstance(given, Tensor) else 0.0
    return number if number > 0.0 and given != standard else 0.0


def _has(group: GroupDecay, asked: float) -> bool:
    """Whether a group has what was asked; of a strength about, as a cycled momentum moves it."""
    optimizer, found = group.optimizer, group.weight_decay
    strength = isinstance(optimizer.defaults.get(_KEY), Strength)
    if not strength or optimizer.state:  # numbers of groups are usual, and a schedule moves them
        return found > 0.0
    return found / _NEAR < asked < found * _NEAR


def _lr_scales(groups: Sequence[GroupDecay]) -> Iterator[Finding]:
    for number in sorted({group.number for group in groups}):
        own = [group for group in groups if group.number == number]
        scales = unread_scales([group.settings for group in own], [group.lr for group in own])
        for group, scale in zip(own, scales, strict=True):
            if scale != 1.0:
                yield Finding(
                    "unread-lr-scale",
                    f"lr_scale={scale:.3g} of {group.label}: its lr is {group.lr:.3g}, as that of "
                    "every group, because torch's optimizers and schedulers do not read the key; "
                    "use halflife.param_groups(model, lr=..., layer_decay=...), or pass schedule= "
                    "if timm's scheduler or a loop of yours multiplies it.",
                )


def _of(cls: type) -> dict[str, Any]:
    try:
        return dict(arguments(cls))
    except (TypeError, ValueError):
        return {}
