"""The learning rate and weight decay of every step, without touching the user's scheduler."""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...bases.bench import unnoticed
from ...bases.wrappers import unwrapped
from ...checks import in_short, is_number

__all__ = [
    "Course",
    "TrainingPlan",
    "follows_metric",
    "plan_of",
    "schedulers_in",
    "settled",
    "unread_scales",
]

_INSTEAD = "pass the learning rates of all steps as a list instead"


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
    return [s for s in inner if callable(getattr(s, "step", None)) and hasattr(s, "optimizer")]


def follows_metric(scheduler: Any) -> bool:
    """Whether a scheduler's lr depends on what is measured in the training."""
    inner = (scheduler, getattr(scheduler, "lr_scheduler", None))  # the second: timm's
    if any(isinstance(s, ReduceLROnPlateau) for s in inner):
        return True
    return any(re.match("metric|.*loss", name) for name in _needed(scheduler.step))


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
        ValueError: for a schedule that has no steps or no values, or that cannot be followed.
        TypeError: for what is no schedule.
    """
    if schedule is None:
        return TrainingPlan([_still(o, steps) for o in optimizers], steps, False)
    if schedulers := schedulers_in(schedule):
        _check_all(schedule, schedulers)
        schedulers = [s for s in schedulers if any(unwrapped(s.optimizer) is o for o in optimizers)]
        if not schedulers:
            return plan_of(optimizers, None, steps, steps_per_epoch, interval, keep)
        if any(map(follows_metric, schedulers)):
            still = [_still(optimizer, steps) for optimizer in optimizers]
            return TrainingPlan(still, steps, False, by_metric=True)
        steps = steps or _own_length(schedulers, interval, steps_per_epoch)
        if steps is None:
            raise ValueError(
                f"schedule={type(schedulers[0]).__name__}: the audit must know how many steps to "
                "follow it; pass steps=."
            )
        per_epoch = None if steps_per_epoch is None else max(1, round(steps_per_epoch))
        every = 1 if interval == "step" else per_epoch or 1
        courses = _followed(optimizers, schedulers, steps, every, per_epoch, keep)
        return TrainingPlan(courses, steps, True)
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


def _check_all(schedule: Any, schedulers: list[Any]) -> None:
    """Refuse a list of schedulers in which something is none."""
    if isinstance(schedule, (list, tuple)) and len(schedulers) < len(schedule):
        known = {id(s) for s in schedulers}
        other = next(s for s in schedule if id(getattr(s, "scheduler", s)) not in known)
        raise TypeError(
            f"schedule={schedule!r}: {other!r} must be a scheduler too, with step() and optimizer, "
            f"as the others are; {_INSTEAD}."
        )


def _followed(
    optimizers: Sequence[Optimizer],
    schedulers: list[Any],
    steps: int,
    every: int,
    per_epoch: int | None,
    keep: Any,
) -> list[list[Course]]:
    shadows = [_Shadow(optimizer) for optimizer in optimizers]
    memo: dict[int, Any] = {id(o): s for o, s in zip(optimizers, shadows, strict=True)}
    memo |= {id(s.optimizer): memo[id(unwrapped(s.optimizer))] for s in schedulers}
    memo[id(keep)] = keep
    groups = [group for shadow in shadows for group in shadow.param_groups]
    seen: list[list[tuple[float, float]]] = [[] for _ in groups]
    drives = []
    with unnoticed():
        for scheduler in schedulers:
            own = _tried(scheduler, 0, copy.deepcopy, scheduler, memo)
            drives.append(_driver(own, every, per_epoch))
        for step in range(steps):
            for values, group in zip(seen, groups, strict=True):
                values.append((float(group.get("lr") or 0.0), _decay_of(group)))
            if step + 1 < steps:
                for scheduler, drive in zip(schedulers, drives, strict=True):
                    _tried(scheduler, step + 1, drive, step + 1)
    courses = [Course(*torch.tensor(v, dtype=torch.float64).unbind(1)) for v in seen]
    found, start = [], 0
    for optimizer in optimizers:
        found.append(courses[start : start + len(optimizer.param_groups)])
        start += len(optimizer.param_groups)
    return found


def _tried(scheduler: Any, step: int, call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except Exception as error:
        raise ValueError(
            f"schedule={type(scheduler).__name__}: a copy of it must run beside the optimizer, and "
            f"failed at step {step} ({in_short(error)}); {_INSTEAD}, or fewer steps=."
        ) from error


def _driver(scheduler: Any, every: int, per_epoch: int | None) -> Callable[[int], Any]:
    """What moves a scheduler as a training does, to be called with the number of steps taken.

    Torch's have ``step()``. Timm's have ``step(epoch)`` after each epoch and ``step_update(n)``
    after each step, and know which of the two changes the lr; they are followed from their start,
    as they keep no count. Others have one of the two as ``step``.

    Raises:
        TypeError: for another interface.
        ValueError: if it must be known how long an epoch is.
    """
    name, needed = type(scheduler).__name__, _needed(scheduler.step)
    update: Any = getattr(scheduler, "step_update", None)
    if not needed and update is None:
        return lambda done: scheduler.step() if done % every == 0 else None
    if update is None and len(needed) == 1 and re.search("step|update|iter", needed[0]):
        return scheduler.step
    if len(needed) != 1 or "epoch" not in needed[0]:
        raise TypeError(
            f"schedule={name}: its step({', '.join(needed)}) must need nothing, or the number of "
            f"epochs or of steps; {_INSTEAD}."
        )
    if per_epoch is None and (update is None or getattr(scheduler, "t_in_epochs", True)):
        raise ValueError(
            f"schedule={name} moves by the epoch: the audit must know how long one is; pass "
            "steps_per_epoch=len(dataloader)."
        )

    def move(done: int) -> None:
        if update is not None:
            update(done)
        if per_epoch is not None and done % per_epoch == 0:
            scheduler.step(done // per_epoch)

    return move


def _needed(method: Callable[..., Any]) -> list[str]:
    """The arguments without which a method cannot be called."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):  # not written in Python
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


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
    elif not isinstance(schedule, str) and (
        isinstance(schedule, (Sequence, Tensor)) or hasattr(schedule, "__array__")
    ):
        first = _base(optimizers[0].param_groups[0]) or 1.0
        values = [value / first for value in _numbers(schedule)]
        if steps is not None and steps != len(values):
            raise ValueError(
                f"steps={steps}: schedule has {len(values)} learning rates, one for each step; "
                "leave steps out."
            )
    else:
        raise TypeError(
            f"schedule={schedule!r}: must be a torch LRScheduler, a function of the step that "
            "multiplies the lr, or a list of the learning rates of all steps."
        )
    if not values or not all(math.isfinite(v) and v >= 0.0 for v in values):
        raise ValueError(
            "schedule: must have at least one step and finite learning rates >= 0; correct the "
            "function or the sequence."
        )
    return torch.tensor(values, dtype=torch.float64), len(values)


def _numbers(schedule: Any) -> list[float]:
    try:
        return [float(value) for value in schedule]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"schedule={type(schedule).__name__}: must hold one number for each step, the learning "
            f"rate, and one of its entries is none ({in_short(error)}); pass a flat list of them."
        ) from error


def _evaluated(schedule: Callable[[int], float], at: list[int]) -> list[float]:
    with unnoticed():
        try:
            return [float(schedule(step)) for step in at]
        except Exception as error:
            name = getattr(schedule, "__name__", type(schedule).__name__)
            raise TypeError(
                f"schedule={name}: must be a function of the step, a whole number from 0, that "
                f"returns the multiple of the lr, and failed ({in_short(error)}); wrap it in one, "
                "or pass the learning rates of all steps as a list."
            ) from error
