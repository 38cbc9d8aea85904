"""How each group decays over the whole training, whoever wrote the optimizer."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ...base import Base, base_of
from ...decay import DecayRule, Decoupled, L2Regularization, Step
from ...describe import fraction_of
from ...maps import DecayMap
from ...native import NativeDecay, group_decay
from ...probe import Bench, copied
from ...theory import equilibrium
from .schedules import Course, Plan

__all__ = ["GroupDecay", "groups_of", "is_adaptive"]


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
        rule: the rule it follows, its own or natively; None if that is no rule of ours.
        native: what its ``weight_decay`` natively does; None if it has a rule of its own.
        base: what is known of the optimizer at the schedule's peak.
        fractions: share of each weight removed at each step; None if it cannot be known.
        note: why, or what to know about them.
    """

    label: str
    number: int
    index: int
    optimizer: Optimizer
    settings: dict[str, Any]
    course: Course
    rule: DecayRule | None
    native: NativeDecay | None
    base: Base
    fractions: Tensor | None
    note: str

    @property
    def has_own_rule(self) -> bool:
        """Whether the rule is one of ours and not the optimizer's native decay."""
        return self.native is None and self.rule is not None

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

    @cached_property
    def total(self) -> float | None:
        """Sum of the fractions over the training, ``K``."""
        return None if self.fractions is None else float(self.fractions.sum())

    @cached_property
    def rms(self) -> float | None:
        """Equilibrium RMS of the weights that the strongest step would lead to."""
        fraction, base = self.fraction, self.base
        if not fraction or fraction > 1.0 or base.momentum is None or base.update_rms is None:
            return None
        return equilibrium.rms(fraction, self.lr, base.momentum, base.update_rms)


def groups_of(optimizers: Sequence[Optimizer], plan: Plan) -> list[GroupDecay]:
    """Every group of every optimizer."""
    found = []
    for number, optimizer in enumerate(optimizers):
        several = f" of {type(optimizer).__name__}" if len(optimizers) > 1 else ""
        for index, group in enumerate(optimizer.param_groups):
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
    rule, native = group.get("decay"), None
    if not isinstance(rule, DecayRule):
        native = group_decay(optimizer, group)
        # Before the step or after it, the same fraction is removed.
        rule = Decoupled() if native.kind == "decoupled_after" else native.rule
    highest = float(course.lrs.max())
    base = _known(optimizer, group, highest)
    fractions, note = None, native.reason if native is not None else ""
    if not bool((course.weight_decays != 0.0).any()) or (native and native.kind == "absent"):
        fractions, note = torch.zeros_like(course.lrs), ""
    elif isinstance(rule, DecayMap) and not rule.removes_fraction:
        note = f"{rule!r} has a threshold and no fraction."
    elif rule is not None:
        peak = float(group.get("peak_lr") or (native and native.peak_lr) or highest)
        rate = base.effective_rate
        if rate is None and isinstance(rule, DecayRule):
            rate = getattr(optimizer, "last_effective_rate", None)
        fractions, note = _fractions(rule, course, peak, rate)
    return GroupDecay(
        label, number, index, optimizer, group, course, rule, native, base, fractions, note
    )


def _known(optimizer: Optimizer, group: dict[str, Any], lr: float) -> Base:
    try:
        return base_of(type(optimizer), group, lr)
    except (KeyError, TypeError, ValueError):  # a subclass with settings of its own
        return Base(type(optimizer).__name__, lr)


def _fractions(
    rule: DecayRule, course: Course, peak: float, rate: float | None
) -> tuple[Tensor | None, str]:
    # One step says whether it can be known; then all steps at once, as tensors.
    lr, decay = float(course.lrs.max()), float(course.weight_decays.max())
    known = math.nan if rate is None else rate
    value, note = fraction_of(rule, Step(min(lr, peak), peak, decay, lambda: known), rate)
    if value is None:
        return None, note
    if isinstance(rule, L2Regularization):
        return course.lrs * course.weight_decays * known, note
    highest = torch.tensor(peak, dtype=torch.float64)
    whole = Step(course.lrs, highest, course.weight_decays, lambda: known)
    return torch.as_tensor(rule.fraction(whole), dtype=torch.float64).expand_as(course.lrs), note


def is_adaptive(decay: GroupDecay) -> bool:
    """Whether twice the gradient does not make twice the update; found by running a step."""
    if decay.base.effective_rate is not None:
        return False
    make = functools.partial(copied, decay.optimizer, decay.settings)
    try:
        bench = Bench(make, 0.125, 1, torch.float64)
        updates = [
            after - start for start, after, _ in (bench.run(False, l2=c) for c in (1.0, 2.0))
        ]
    except Exception:  # it does not take the bench's tensors
        return True
    return not torch.allclose(2.0 * updates[0], updates[1], rtol=1e-4)
