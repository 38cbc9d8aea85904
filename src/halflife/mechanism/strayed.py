"""A training in which a strength is silently another: its lr goes above the one it was resolved at.

Rules that divide by the peak refuse such an lr. The others would go on with a half-life that is
shorter than asked by the ratio of the two: that is said once, at the step where it begins.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import Scalar
from ..rules.step import Step
from ..units.stated import STRAYED, highest_lr, known_number, strength_of
from .known import Known

__all__ = ["warn_above_strength"]


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
