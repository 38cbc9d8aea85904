"""Findings about strength: over the schedule, the training's length, and in the weights' dtype."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...bases.wrappers import unwrapped
from ...rules.scalar import Corrected
from ...rules.step import Step
from ...units.stated import STRAYED, divides_by_peak, highest_lr, strength_of
from ...units.writing import counted, duration, in_percent
from .findings import Finding
from .groups import GroupDecay, moves_without_lr
from .precision import rounding_of
from .report import names_of
from .schedules import TrainingPlan, follows_metric, schedulers_in
from .subjects import Subject

__all__ = ["check_strength"]

_LARGE = 0.1  # half of a weight in 7 steps
_INERT = 0.01  # total decay: a hundredth of each weight in the whole training
_SMALL_LR = 0.01  # of the peak
_UNEVEN = 30.0
_KEPT = 0.5


def check_strength(
    groups: Sequence[GroupDecay],
    subjects: Sequence[Subject],
    plan: TrainingPlan,
    schedule: object,
    steps_per_epoch: float | None,
) -> Iterator[Finding]:
    """All findings about how much is removed, and when."""
    optimizers = {id(group.optimizer) for group in groups}
    schedulers = schedulers_in(schedule)
    for scheduler in schedulers:
        if id(unwrapped(scheduler.optimizer)) not in optimizers:
            yield Finding(
                "foreign-scheduler",
                f"schedule={type(scheduler).__name__} drives another "
                f"{type(scheduler.optimizer).__name__} than the one audited, whose lr will never "
                "change; build it with this optimizer.",
            )
    if plan.by_metric:
        name = next(type(s).__name__ for s in schedulers if follows_metric(s))
        yield Finding(
            "unknown-schedule",
            f"schedule={name} follows a metric that is not known before the training, so the lr "
            "was taken as constant.",
        )
    for group in groups:
        if not group.weight_decay > 0.0:
            continue
        if group.lr == 0.0:
            if not moves_without_lr(group):
                yield Finding(
                    "zero-lr",
                    f"lr=0 of {group.label}, throughout: its weight_decay={group.weight_decay:g} "
                    "does nothing; pass schedule= if it is a warm-up, or leave the parameters out.",
                )
            continue
        yield from _peak(group, plan.scheduled)
        if group.fractions is not None:
            yield from _size(group, plan.steps, steps_per_epoch, _is_lower(group, groups))
            if plan.scheduled:
                yield from _end(group)
            yield from _precision(group, subjects)
    yield from _uneven(groups)


def _is_lower(group: GroupDecay, groups: Sequence[GroupDecay]) -> bool:
    """Whether its lr, by layer, is what makes its decay small: another group's is not inert."""
    return any(
        other.number == group.number
        and other.weight_decay == group.weight_decay
        and other.lr > group.lr
        and (other.total or 0.0) >= _INERT
        for other in groups
    )


def _size(
    group: GroupDecay, steps: int | None, steps_per_epoch: float | None, is_lower: bool
) -> Iterator[Finding]:
    fraction, total = group.fraction or 0.0, group.total or 0.0
    setting = group.setting
    if fraction >= 1.0 and not group.joins_gradient:
        yield Finding(
            "sign-flip",
            f"{setting} removes the fraction {fraction:.3g} of each weight in a step, and 1 or "
            "more flips its sign; lower it, or the lr.",
        )
        return
    if fraction >= _LARGE:
        yield Finding(
            "large-fraction",
            f"{setting} removes the fraction {fraction:.3g} of each weight in a step, half of it "
            "within 7 steps; is the value in the unit of another rule? Lower it.",
        )
        return
    if not fraction:
        return
    timescale = 1.0 / fraction
    several_epochs = steps is None or steps_per_epoch is None or steps > 1.5 * steps_per_epoch
    if steps_per_epoch is not None and several_epochs and timescale < steps_per_epoch:
        yield Finding(
            "short-timescale",
            f"{setting} has a timescale of {duration(timescale, timescale / steps_per_epoch)}: "
            "the weights forget part of the data; one "
            "epoch to the whole training is usual, so lower it.",
        )
    if steps is not None and total < _INERT and not is_lower:
        yield Finding(
            "inert-decay",
            f"{setting} removes {total:.2g} of each weight in all {counted(steps, 'step')}, which "
            "is next to nothing; set it by halflife.Timescale(steps=...), or to 0.",
        )
    elif steps is not None and timescale > steps:
        yield Finding(
            "weak-decay",
            f"{setting} has a timescale of {duration(timescale)}, longer than the training's "
            f"{steps:,}: {total:.2g} of each weight is removed in all.",
        )


