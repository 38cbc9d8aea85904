"""The base optimizer of a sweep: one of halflife's, by class or name, and its settings."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer

from ... import optim
from ...bases.noise import Base, base_of
from ...checks import near
from ...rules.contract import DecayRule

__all__ = ["OptimizerKind", "made", "optimizer_name"]

# What torch calls Adam is AdamW under L2 here: the rule comes with the trial.
_ALSO = {"adam": "adamw"}
# As in most recipes; torch's own default is no momentum.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "sgd": {"momentum": 0.9},
    "amsgrad": {"amsgrad": True},
    "amsbound": {"amsbound": True},
}
_NAMES = {name.lower(): name for name in optim.__all__ if name != "Adam"}
_NAMES |= {"amsgrad": "AdamW", "amsbound": "AdaBound"}  # by a setting, and known by these names


@dataclass(frozen=True)
class OptimizerKind:
    """One of halflife's optimizers, without its rule.

    Args:
        name: of the class, whatever its case; ``"adam"`` is ``"adamw"``, as the rule comes with the
            trial (`halflife.L2Regularization` makes it torch's Adam). ``"amsgrad"`` and
            ``"amsbound"`` are AdamW and AdaBound with that setting.
        settings: of the optimizer; SGD's momentum is 0.9 unless it is given.

    Raises:
        ValueError: for another name, naming the nearest.

    Example:
        >>> OptimizerKind("SGD").base(0.1).momentum
        0.9
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the class."""
        key = self.name.strip().lower() if isinstance(self.name, str) else ""
        key = _ALSO.get(key, key)
        if key not in _NAMES:
            raise ValueError(
                f"optimizer={self.name!r}: must be one of {', '.join(_NAMES)}{near(key, _NAMES)}; "
                "with another optimizer, build it in the training from trial.lr, "
                "trial.weight_decay and trial.decay (halflife.attach)."
            )
        object.__setattr__(self, "name", key)
        object.__setattr__(self, "settings", {**_SETTINGS.get(key, {}), **self.settings})

    @property
    def cls(self) -> type[Any]:
        """The class."""
        return getattr(optim, _NAMES[self.name])

    def build(
        self,
        parameters: Iterable[Any],
        *,
        lr: float,
        weight_decay: float,
        decay: DecayRule,
        **settings: Any,
    ) -> Optimizer:
        """The optimizer with a rule."""
        known = {**self.settings, **settings}
        return self.cls(parameters, lr=lr, weight_decay=weight_decay, decay=decay, **known)

    def base(self, lr: float) -> Base:
        """What is known of it before it has taken a step, at a learning rate."""
        return base_of(self.cls, self._group, lr)

    @functools.cached_property
    def _group(self) -> dict[str, Any]:
        """Of one that is made to be asked: every cell of a sweep asks."""
        weights = [torch.zeros(1, 1, requires_grad=True)]
        group = self.cls(weights, lr=1.0, weight_decay=0.0, **self.settings).param_groups[0]
        return {name: value for name, value in group.items() if name not in ("params", "lr")}


def optimizer_name(cls: type[Any]) -> str:
    """The name of an optimizer's class: of halflife's and torch's as a sweep takes it.

    Example:
        >>> optimizer_name(torch.optim.AdamW), optimizer_name(torch.optim.Adam)
        ('adamw', 'Adam')
    """
    key = cls.__name__.lower()
    return key if key in _NAMES else cls.__name__


def made(base: Any, settings: Mapping[str, Any] | None = None) -> OptimizerKind:
    """A base optimizer from its class, its name, or as it is."""
    if isinstance(base, OptimizerKind):
        return base
    name = base.__name__ if isinstance(base, type) else str(base)
    return OptimizerKind(name, settings or {})
