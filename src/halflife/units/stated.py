"""What a group's ``weight_decay`` was given as: a strength at some lr, or a number.

A strength becomes a number once, at the peak lr. The number alone no longer says which strength it
was, nor at which lr: so the group keeps that beside it, as plain data, through checkpoints too.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from ..bases.noise import Base
from ..checks import Scalar, known_number
from ..rules.contract import DecayRule
from ..rules.step import Step
from .strength import Strength

__all__ = [
    "STATED",
    "STRAYED",
    "divides_by_peak",
    "highest_lr",
    "same_number",
    "stated",
    "stated_number",
    "strength_of",
]

STATED = "strength"  # the group's entry
# How far the decay may be from what a strength asked before anybody is told.
STRAYED = 1.2
_LONGEST = 120  # characters: a TotalDecay holds its whole schedule


def stated(strength: Strength, rule: DecayRule, base: Base) -> tuple[Scalar, dict[str, Any]]:
    """The number that a strength becomes, and what is kept of it.

    Args:
        strength: as given.
        rule: whose coefficient the number is.
        base: the optimizer at the peak lr.

    Returns:
        The number; and ``of``, the strength as text, its ``lr``, the number as ``weight_decay``,
        and the ``rate``, what the rule removes there per unit of coefficient. A step with a higher
        rate removes more than was asked, whatever a scheduler has made of the number.

    Raises:
        ValueError: if the rule or the optimizer has no such number.

    Example:
        >>> from halflife import Decoupled, Fraction
        >>> stated(Fraction(0.25), Decoupled(), Base("AdamW", lr=0.5))[1]
        {'of': 'Fraction(value=0.25)', 'lr': 0.5, 'weight_decay': 0.5, 'rate': 0.5}
    """
    number = strength.coefficient(rule, base)
    kept = stated_number(number, base.lr)
    rate = known_number(rule.rate(base.step(1.0, number)))
    return number, {**kept, "of": _text(strength), "rate": rate}


def stated_number(number: Any, lr: Any) -> dict[str, Any]:
    """What is kept of a ``weight_decay`` that was given as a number.

    Example:
        >>> stated_number(0.1, 1e-3)
        {'of': None, 'lr': 0.001, 'weight_decay': 0.1, 'rate': None}
    """
    values = known_number(lr), known_number(number)
    return {"of": None, "lr": values[0], "weight_decay": values[1], "rate": None}


def _text(strength: Strength) -> str:
    """The strength as a person wrote it: no defaults, and the same in every process."""
    name = type(strength).__name__
    values = getattr(strength, "__dict__", {})
    known = {key: value for key, value in values.items() if value is not None}
    text = f"{name}({', '.join(f'{key}={value!r}' for key, value in known.items())})"
    if " at 0x" in text:  # of a class of the user's own, which holds an object
        return name
    if len(text) > _LONGEST:
        return f"{text[:_LONGEST]}..., {zlib.crc32(text.encode()):08x})"
    return text


def strength_of(group: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `stated` kept, of a group whose number came from a strength; else None."""
    kept = group.get(STATED)
    return kept if isinstance(kept, dict) and kept.get("rate") else None


def divides_by_peak(rule: DecayRule) -> bool:
    """Whether the same step removes another share under another peak lr.

    Example:
        >>> from halflife import Decoupled, Independent
        >>> divides_by_peak(Decoupled()), divides_by_peak(Independent())
        (False, True)
    """
    rates = [rule.rate(Step(0.5, peak, 1.0, lambda _: 1.0)) for peak in (1.0, 2.0)]
    return bool(rates[0] != rates[1])


def highest_lr(group: Mapping[str, Any]) -> float:
    """The highest lr that a group or its schedulers name: torch's write theirs into the group.

    Example:
        >>> highest_lr({"lr": 0.004, "initial_lr": 0.004, "max_lr": 0.1})  # as OneCycleLR does
        0.1
    """
    named = (known_number(group.get(key)) for key in ("lr", "initial_lr", "max_lr"))
    return max((lr for lr in named if lr is not None), default=0.0)


def same_number(one: Any, other: Any) -> bool:
    """Whether two coefficients are the same but for rounding, or cannot be read.

    Example:
        >>> same_number(0.1, 0.1 + 1e-9), same_number(0.1, 0.2)
        (True, False)
    """
    first, second = known_number(one), known_number(other)
    if first is None or second is None:
        return True
    return abs(first - second) <= 1e-6 * max(abs(first), abs(second))
