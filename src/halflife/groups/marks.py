"""What a model says itself of the decay of its parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn

from .names import Parameter, Use

__all__ = ["Mark", "marks_of"]

# The state matrices of Mamba and S4, stored as logarithms; attributes of tensors do not survive
# a copy of the model, so they are known by name too.
_STATE = re.compile(r"^(A_(\w+_)?logs?|log_A(_real)?|inv_A_real|A_imag)$")  # A_b_log: Vim's
_SKIP = {"D": "A_log", "Ds": "A_logs", "D_b": "A_b_log"}  # Mamba's skip connection, beside them


class Mark(NamedTuple):
    """Settings that a model asks for, and where it does."""

    settings: dict[str, Any]
    reason: str

    @property
    def exempts(self) -> bool:
        """Whether it asks for no decay."""
        return self.settings.get("weight_decay") == 0


def marks_of(
    model: nn.Module, parameters: Sequence[Parameter], clean: Callable[[str], str]
) -> dict[int, Mark]:
    """The marks on a model's parameters, by the tensors' ``id``."""
    listed = dict(_listed(model, parameters, clean))
    found = {}
    for parameter in parameters:
        own = getattr(parameter.tensor, "_optim", None)
        settings: dict[str, Any] = {}
        reasons = []
        if isinstance(own, Mapping):
            settings = {key: value for key, value in own.items() if value is not None}
        if settings:
            text = ", ".join(f"{key}={value!r}" for key, value in settings.items())
            reasons = [f"marked _optim: {text}"]
        exempt = next((listed[n] for n in parameter.names if n in listed), None)
        if getattr(parameter.tensor, "_no_weight_decay", False):
            exempt = "marked _no_weight_decay"
        elif any(_is_state(use) for use in parameter.uses) and "weight_decay" not in settings:
            exempt = exempt or "part of a state space model"
        if exempt:
            settings, reasons = {**settings, "weight_decay": 0.0}, [exempt, *reasons]
        if settings:
            found[id(parameter.tensor)] = Mark(settings, "; ".join(reasons))
    return found


def _is_state(use: Use) -> bool:
    beside = _SKIP.get(use.attribute)
    is_beside = beside is not None and hasattr(use.module, beside)
    return is_beside or _STATE.match(use.attribute) is not None


def _listed(
    model: nn.Module, parameters: Sequence[Parameter], clean: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Clean names that modules list, and by what."""
    every = [name for parameter in parameters for name in parameter.names]
    for path, module in model.named_modules(remove_duplicate=False):
        exact = _values(module, "no_weight_decay")
        parts = _values(module, "no_weight_decay_keywords")
        if not exact and not parts:
            continue
        above = clean(f"{path}.") if path else ""
        below = {name: name[len(above) :] for name in every if name.startswith(above)}
        patterns = [entry for entry in exact if any(sign in entry for sign in "*?[")]
        for name, own in below.items():
            if own in exact or any(fnmatchcase(own, pattern) for pattern in patterns):
                yield name, "listed by no_weight_decay()"
            elif any(part in own for part in parts):
                yield name, "listed by no_weight_decay_keywords()"


def _values(module: nn.Module, name: str) -> set[str]:
    """What a method, a property or an attribute lists; timm's and Swin's convention."""
    value = getattr(module, name, None)
    value = value() if callable(value) else value
    if isinstance(value, bool):
        return {"*"} if value else set()
    if isinstance(value, str):
        return {value}
    return {str(entry) for entry in value} if isinstance(value, Iterable) else set()
