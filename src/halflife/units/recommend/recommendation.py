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
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {"options": [option.as_dict() for option in self.options]}

    def __str__(self) -> str:
        """Text for a person."""
        best = self.best
        lines = [
            f"Start with weight_decay {best.value:.4g}: {best.name}.",
            f"  half-life   {duration(best.half_life, best.half_life / self.steps_per_epoch)}",
            f"  timescale   {duration(best.timescale, best.timescale_epochs)}",
            f"  whole run   {duration(self.steps, self.steps / self.steps_per_epoch)}",
            f"  decay       {number(best.total)} in total, which leaves "
            f"{in_percent(1.0 - best.removed, 4)} of the {self.start} weights",
        ]
        if best.rms is not None:
            when = "" if best.total > 1.0 else ", which this run is too short to reach"
            lines.append(f"  weight RMS  {number(best.rms)} predicted at equilibrium{when}")
        lines += [f"  source      {best.source}", f"  tested      {best.validity}"]
        lines += [f"  note        {best.note}"] if best.note else []
        lines += ["", "Alternatives:"]
        for it in self.options[1:]:
            lines.append(
                f"  {it.value:<9.4g} {it.name}: {duration(it.timescale)}, total decay "
                f"{number(it.total)} ({'; '.join(filter(None, (it.source, it.note)))})"
            )
        lines += ["", *(f"Note: {note}." for note in self.notes), "", self.code]
        return "\n".join(lines)


def recommend(
    model: nn.Module | float,
    *,
    lr: float,
    batch: float,
    data: float,
    epochs: float | None = None,
    steps: int | None = None,
    unit: str = "samples",
    optimizer: str = "adamw",
    schedule: str | Callable[[int], float] = "cosine",
    decay: DecayName = "decoupled",
    finetune: bool = False,
    weight_decay: float | None = None,
    momentum: float | None = None,
) -> Recommendation:
    """A weight decay to start with, for a training of this size.

    A run of fewer than 100 steps gets the optimizer's usual number, as no rule for a whole run was
    tested on so few; averages over fewer are clipped there.

    Args:
        model: the model, or its number of parameters.
        lr: peak learning rate.
        batch: samples (or tokens) per step.
        data: samples (or tokens) of the data set.
        epochs: passes over it. Default 1, if ``steps`` is not given.
        steps: length of the run, in place of ``epochs``.
        unit: what is counted, "samples" or "tokens"; language models have a rule of their own.
        optimizer: "adamw", "lion" or "sgd".
        schedule: a name (`halflife.schedules.schedule_named`), or a function of the step.
        decay: decay rule of the number: "decoupled", "independent", "constant", "corrected" or
            "proximal".
        finetune: whether the model is pretrained: the options then say which share of its weights
            the run removes, and the recommended one removes least, 5 % at most.
        weight_decay: a number you already have, to be judged beside the others.
        momentum: beta1 or SGD's momentum. Default 0.9.

    Raises:
        ValueError: for what is out of range or unknown.

    Example:
        >>> plan = recommend(11_000_000, lr=1e-3, batch=128, data=50_000, epochs=100)
        >>> round(plan.best.timescale_epochs, 2), round(plan.best.value, 3)
        (10.0, 0.256)
    """
    parameters = _parameters(model)
    name = optimizer_named(optimizer)
    if decay not in DECAYS:
        raise ValueError(
            f"decay={decay!r}: must be one of {', '.join(DECAYS)}{near(decay, DECAYS)}"
        )
    if unit not in ("samples", "tokens"):
        raise ValueError(f"unit={unit!r}: must be 'samples' or 'tokens'.")
    for key, value in (("batch", batch), ("data", data), ("epochs", epochs)):
        if value is not None and not (is_number(value) and 0.0 < value < math.inf):
            raise ValueError(f"{key}={value!r}: must be a positive number.")
    if steps is not None and epochs is not None:
        raise ValueError(f"steps={steps}, epochs={epochs}: either says how long; leave one out.")
    per_epoch = math.ceil(data / batch)
    length = math.ceil(per_epoch * (epochs or 1.0)) if steps is None else steps
    if not isinstance(length, int) or length < 2:
        raise ValueError(f"steps={length!r}: must be an integer >= 2, the length of the run.")
    multipliers = _sampled(schedule, length)
    setting = Setting(lr=lr, optimizer=name, momentum=momentum, multipliers=multipliers)
    plan = Plan(setting, decay, per_epoch, length, batch, data)
    options = options_for(plan, parameters, unit, finetune)
    if weight_decay is not None:
        if not is_number(weight_decay) or not weight_decay >= 0.0:
            raise ValueError(f"weight_decay={weight_decay!r}: must be a number >= 0.")
        fraction = plan.convention.at(weight_decay, lr, 1.0, setting)[0]
        if not fraction < 1.0:
            raise ValueError(
                f"weight_decay={weight_decay!r} with decay={decay!r} at lr={lr!r}: must remove "
                f"less than a whole weight in a step, and removes {fraction:.3g} of it; lower it."
            )
        options.append(plan.option("yours", weight_decay, "you", ""))
    notes = _notes(plan, options, unit, finetune)
    code = _code(plan, options[0], schedule)
    start = "pretrained" if finetune else "initial"
    return Recommendation(tuple(options), length, per_epoch, tuple(notes), code, start)


def _notes(plan: Plan, options: list[Option], unit: str, finetune: bool) -> list[str]:
    notes = []
    for option in (option for option in options if option.name == "yours"):
        found = dict.fromkeys(plan.objection(option, tuning) for tuning in (finetune, False))
        notes += [
            f"weight_decay {option.value:.4g} {objection}" for objection in found if objection
        ]
    if finetune:
        notes.append(
            "for a decay that is felt and removes nothing of the pretrained weights, decay toward "
            "them: decay=halflife.Anchored(), with "
            f"weight_decay=halflife.Timescale(steps={max(2, plan.steps)})"
        )
    if unit == "tokens" and plan.epochs > 1.0:
        notes.append(
            f"the data are seen {plan.epochs:.3g} times: on repeated data the best decay was up to "
            "30 times the usual (Kim et al. 2025, arXiv 2509.14786), so search upward"
        )
    notes.append("all numbers are at the peak lr; the schedule scales them as the rule says")
    return notes


def _code(plan: Plan, option: Option, schedule: str | Callable[[int], float]) -> str:
    setting = plan.setting
    momentum = 0.9 if setting.momentum is None else float(setting.momentum)  # torch: no int
    extra = {
        "adamw": "" if setting.momentum is None else f"    betas=({momentum!r}, 0.999),\n",
        "lion": "" if setting.momentum is None else f"    betas=({momentum!r}, 0.99),\n",
        "sgd": f"    momentum={momentum!r},\n",
    }[setting.optimizer]
    curve, names = "your_schedule", ["CurveLR"]
    if not callable(schedule):
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
