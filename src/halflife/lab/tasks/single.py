"""One run from the initial weights to what is recorded of it.

`train` runs anything that can take a step and be evaluated. Two things can: `Single` (here), one
model with one of halflife's optimizers, as a user would write it; and
`halflife.lab.tasks.ensemble.Ensemble`, many models at once. The first is what the second is tested
against and timed against.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...rules.step import Step
from ...theory.transient import mean_square
from .task import Data
from .training import SCORES, Member, Training

__all__ = ["Scores", "Single", "Trainee", "train"]


@dataclass(frozen=True)
class Scores:
    """What a run came to.

    Attributes:
        val_error: final, percent, over the rows that settings are chosen on.
        test_error: final, percent, over the other rows of the test set. A run that diverged has
            what its weights then score.
        test_loss: final.
        train_loss: final, over the whole training set.
        weight_rms: final RMS over all weight matrices (tensors of two or more dimensions).
        predicted_rms: the same by `halflife.theory.transient`; None where there is no prediction.
        fraction: removed per step at the peak lr. Where it depends on the gradients (Stable): the
            sum over the run divided by that of the schedule's multipliers. None where the rule
            has none (L2), or for a `Single`, whose optimizer does not tell.
        curve: lists ``step`` and ``val_error``.
        diverged: whether a loss or a weight is not finite.
        seconds: wall time, an equal share of the ensemble's.
    """

    val_error: float
    test_error: float
    test_loss: float
    train_loss: float
    weight_rms: float
    predicted_rms: float | None
    fraction: float | None
    curve: dict[str, list[Any]]
    diverged: bool
    seconds: float


class Trainee(Protocol):
    """What `train` can run: E members that see the same batches."""

    @property
    def members(self) -> Sequence[Member]:
        """The runs."""

    def step(self, inputs: Tensor, targets: Tensor, multiplier: float) -> tuple[Any, Any] | None:
        """One step at this multiple of the peak lr: fraction and step size by member, if known."""

    def evaluate(self, data: Data, names: Sequence[str] = SCORES) -> Tensor:
        """What is asked for of `SCORES`; shape ``[len(names), E]``."""

    def mean_square(self) -> Tensor:
        """Mean square of the entries of all weight matrices, shape ``[E]``."""


def train(training: Training, trainee: Trainee, until: float = 1.0) -> list[Scores]:
    """Run to the end of the schedule, or of a share of its epochs.

    Returns:
        One outcome per member, in order.
    """
    start = time.perf_counter()
    members = trainee.members
    data = training.data(members[0].seed)
    initial = trainee.mean_square()
    rates, points = [], []
    last = math.ceil(until * training.epochs) * training.steps_per_epoch
    looks = sorted({*(n for n in training.evaluated if n < last), last})
    for done, rows in enumerate(training.batches(members[0].seed)):
        batch = data.train_inputs[rows], data.train_targets[rows]
        if (rate := trainee.step(*batch, training.curve(done))) is not None:
            rates.append(rate)
        if done + 1 in looks:
            points.append(trainee.evaluate(data, ("val_error",))[0])
        if done + 1 == last:
            break
    curves = torch.stack(points).tolist()
    finals = trainee.evaluate(data).T.tolist()
    end_square = trainee.mean_square()
    seconds = (time.perf_counter() - start) / len(members)

    fractions: list[float | None] = [None] * len(members)
    predictions = fractions
    if rates:
        removed = torch.stack([d for d, _ in rates])
        fractions = _at_peak(training, members, removed)
        beta1 = training.base(members[0].lr).momentum if training.optimizer == "adamw" else None
        if beta1 is not None:
            sizes = torch.stack([s for _, s in rates])
            predictions = mean_square(removed, sizes, beta1, initial).sqrt().tolist()
    outcomes = []
    for e, member in enumerate(members):
        train_loss, val_error, test_loss, test_error = finals[e]
        weight_rms = math.sqrt(end_square[e])
        # L2 joins the gradient: what it removes is up to the optimizer, and not predicted.
        # What a map removes is a fraction of some elements at most, or a length.
        none = member.weight_decay == 0.0
        known = none or member.rule.uniform
        outcomes.append(
            Scores(
                val_error=val_error,
                test_error=test_error,
                test_loss=test_loss,
                train_loss=train_loss,
                weight_rms=weight_rms,
                predicted_rms=predictions[e] if known else None,
                fraction=fractions[e] if known else None,
                curve={
                    "step": looks,
                    "val_error": [errors[e] for errors in curves],
                },
                diverged=not math.isfinite(train_loss + test_loss + weight_rms),
                seconds=seconds,
            )
        )
    return outcomes


def _at_peak(training: Training, members: Sequence[Member], removed: Tensor) -> list[float | None]:
    total = sum(map(training.curve, range(len(removed))))
    measured = (removed.sum(0) / total).tolist()
    return [
        measured[e]
        if m.rule.follows_gradients
        else float(m.rule.fraction(Step(m.lr, m.lr, m.weight_decay)))
        for e, m in enumerate(members)
    ]


class Single:
    """One model with halflife's own optimizer, as a user would train it.

    Args:
        training: what all members share.
        member: the run.
    """

    def __init__(self, training: Training, member: Member) -> None:
        self.members = [member]
        self._training = training
        self.model = training.model(member.seed)
        self.optimizer = training.kind.build(
            self.model.parameters(),
            lr=member.lr,
            weight_decay=member.weight_decay,
            decay=member.rule,
            peak_lr=member.lr,
        )

    def step(self, inputs: Tensor, targets: Tensor, multiplier: float) -> None:
        """Take one step of the optimizer."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * multiplier
        self._training.task.loss(self.model(inputs), targets).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def evaluate(self, data: Data, names: Sequence[str] = SCORES) -> Tensor:
        """What is asked for of `SCORES`; shape ``[len(names), 1]``."""
        params, buffers = dict(self.model.named_parameters()), dict(self.model.named_buffers())
        measured = self._training.evaluate(self.model, params, buffers, data, names)
        return torch.stack(measured)[:, None]

    @torch.no_grad()
    def mean_square(self) -> Tensor:
        """Mean square of the entries of all weight matrices, shape ``[1]``."""
        entries = torch.cat([p.flatten() for p in self.model.parameters() if p.dim() >= 2])
        return entries.double().square().mean(0, keepdim=True)
