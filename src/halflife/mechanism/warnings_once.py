"""What a training says once: that it removes another share of the weights than it was asked for.

Rules that divide by the peak refuse an lr above it. Under the others the half-life of a strength
would be shorter than asked by the ratio of the two, from the step on at which that begins.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import Scalar, known_number
from ..rules.contract import DecayRule
from ..rules.step import Step
from ..units.stated import STRAYED, highest_lr, strength_of
from .known import Known

__all__ = ["warn_above_strength", "warn_clamped"]


def warn_above_strength(optimizer: Optimizer, known: Known, step: Step, rate: Scalar) -> None:
    """Say once that a group removes more per step than its strength asked for.

    A rate on a device is not looked at, which would wait for it: there the audit and `describe`
    say it. Neither is one in a graph.
    """
    if torch.compiler.is_compiling() or (isinstance(rate, Tensor) and not rate.is_cpu):
        return
    most = known.most
    if most is None or not rate > most or optimizer.__dict__.get("_warned_strayed"):
        return
    if known_number(step.weight_decay) == 0.0:  # turned off since
        return
    kept = strength_of(known.group)
    assert kept is not None
    optimizer.__dict__["_warned_strayed"] = True
    lr, ratio = float(step.lr), STRAYED * float(rate) / most
    warnings.warn(
        f"{type(optimizer).__name__}: {kept['of']} of {step.label} became "
        f"weight_decay={kept['weight_decay']:.6g} at lr={kept['lr']:.6g}, and the lr is {lr:.6g}: "
        f"{known.rule!r} removes {ratio:.3g} times what was asked of a step; pass "
        f"peak_lr={highest_lr(known.group):.6g}, or whatever the schedule's "
        "highest lr is. (Said once.)",
        stacklevel=9,  # behind our step, torch's wrapper of it and the scheduler's
    )


def warn_clamped(optimizer: Optimizer, rule: DecayRule, step: Step, rate: Scalar) -> None:
    """Say once that the data asked for more than all of each weight."""
    if optimizer.__dict__.get("_warned_clamped"):
        return
    optimizer.__dict__["_warned_clamped"] = True
    asked = step.weight_decay * rate
    warnings.warn(
        f"{type(optimizer).__name__}: {rule!r} asked for the fraction {asked:.3g} of each "
        "weight in one step, clamped to 1: the gradients do not fit lr * weight_decay; "
        "lower weight_decay. (Said once.)",
        stacklevel=9,  # behind our step, torch's wrapper of it and the scheduler's
    )
