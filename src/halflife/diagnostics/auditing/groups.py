"""How each group decays over the whole training, whoever wrote the optimizer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from ...bases.bench import Bench, copied
from ...bases.judging import NativeDecay
from ...bases.noise import Base
from ...rules.contract import DecayRule
from ...units.reading import Reading, read_group
from .schedules import Course, TrainingPlan

__all__ = ["GroupDecay", "groups_of", "is_adaptive", "moves_without_lr"]


_BEGINNING = 8  # steps after which an adaptive optimizer adapts


class Moment(NamedTuple):
    """One step of the training, with the numbers of that step."""

    step: int
    lr: float
    weight_decay: float


@dataclass(frozen=True, eq=False)
class GroupDecay:
    """One group and what its decay is at every step.

    Args:
        label: names it in messages.
        number: index of the optimizer.
        index: index of the group.
        optimizer: its optimizer.
        settings: the group itself.
        course: lr and weight decay of every step.
        reading: what its decay does.
        fractions: share of each weight removed at each step; None if it cannot be known.
        note: why, or what to know about them.
    """

    label: str
    number: int
    index: int
    optimizer: Optimizer
    settings: dict[str, Any]
    course: Course
    reading: Reading
    fractions: Tensor | None
    note: str

    @property
    def rule(self) -> DecayRule | None:
        """The rule it follows, its own or natively; None if that is no rule of ours."""
        return self.reading.rule

    @property
    def native(self) -> NativeDecay | None:
        """What its ``weight_decay`` natively does; None if it has a rule of its own."""
        return self.reading.native

    @property
    def joins_gradient(self) -> bool:
        """Whether its decay joins the gradient, as L2 does."""
        return self.rule is not None and self.rule.joins_gradient

    @property
    def base(self) -> Base:
        """What is known of the optimizer at the schedule's peak."""
        return self.reading.base

    @property
    def has_own_rule(self) -> bool:
        """Whether the rule is one of ours and not the optimizer's native decay."""
        return self.native is None and self.rule is not None

    @cached_property
    def strongest(self) -> Moment:
        """Where it removes most; of several steps, that of the highest lr."""
        lrs, decays = self.course
        removed = lrs * decays if self.fractions is None else self.fractions
        most = removed >= removed.max() * (1.0 - 1e-12)
        step = int(torch.where(most, lrs, -1.0).argmax())
        return Moment(step, float(lrs[step]), float(decays[step]))

    @cached_property
    def weight_decay(self) -> float:
        """The largest coefficient of the training."""
        return float(self.course.weight_decays.max())

    @cached_property
    def decays(self) -> bool:
        """Whether its weights decay at all, as far as is known."""
        if self.fractions is not None:
            return bool((self.fractions > 0.0).any())
        return self.weight_decay > 0.0 and (self.native is None or self.native.kind != "absent")

    @cached_property
    def fraction(self) -> float | None:
        """The largest share of each weight that a step removes."""
        return None if self.fractions is None else float(self.fractions.max())

    @cached_property
    def lr(self) -> float:
        """The highest lr of the training."""
        return float(self.course.lrs.max())

    @property
    def has_lr(self) -> bool:
        """Whether it has an lr at all: some optimizers choose theirs, and groups have None."""
        return self.settings.get("lr") is not None

    @property
    def setting(self) -> str:
        """Coefficient and lr of the step that removes most, for a message."""
        step, lr, weight_decay = self.strongest
        when = "" if lr == self.lr and weight_decay == self.weight_decay else f" (step {step:,})"
        return f"weight_decay={weight_decay:g} of {self.label} at lr={lr:g}{when}"

    @cached_property
    def total(self) -> float | None:
        """Sum of the fractions over the training, ``K``."""
        return None if self.fractions is None else float(self.fractions.sum())

    @cached_property
    def rms(self) -> float | None:
        """Equilibrium RMS of the weights that the strongest step would lead to."""
        return self.reading.rms_at(self.fraction, self.strongest.lr)


def groups_of(optimizers: Sequence[Optimizer], plan: TrainingPlan) -> list[GroupDecay]:
    """Every group of every optimizer that holds something.

    Trainers make two groups of any model, and decay nothing by the first where only gains train.
    """
    found = []
    for number, optimizer in enumerate(optimizers):
        several = f" of {type(optimizer).__name__}" if len(optimizers) > 1 else ""
        for index, group in enumerate(optimizer.param_groups):
            if not group["params"]:
                continue
            course = plan.courses[number][index]
            label = f"group {index}{several}"
            found.append(_group(label, number, index, optimizer, group, course))
    return found


def _group(
    label: str,
    number: int,
    index: int,
    optimizer: Optimizer,
    group: dict[str, Any],
    course: Course,
) -> GroupDecay:
    reading = read_group(optimizer, group, float(course.lrs.max()))
    fractions, note = _fractions(reading, course)
    return GroupDecay(label, number, index, optimizer, group, course, reading, fractions, note)


def _fractions(reading: Reading, course: Course) -> tuple[Tensor | None, str]:
    # One step says whether it can be known; then all steps at once, as tensors.
    highest, decay = float(course.lrs.max()), float(course.weight_decays.abs().max())
    _, note = reading.at(min(highest, reading.peak_lr), decay)
    return reading.fraction_at(course.lrs, course.weight_decays), note


def is_adaptive(decay: GroupDecay) -> bool:
    """Whether twice the gradients do not add twice as much to the update; found by running steps.

    Not by the first, as RAdam begins as plain momentum; and ASGD moves weights without gradients.
    """
    if decay.base.effective_rate is not None:
        return False
    try:
        bench = _bench(decay, _BEGINNING)
        still, once, twice = (b - a for a, b, _ in (bench.run(c) for c in (0.0, 1.0, 2.0)))
    except Exception:  # it does not take the bench's tensors
        return True
    return not torch.allclose(2.0 * (once - still), twice - still, rtol=1e-4)


def moves_without_lr(decay: GroupDecay) -> bool:
    """Whether its weights move at an lr of 0, so that it chooses its own; found by running steps.

    Adafactor with relative steps does.
    """
    try:
        bench = _bench(decay)
        bench.lrs = (0.0, 0.0)
        start, _, end = bench.run(True, (bench.weight_decay, bench.weight_decay))
    except Exception:  # it does not take the bench's tensors
        return False
    return not torch.equal(start, end)


def _bench(decay: GroupDecay, warm: int = 0) -> Bench:
    idle = 0 if decay.native is None else decay.native.idle
    make = functools.partial(copied, decay.optimizer, decay.settings)
    return Bench(make, 0.125, 1, torch.float64, warm=idle + warm)
