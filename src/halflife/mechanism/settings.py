"""Group settings: what a parameter group must hold before a decayed optimizer accepts it.

Everything a user can get wrong about lr, peak, rule and strength is found here, before anything
changes. Messages name the value, the requirement and the remedy.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from torch import Tensor
from torch.optim import Optimizer

from ..bases.native_decay import check_base, scales_with_lr
from ..bases.noise import base_of
from ..checks import Scalar, is_number, numbers_of
from ..rules import DecayMap
from ..rules.contract import DecayRule, as_rule
from ..rules.facts import fact
from ..rules.step import Step
from ..rules.wish import wish_of
from ..tensors.rounding import is_half
from ..units.stated import STATED, stated, stated_number
from ..units.strength import Strength

_NUMBER = {"weight_decay": "a number or a strength such as HalfLife(steps=5000)"}
_REMEDIES = {
    "lr": "use maximize=True to ascend",
    "peak_lr": "pass the schedule's highest lr",
    "weight_decay": "0 turns the decay off",
}

__all__ = ["check_keywords", "group_settings", "plain_pairs", "refuse_unknown", "tensors_of"]

InitT = TypeVar("InitT", bound=Callable[..., None])


def group_settings(cls: type[Optimizer], group: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The values of ``decay``, ``peak_lr`` and ``weight_decay`` that a group starts with.

    Args:
        cls: the optimizer class, which may refuse a rule.
        group: the group, completed by the optimizer's defaults.
        label: names the group in messages.

    Returns:
        The settings: rule (or None), a float, a number, and what the number was given as.

    Raises:
        ValueError: for a value out of range, or a strength that the rule or optimizer cannot have.
        TypeError: if ``decay`` is no rule.
    """
    lr: Any = group.get("lr")
    rule, decay = group.get("decay"), group.get("weight_decay", 0.0)
    if rule is None and not isinstance(decay, Strength):
        return {"decay": None, "peak_lr": group.get("peak_lr"), "weight_decay": decay}
    rule = None if rule is None else as_rule(rule)
    _require_number("lr", lr, label)
    peak: float = float(lr) if group.get("peak_lr") is None else group["peak_lr"]
    _require_number("peak_lr", peak, label)
    kept = stated_number(decay, peak)
    if isinstance(decay, Strength):
        if rule is None:
            raise ValueError(
                f"weight_decay={decay!r} of {label}: a strength needs a decay rule to become a "
                "number; pass decay=, for example decay='decoupled'."
            )
        decay, kept = stated(decay, rule, base_of(cls, dict(group), peak))
    _require_number("weight_decay", decay, label)
    for name, value in group.items():
        if isinstance(value, float) and math.isnan(value):  # torch lets some pass
            raise ValueError(f"{name}=nan of {label}: must be a number; correct what computes it.")
    if rule is not None:
        check_base(cls)
        _check_needs(cls, rule, label)
        if group.get("differentiable"):
            _check_differentiable(rule, group, label)
    if rule is not None and not isinstance(decay, Tensor):
        if not rule.follows_gradients:  # else known, and bounded, in a step only
            wish_of(rule, Step(peak, peak, decay, label=label))
        if not isinstance(lr, Tensor) and lr > peak * (1 + 1e-9):
            raise ValueError(
                f"peak_lr={peak} of {label} is below its lr={lr}: the peak is the schedule's "
                "highest lr; raise peak_lr or leave it out."
            )
    own = {"decay": rule, "peak_lr": peak, "weight_decay": decay}
    return own if rule is None else {**own, STATED: kept}


def tensors_of(params: Any) -> list[Tensor]:
    """The tensors of a group, which torch takes with or without their names, or a single one."""
    given = [params] if isinstance(params, Tensor) else params
    tensors = [p[-1] if isinstance(p, tuple) else p for p in given]
    return [p for p in tensors if isinstance(p, Tensor)]


def plain_pairs(values: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Make tuples of what stands for the numbers of a default that is one, in place."""
    for name, value in values.items():
        if isinstance(defaults.get(name), tuple) and (numbers := numbers_of(value)) is not None:
            values[name] = numbers


def check_keywords(
    signature: inspect.Signature, kwargs: Mapping[str, Any], own: tuple[str, ...]
) -> None:
    """Refuse keywords that neither a native constructor nor we know.

    Raises:
        TypeError: naming the nearest known keyword.
    """
    parameters = signature.parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name in (*parameters, *own) if name not in ("self", "params")]
    for name in kwargs:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(
                f"{name}={kwargs[name]!r}: unknown keyword"
                + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}.")
            )
    for name, value in kwargs.items():
        if name in parameters:
            _require_like(name, value, parameters[name].default)


def refuse_unknown(init: InitT) -> InitT:
    """A constructor that refuses unknown keywords as `check_keywords` does.

    Its signature stays as it is written: a type checker refuses them too.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        check_keywords(signature, kwargs, own=())
        init(self, *args, **kwargs)

    return cast("InitT", checked)


def _require_like(name: str, value: Any, default: Any) -> None:
    """Refuse what can be no value of an argument whose default is a number, or some numbers."""
    if is_number(default):
        allowed = (Tensor, Strength) if name == "weight_decay" else Tensor
        if not is_number(value) and not isinstance(value, allowed):
            raise TypeError(f"{name}={value!r}: must be {_NUMBER.get(name, 'a number')}.")
    elif isinstance(default, tuple) and all(map(is_number, default)):
        numbers = numbers_of(value)
        if numbers is None or len(numbers) != len(default):
            raise TypeError(
                f"{name}={value!r}: must be {len(default)} numbers, such as the default {default}."
            )


def _check_needs(cls: type[Optimizer], rule: DecayRule, label: str) -> None:
    for name in rule.needs:
        if fact(name, cls) is None:
            what = name.replace("_", " ")
            raise ValueError(
                f"decay={rule!r} of {label}: needs the optimizer's {what}, and {cls.__name__} "
                "declares none; choose another rule or optimizer, or see halflife.rules.facts."
            )
    if rule.scales_step and not scales_with_lr(cls):
        raise ValueError(
            f"decay={rule!r} of {label}: the rule scales each step, and a step of {cls.__name__} "
            "is not proportional to the lr it is given; choose another rule or optimizer."
        )


def _check_differentiable(rule: DecayRule, group: Mapping[str, Any], label: str) -> None:
    """Refuse what autograd would not see: a rule's own change of the weights, or what it measures.

    It would pass through the step all the same, with a derivative that leaves the decay out.

    Raises:
        ValueError: if the rule is such a one, or the weights are in half precision.
    """
    if isinstance(rule, DecayMap) or rule.needs:
        raise ValueError(
            f"differentiable=True of {label}: goes with rules that are numbers known before the "
            f"step, and decay={rule!r} changes or measures tensors out of autograd's sight; use "
            "decay='decoupled', another of them, or 'l2'."
        )
    if any(is_half(p) for p in tensors_of(group.get("params", ()))):
        raise ValueError(
            f"differentiable=True of {label}: its half-precision weights are decayed with "
            "stochastic rounding, which has no derivative; use float32 weights."
        )


def _require_number(name: str, value: Scalar, label: str) -> None:
    if isinstance(value, Tensor):
        return  # torch's own check has seen it, and another would synchronise with the device
    if not is_number(value):
        raise TypeError(f"{name}={value!r} of {label}: must be {_NUMBER.get(name, 'a number')}.")
    if not 0.0 <= value < math.inf:
        raise ValueError(
            f"{name}={value} of {label}: must be a finite number >= 0; {_REMEDIES[name]}."
        )
