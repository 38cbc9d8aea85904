"""The contract of a decay rule, and the registry that finds one by its name.

A rule answers for one parameter group at one step (`halflife.rules.wish` asks it): which fraction
of each weight goes, how the size of the step changes, which multiple of the weights joins the
gradient.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar, Literal, TypeAlias, final

import torch
from torch import Tensor

from ..checks import Scalar
from .step import MEASURED, Step

__all__ = ["DecayRule", "RuleName", "as_rule", "rule_names"]

# The names of the rules that are here, for type checkers. A rule of your own has its name at run
# time; where types are checked, hand over the rule itself, or `as_rule` of its name.
RuleName: TypeAlias = Literal[
    "adaptive",
    "anchored",
    "cautious",
    "constant",
    "corrected",
    "decoupled",
    "huber",
    "independent",
    "l2",
    "norm_control",
    "power",
    "preconditioned",
    "proximal",
    "proximal_l1",
    "proximal_norm",
    "stable",
]


class DecayRule(ABC):
    """One way to decide which fraction of each weight a step removes.

    A subclass is a frozen dataclass with a ``name`` (its key in checkpoints) and, usually, one
    expression: :meth:`rate`. Defining it registers it, so that ``decay="name"``,
    ``load_state_dict`` and ``torch.load`` with its defaults find it.

    Attributes:
        name: key of the rule.
        requires: what the base optimizer must declare; see `halflife.rules.facts`.
        removes_fraction: whether `fraction` is a share of each weight, which 1 bounds; False where
            it is a threshold in units of the weights, or where nothing is removed.

    Raises:
        TypeError: for a subclass that overrides `fraction`, which is ``weight_decay * rate``.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class HalfDecoupled(DecayRule):
        ...     name = "half_decoupled"
        ...     def rate(self, step):
        ...         return 0.5 * step.lr
        >>> as_rule("half_decoupled").fraction(Step(lr=0.5, weight_decay=0.5))
        0.125
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    removes_fraction: ClassVar[bool] = True
    _registry: ClassVar[dict[str, type[DecayRule]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the rule under its name."""
        super().__init_subclass__(**kwargs)
        if "fraction" in vars(cls):
            raise TypeError(
                f"{cls.__name__}.fraction: is weight_decay * rate, so that strengths can be turned "
                "into coefficients; override rate instead."
            )
        if name := vars(cls).get("name"):
            cls._registry[name] = cls
        # A rule may be in what others save: groups kept by hand, wrappers, state-dict hooks.
        torch.serialization.add_safe_globals([cls])

    def __str__(self) -> str:
        """Its name, where the name alone makes it, as tables have it; else as code has it."""
        known = self._registry.get(getattr(self, "name", ""))
        try:
            plain = known is type(self) and self == known()
        except (TypeError, RuntimeError):  # it needs an argument, or holds a tensor
            plain = False
        return self.name if plain else repr(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the base optimizer must declare; see `halflife.rules.facts`."""
        return self.requires

    @property
    def follows_gradients(self) -> bool:
        """Whether the fraction follows what a step measures: it is known in training only.

        Such a fraction is clamped at 1, where any other that reaches 1 is the user's error.
        """
        return any(name in MEASURED for name in self.needs)

    @property
    def spans_model(self) -> bool:
        """Whether what one weight loses depends on all others: on a norm over the whole model."""
        return self.follows_gradients

    @property
    def joins_gradient(self) -> bool:
        """Whether it adds a multiple of the weights to the gradient (`gradient_coefficient`)."""
        return type(self).gradient_coefficient is not DecayRule.gradient_coefficient

    @property
    def uniform(self) -> bool:
        """Whether every weight loses the same fraction, and nothing else happens to it."""
        return self.removes_fraction and not self.joins_gradient

    @property
    def scales_step(self) -> bool:
        """Whether it changes the size of the step (`direction_scale`)."""
        return type(self).direction_scale is not DecayRule.direction_scale

    @abstractmethod
    def rate(self, step: Step) -> Scalar:
        """Fraction removed per unit of ``weight_decay``: ``d = weight_decay * rate``."""

    @final
    def fraction(self, step: Step) -> Scalar:
        """Fraction ``d`` of each weight removed at this step (dimensionless)."""
        return step.weight_decay * self.rate(step)

    def coefficient(self, fraction: Scalar, step: Step) -> Scalar:
        """The ``weight_decay`` that removes ``fraction`` at this step: inverse of `fraction`.

        Raises:
            ValueError: if no coefficient does (the rate is zero at this step).
        """
        rate = self.rate(step)
        if not isinstance(rate, Tensor) and rate == 0.0:
            raise ValueError(
                f"fraction={fraction}: {self!r} removes nothing at lr={step.lr}, so no "
                "weight_decay gives that fraction; ask at the peak lr, or pass a number as "
                "weight_decay."
            )
        return fraction / rate

    def direction_scale(self, step: Step) -> Scalar:
        """``s / lr``: what the rule does to the size of the base optimizer's own step."""
        return 1.0

    def gradient_coefficient(self, step: Step) -> Scalar:
        """Multiple of the weights added to the gradient before the base optimizer sees it."""
        return 0.0

    def as_dict(self) -> dict[str, Any]:
        """The rule as plain data, as ``state_dict`` stores it.

        Example:
            >>> from halflife import Independent, Proximal
            >>> Proximal(Independent()).as_dict()
            {'name': 'proximal', 'rule': {'name': 'independent'}}
        """
        values = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return {"name": self.name} | {
            key: value.as_dict() if isinstance(value, DecayRule) else value for key, value in values
        }


def rule_names() -> list[str]:
    """Names that ``decay=`` accepts, sorted.

    Example:
        >>> from halflife import Independent
        >>> Independent.name in rule_names()
        True
    """
    return sorted(DecayRule._registry)


def as_rule(rule: DecayRule | str | dict[str, Any]) -> DecayRule:
    """The rule meant by an object, a name, or the plain data of `DecayRule.as_dict`.

    Raises:
        ValueError: for an unknown name, naming the nearest known one.
        TypeError: for anything that is no rule.

    Example:
        >>> from halflife import Corrected
        >>> as_rule("corrected") == Corrected()
        True
    """
    if isinstance(rule, DecayRule):
        return rule
    if isinstance(rule, str):
        rule = {"name": rule}
    if not isinstance(rule, dict) or "name" not in rule:
        hint = f"; write {rule.__name__}()" if isinstance(rule, type) else ""
        raise TypeError(
            f"decay={rule!r}: must be a DecayRule, one of the names {rule_names()}, or None{hint}."
        )
    name, values = rule["name"], {k: v for k, v in rule.items() if k != "name"}
    if name not in DecayRule._registry:
        near = difflib.get_close_matches(str(name), rule_names(), n=1)
        raise ValueError(
            f"decay={name!r}: unknown rule{f', did you mean {near[0]!r}' if near else ''}; the "
            f"known ones are {', '.join(rule_names())} (a rule of your own must be imported first)."
        )
    nested = {
        k: as_rule(v) if isinstance(v, dict) and "name" in v else v for k, v in values.items()
    }
    return DecayRule._registry[name](**nested)