def _peak(group: GroupDecay, scheduled: bool) -> Iterator[Finding]:
    if group.rule is None:
        return
    native = group.native
    peak = float(group.settings.get("peak_lr") or (native and native.peak_lr) or group.lr)
    # What a scheduler that was not passed has written into the group is all that is known of it.
    highest = group.lr if scheduled else max(group.lr, highest_lr(group.settings))
    if divides_by_peak(group.rule):
        if highest > peak * (1.0 + 1e-9):
            yield Finding(
                "lr-above-peak",
                f"peak_lr={peak:g} of {group.label}: the schedule reaches lr={highest:g}, and "
                f"{group.rule} divides by the peak; pass peak_lr={highest:g}.",
            )
            return
        if group.lr < 0.99 * peak:
            yield Finding(
                "peak-not-reached",
                f"peak_lr={peak:g} of {group.label}: the schedule reaches only lr={group.lr:g}, so "
                f"{group.rule} removes at most {group.lr / peak:.2g} of what the peak would; "
                f"pass peak_lr={group.lr:g}.",
            )
            return
    yield from _strength(group, highest, peak)


def _strength(group: GroupDecay, highest: float, peak: float) -> Iterator[Finding]:
    """Whether a strength became a number at another lr than the schedule's highest."""
    kept = strength_of(group.settings)
    if not group.has_own_rule or group.rule is None or kept is None:
        return
    decay, asked, known = kept["weight_decay"], kept["rate"], group.reading.measured
    rate = float(group.rule.rate(Step(highest, peak, decay, lambda n: known.get(n, math.nan))))
    if asked / STRAYED <= rate <= asked * STRAYED or math.isnan(rate):
        return
    ratio = rate / asked
    times = f"{ratio:.3g} times" if ratio > 1.0 else f"only {ratio:.2g} of"
    yield Finding(
        "other-peak",
        f"{kept['of']} of {group.label} became weight_decay={decay:.6g} at lr={kept['lr']:g}, and "
        f"the schedule's highest lr is {highest:g}, where a step removes {times} what was asked; "
        f"pass peak_lr={highest:g}.",
    )


def _end(group: GroupDecay) -> Iterator[Finding]:
    lrs, fractions = group.course.lrs, group.fractions
    assert fractions is not None
    past = torch.arange(len(lrs)) > int(lrs.argmax())
    small = past & (lrs < _SMALL_LR * lrs.max())
    strong = fractions > 0.5 * fractions.max()
    if bool((small & strong).any()):
        first = int((small & strong).nonzero()[0])
        yield Finding(
            "decay-outlives-lr",
            f"weight_decay={float(group.course.weight_decays[first]):g} of {group.label}: at step "
            f"{first:,} the lr is down to {float(lrs[first]):.2g} and a step still removes "
            f"{float(fractions[first]):.2g} of each weight, with no updates to hold it up; let "
            "the decay follow the lr (decay='decoupled').",
        )
    elif bool(small.any()) and not isinstance(group.rule, Corrected):
        constant = float(fractions.max()) * len(lrs)
        yield Finding(
            "fading-decay",
            f"{group.setting} fades with the lr: the schedule removes {group.total:.2g} in total, "
            f"a constant lr {constant:.2g}, and the weights' equilibrium shrinks with the lr; "
            "decay='corrected' holds it.",
        )


def _precision(group: GroupDecay, subjects: Sequence[Subject]) -> Iterator[Finding]:
    by_dtype: dict[torch.dtype, list[Subject]] = {}
    for subject in subjects:
        if subject.group is group and subject.decays:
            by_dtype.setdefault(subject.tensor.dtype, []).append(subject)
    for dtype, concerned in by_dtype.items():
        tensors: list[Tensor] = [s.tensor for s in concerned]
        found = rounding_of(group, tensors)
        if found is None or found.kept is None or found.kept >= _KEPT:
            continue
        names, kind = tuple(s.name for s in concerned), str(dtype).removeprefix("torch.")
        yield Finding(
            "lost-in-precision",
            f"{kind} weights {names_of(names)} of {group.label}: a step removes the fraction "
            f"{group.fraction:.2g} at lr={group.strongest.lr:g}, rounding to nearest alone loses "
            f"all below {found.threshold:.2g}, and about {in_percent(max(0.0, found.kept))} of the "
            "decay is left; use an optimizer of halflife (stochastic rounding) or float32 weights.",
            names,
        )


def _uneven(groups: Sequence[GroupDecay]) -> Iterator[Finding]:
    decaying = sorted(
        ((group.fraction, group) for group in groups if group.fraction), key=lambda pair: pair[0]
    )
    if not decaying:
        return
    (low, slow), (high, quick) = decaying[0], decaying[-1]
    if high > _UNEVEN * low:
        yield Finding(
            "uneven-timescales",
            f"timescales differ: {duration(1 / high)} in {quick.label} "
            f"(lr={quick.strongest.lr:g}) and {duration(1 / low)} in {slow.label} "
            f"(lr={slow.strongest.lr:g}); give each group a halflife.Timescale if they are meant "
            "to average over the same time.",
        )
