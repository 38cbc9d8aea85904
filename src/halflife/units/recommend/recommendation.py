"""A recommendation: the options, what to know about them, and code that runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from ...checks import is_number, near
from ...schedules import schedule_named
from ..convert import Setting, optimizer_named
from ..writing import duration, in_percent, number
from .options import CLASSES, DECAYS, DecayName, Option, Plan, options_for

__all__ = ["Recommendation", "recommend"]

_SAMPLED = 2000  # steps at which a schedule is looked at


@dataclass(frozen=True)
class Recommendation:
    """Where to start, what else there is, and the code for it; prints as text.

    Args:
        options: the recommended one first.
        steps: length of the run.
        steps_per_epoch: optimizer steps in an epoch.
        notes: what to know about all of them.
        code: Python that builds optimizer and scheduler for a ``model``.
        start: what the weights are at first, "initial" or "pretrained".
    """

    options: tuple[Option, ...]
    steps: int
    steps_per_epoch: int
    notes: tuple[str, ...]
    code: str
    start: str = "initial"

    @property
    def best(self) -> Option:
        """The recommended one."""
        return self.options[0]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        curve = {
            "constant": "constant()",
            "cosine": f"cosine({plan.steps})",
            "linear": f"linear({plan.steps})",
        }.get(schedule, f"schedule_named({schedule!r}, {plan.steps})")
        names.append(curve.partition("(")[0])
    return (
        "import halflife\n"
        f"from halflife.schedules import {', '.join(names)}\n"
        "\n"
        f"optimizer = halflife.{CLASSES[setting.optimizer]}(\n"
        "    halflife.param_groups(model),  # no decay for biases and norms\n"
        f"    lr={setting.lr!r},\n"
        f"{extra}"
        f"    weight_decay={option.argument},\n"
        f'    decay="{plan.decay}",\n'
        ")\n"
        f"scheduler = CurveLR(optimizer, {curve})"
    )


def _parameters(model: nn.Module | float) -> float:
    if isinstance(model, nn.Module):
        model = sum(p.numel() for p in model.parameters())
    if not is_number(model) or not 0 < model < math.inf:
        raise ValueError(f"model={model!r}: must be a model or its number of parameters, above 0.")
    return model


def _sampled(schedule: str | Callable[[int], float], steps: int) -> tuple[float, ...]:
    curve = schedule if callable(schedule) else schedule_named(schedule, steps)
    return tuple(curve(step) for step in range(0, steps, max(1, steps // _SAMPLED)))
