"""The learning rate and weight decay of every step, without touching the user's scheduler."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...bases.bench import unnoticed
from ...bases.wrappers import unwrapped
from ...checks import is_number

__all__ = ["Course", "TrainingPlan", "plan_of", "schedulers_in", "settled", "unread_scales"]


class Course(NamedTuple):
    """One group over the training: float64, one entry for each step."""

    lrs: Tensor
    weight_decays: Tensor


class TrainingPlan(NamedTuple):
    """What is known of the whole training.

    Args:
        courses: for each optimizer, one for each of its groups.
        steps: number of steps; None if unknown, and the courses then have one entry.
        scheduled: whether a schedule was given.
        by_metric: whether it follows a metric, so that nothing is known of it.
    """

    courses: list[list[Course]]
    steps: int | None
    scheduled: bool
    by_metric: bool = False


class _Shadow(Optimizer):
    """Groups with the settings of an optimizer, for a scheduler to write to."""

    def __init__(self, optimizer: Optimizer) -> None:
        names = ("params", "param_names")
        groups = [
            {k: copy.deepcopy(v) for k, v in group.items() if k not in names}
            | {"params": [torch.zeros(1)]}
            for group in optimizer.param_groups
        ]
        super().__init__(groups, dict(optimizer.defaults))

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""


def schedulers_in(schedule: Any) -> list[Any]:
    """The schedulers among what was given as a schedule, without accelerate's wrapper."""
    several = list(schedule) if isinstance(schedule, (list, tuple)) else [schedule]
    inner = [getattr(s, "scheduler", s) for s in several]
    return [s for s in inner if hasattr(s, "step") and hasattr(s, "optimizer")]


def plan_of(
    optimizers: Sequence[Optimizer],
    schedule: Any,
    steps: int | None,
    steps_per_epoch: float | None,
    interval: str,
    keep: Any,
) -> TrainingPlan:
    """The lr and weight decay of every step from here on.

    Args:
        optimizers: read, never written.
        schedule: as `audit` takes it.
        steps: steps to look at.
        steps_per_epoch: where the schedule moves once an epoch, when it does.
        interval: ``"step"`` or ``"epoch"``.
        keep: the model, which a scheduler may hold and which is not copied.

    Raises:
        ValueError: for a schedule that has no steps or no values.
        TypeError: for what is no schedule.
    """
    if schedule is None:
        return TrainingPlan([_still(o, steps) for o in optimizers], steps, False)
    if schedulers := schedulers_in(schedule):
        schedulers = [s for s in schedulers if any(unwrapped(s.optimizer) is o for o in optimizers)]
        if not schedulers:
            return plan_of(optimizers, None, steps, steps_per_epoch, interval, keep)
        if any(isinstance(s, ReduceLROnPlateau) for s in schedulers):
            still = [_still(optimizer, steps) for optimizer in optimizers]
            return TrainingPlan(still, steps, False, by_metric=True)
        steps = steps or _own_length(schedulers, interval, steps_per_epoch)
        if steps is None:
            raise ValueError(
                f"schedule={type(schedulers[0]).__name__}: the audit must know how many steps to "
                "follow it; pass steps=."
            )
        every = 1 if interval == "step" else max(1, round(steps_per_epoch or 1))
        return TrainingPlan(_followed(optimizers, schedulers, steps, every, keep), steps, True)
    multipliers, steps = _multipliers(schedule, optimizers, steps, steps_per_epoch, interval)
    courses = []
    for groups in (o.param_groups for o in optimizers):
        scales = unread_scales(groups, [_base(g) for g in groups])
        lrs = [_base(g) * scale * multipliers for g, scale in zip(groups, scales, strict=True)]
        full = [_full(g, len(multipliers)) for g in groups]
        courses.append([Course(*both) for both in zip(lrs, full, strict=True)])
    return TrainingPlan(courses, steps, True)


def settled(group: dict[str, Any]) -> float:
    """A group's lr, or the higher one that a warm-up is to reach."""
    values = [float(group.get(key) or 0.0) for key in ("lr", "initial_lr", "peak_lr")]
    return max(values)


def unread_scales(groups: Sequence[dict[str, Any]], lrs: Sequence[float]) -> list[float]:
    """What is yet to multiply each lr: its ``lr_scale``, timm's, where all lrs are one, else 1."""
    scales: list[Any] = [group.get("lr_scale") for group in groups]
    known = [float(scale) if is_number(scale) else 1.0 for scale in scales]
    return known if len(set(lrs)) == 1 and len(set(known)) > 1 else [1.0] * len(known)


