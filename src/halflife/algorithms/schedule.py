"""The schedules that are part of a published algorithm, built for its optimizer."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from ..schedules import (
    CurveLR,
    JointScheduler,
    WeightDecayScheduler,
    cosine_warm_restarts,
    exponential,
    normalized_decay,
)

__all__ = [
    "exponential_decay",
    "restarts_with_normalized_decay",
    "theorem_decay",
    "warm_restarts",
]

_PAPER_END = math.exp(-1.25)  # 0.99999 over 100 epochs of ImageNet at batch size 1024


def warm_restarts(
    optimizer: Optimizer, *, steps_per_epoch: int, T_0: int = 10, T_mult: int = 2
) -> CurveLR:
    """Cosine cycles of the lr (SGDR).

    Args:
        optimizer: the optimizer; each group's lr is the peak of its cycles.
        steps_per_epoch: optimizer steps in an epoch.
        T_0: length of the first cycle. Unit: epochs.
        T_mult: factor from one cycle's length to the next.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        >>> scheduler = warm_restarts(optimizer, steps_per_epoch=1, T_0=2)
        >>> optimizer.step(); scheduler.step()
        >>> optimizer.param_groups[0]["lr"]
        0.25
    """
    return CurveLR(optimizer, cosine_warm_restarts(T_0, T_mult, steps_per_epoch=steps_per_epoch))


def restarts_with_normalized_decay(
    optimizer: Optimizer, *, steps_per_epoch: int, T_0: int = 100, T_mult: int = 2
) -> JointScheduler:
    """Cosine cycles of the lr, and in each the weight decay normalized to its length.

    A group's ``weight_decay`` is then the normalized coefficient, 0.025 to 0.05 in the paper.

    Args:
        optimizer: the optimizer; each group's lr is the peak of its cycles.
        steps_per_epoch: optimizer steps in an epoch, ``ceil(dataset_size / batch_size)``.
        T_0: length of the first cycle. Unit: epochs. Default 100 (the paper's).
        T_mult: factor from one cycle's length to the next. Default 2 (the paper's).

    Example:
        >>> import torch
        >>> weights = [torch.zeros(1, requires_grad=True)]
        >>> optimizer = torch.optim.SGD(weights, lr=0.5, weight_decay=0.25)
        >>> scheduler = restarts_with_normalized_decay(optimizer, steps_per_epoch=1, T_0=4)
        >>> optimizer.param_groups[0]["weight_decay"]  # 0.25 / sqrt(4)
        0.125
    """
    restarts = cosine_warm_restarts(T_0, T_mult, steps_per_epoch=steps_per_epoch)
    return JointScheduler(optimizer, lr=restarts, weight_decay=normalized_decay(restarts))


def exponential_decay(
    optimizer: Optimizer, *, rate: float = 0.99999, total: int | None = None
) -> WeightDecayScheduler:
    """Weight decay ``c1 rate^k`` at iteration k; the lr has a scheduler of its own.

    Args:
        optimizer: the optimizer; each group's weight decay is its c1.
        rate: factor per iteration. Default 0.99999 (the paper's, for 10^5 iterations and more).
        total: iterations of a shorter run: it ends at 0.29 of c1, as the paper's 100 epochs do.

    Example:
        >>> import torch
        >>> weights = [torch.zeros(1, requires_grad=True)]
        >>> optimizer = torch.optim.SGD(weights, lr=0.5, weight_decay=0.5)
        >>> scheduler = exponential_decay(optimizer, rate=0.5)
        >>> optimizer.step(); scheduler.step()
        >>> optimizer.param_groups[0]["weight_decay"]
        0.25
    """
    curve = exponential(rate) if total is None else exponential.reaching(_PAPER_END, total)
    return WeightDecayScheduler(optimizer, curve)


def theorem_decay(optimizer: Optimizer, *, c_inf: float) -> WeightDecayScheduler:
    """Weight decay ``lambda (1 - mu)^k``, ``mu = b2 c_inf^2 / delta``, as Theorem 2 has it.

    Args:
        optimizer: an `AdamDelta`; b2 (1 minus its second beta) and delta are the first group's.
        c_inf: bound on the largest gradient entry. Unit: that of the gradient.

    Example:
        >>> import torch
        >>> from halflife.optim.adam_delta import AdamDelta
        >>> weights = [torch.zeros(1, requires_grad=True)]
        >>> optimizer = AdamDelta(weights, betas=(0.5, 0.75), delta=0.5, weight_decay=0.5)
        >>> scheduler = theorem_decay(optimizer, c_inf=1.0)  # mu = 0.25 / 0.5
        >>> optimizer.step(); scheduler.step()
        >>> optimizer.param_groups[0]["weight_decay"]
        0.25
    """
    group = optimizer.param_groups[0]
    b2, delta = 1.0 - group["betas"][1], group["delta"]
    return WeightDecayScheduler(optimizer, exponential.theorem(b2=b2, c_inf=c_inf, delta=delta))