def _base(group: dict[str, Any]) -> float:
    """What a function of the step multiplies."""
    return float(group.get("initial_lr", group.get("lr")) or 0.0)


def _still(optimizer: Optimizer, steps: int | None) -> list[Course]:
    """A constant lr, the one that a warm-up is to reach."""
    groups, count = optimizer.param_groups, steps or 1
    lrs = [settled(group) for group in groups]
    if len({float(group.get("lr") or 0.0) for group in groups}) > 1:  # what scales is at work
        lrs = [a * b for a, b in zip(lrs, unread_scales(groups, lrs), strict=True)]
    return [
        Course(torch.full((count,), lr, dtype=torch.float64), _full(group, count))
        for group, lr in zip(groups, lrs, strict=True)
    ]


def _full(group: dict[str, Any], count: int) -> Tensor:
    return torch.full((count,), _decay_of(group), dtype=torch.float64)


def _decay_of(group: dict[str, Any]) -> float:
    value: Any = group.get("weight_decay")
    return float(value) if is_number(value) or isinstance(value, Tensor) else 0.0


def _own_length(schedulers: list[Any], interval: str, steps_per_epoch: float | None) -> int | None:
    for scheduler in schedulers:
        own = getattr(scheduler, "total_steps", None) or getattr(scheduler, "T_max", None)
        if own:
            return round(own * (1 if interval == "step" else steps_per_epoch or 1))
    return None


def _followed(
    optimizers: Sequence[Optimizer], schedulers: list[Any], steps: int, every: int, keep: Any
) -> list[list[Course]]:
    shadows = [_Shadow(optimizer) for optimizer in optimizers]
    memo: dict[int, Any] = {id(o): s for o, s in zip(optimizers, shadows, strict=True)}
    memo |= {id(s.optimizer): memo[id(unwrapped(s.optimizer))] for s in schedulers}
    memo[id(keep)] = keep
    groups = [group for shadow in shadows for group in shadow.param_groups]
    seen: list[list[tuple[float, float]]] = [[] for _ in groups]
    with unnoticed():
        copies = copy.deepcopy(schedulers, memo)
        for step in range(steps):
            for values, group in zip(seen, groups, strict=True):
                values.append((float(group.get("lr") or 0.0), _decay_of(group)))
            if (step + 1) % every == 0 and step + 1 < steps:
                for scheduler in copies:
                    scheduler.step()
    courses = [Course(*torch.tensor(v, dtype=torch.float64).unbind(1)) for v in seen]
    found, start = [], 0
    for optimizer in optimizers:
        found.append(courses[start : start + len(optimizer.param_groups)])
        start += len(optimizer.param_groups)
    return found


def _multipliers(
    schedule: Any,
    optimizers: Sequence[Optimizer],
    steps: int | None,
    steps_per_epoch: float | None,
    interval: str,
) -> tuple[Tensor, int]:
    """What each step's lr is as a multiple of the group's own."""
    if callable(schedule):
        if steps is None:
            raise ValueError(
                "schedule is a function of the step: the audit must know how many steps to look "
                "at; pass steps=."
            )
        every = 1.0 if interval == "step" else steps_per_epoch or 1.0
        values = _evaluated(schedule, [int(step // every) for step in range(steps)])
    elif isinstance(schedule, (Sequence, Tensor)) or hasattr(schedule, "__array__"):
        first = _base(optimizers[0].param_groups[0]) or 1.0
        values = [float(value) / first for value in schedule]
        if steps is not None and steps != len(values):
            raise ValueError(
                f"steps={steps}: schedule has {len(values)} learning rates, one for each step; "
                "leave steps out."
            )
    else:
        raise TypeError(
            f"schedule={schedule!r}: must be a torch LRScheduler, a function of the step that "
            "multiplies the lr, or a sequence of learning rates."
        )
    if not values or not all(math.isfinite(v) and v >= 0.0 for v in values):
        raise ValueError(
            "schedule: must have at least one step and finite learning rates >= 0; correct the "
            "function or the sequence."
        )
    return torch.tensor(values, dtype=torch.float64), len(values)


def _evaluated(schedule: Callable[[int], float], at: list[int]) -> list[float]:
    with unnoticed():
        return [float(schedule(step)) for step in at]
