"""One training run: what is fixed for a whole landscape, what differs by member, what comes out.

`train` runs anything that can take a step and be evaluated. Two things can: `Single` (here), one
model with one of halflife's optimizers, as a user would write it; and
`halflife.lab.ensemble.Ensemble`, many models at once. The first is what the second is tested
against and timed against.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from halflife.decay import DecayRule, Step
from halflife.lab.prediction import mean_square
from halflife.lab.tasks import Data, Task, generator
from halflife.optim import SGD, Adam
from halflife.schedules import Curve, constant, cosine, linear, warmup
from halflife.settings import clamps
from halflife.strength import Base, base_of

__all__ = ["OPTIMIZERS", "SCHEDULES", "Member", "Outcome", "Single", "Training", "train"]


class Family(NamedTuple):
    """A base optimizer: torch's class, halflife's, and the settings both are given."""

    native: type[torch.optim.Optimizer]
    decayed: type[torch.optim.Optimizer]
    settings: Mapping[str, Any]


OPTIMIZERS: Mapping[str, Family] = {
    "adam": Family(torch.optim.Adam, Adam, {"betas": (0.9, 0.999), "eps": 1e-8}),
    "sgd": Family(torch.optim.SGD, SGD, {"momentum": 0.9, "dampening": 0.0}),
}

# A warm-up takes the first tenth of the run, as is usual for short ones.
SCHEDULES: Mapping[str, Callable[[int], Curve]] = {
    "constant": lambda total: constant(),
    "cosine": cosine,
    "linear": linear,
    "warmup-cosine": lambda total: warmup(total // 10, cosine(total - total // 10)),
}

_CURVE_POINTS = 20
_CURVE_ROWS = 500  # of the test set; all of it takes longer than the training


@dataclass(frozen=True)
class Member:
    """One run of a landscape.

    Args:
        rule: the decay rule.
        lr: peak learning rate.
        weight_decay: the rule's coefficient, in the rule's unit.
        seed: fixes data, label noise, initial weights and the order of the batches.
    """

    rule: DecayRule
    lr: float
    weight_decay: float
    seed: int


@dataclass(frozen=True)
class Training:
    """What all members share.

    Args:
        task: model, data, loss and error.
        optimizer: ``"adam"`` or ``"sgd"``; the rule comes with the member.
        epochs: passes over the training set.
        batch_size: rows per step; a partial batch at the end of an epoch is left out.
        schedule: name of the learning-rate schedule, a key of `SCHEDULES`.
        dtype: of weights and data.

    Raises:
        ValueError: for an unknown name or a number out of range.
    """

    task: Task
    optimizer: str
    epochs: int
    batch_size: int
    schedule: str
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if (value := getattr(self, name)) not in known:
                hint = " (AdamW is adam with the rule decoupled)" if value == "adamw" else ""
                raise ValueError(f"{name}={value!r}: must be one of {', '.join(known)}{hint}.")
        if self.epochs < 1:
            raise ValueError(f"epochs={self.epochs}: must be at least 1.")
        if not 1 <= self.batch_size <= self.rows:
            raise ValueError(
                f"batch_size={self.batch_size}: must be between 1 and the {self.rows} training "
                f"rows of {self.task.name}."
            )

    @cached_property
    def rows(self) -> int:
        """Rows of the training set."""
        return len(self.task.data(0).train_inputs)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of one pass."""
        return self.rows // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def family(self) -> Family:
        """The base optimizer."""
        return OPTIMIZERS[self.optimizer]

    def base(self, lr: float) -> Base:
        """What the theory needs to know of the base optimizer at a learning rate."""
        return base_of(self.family.native, dict(self.family.settings), lr)

    @cached_property
    def curve(self) -> Curve:
        """Multiplier of the peak learning rate, by step."""
        return SCHEDULES[self.schedule](self.steps)

    @cached_property
    def evaluated(self) -> list[int]:
        """Numbers of steps after which the model is evaluated; the last is the end of the run."""
        return sorted({-(-i * self.steps // _CURVE_POINTS) for i in range(1, _CURVE_POINTS + 1)})

    def model(self, seed: int) -> nn.Module:
        """The initial model of a seed; torch's global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator("model", seed).initial_seed())
            return self.task.model().to(self.dtype)

    def data(self, seed: int) -> Data:
        """The data of a seed, floating-point tensors in this dtype."""
        tensors = self.task.data(seed)
        return Data(*(t.to(self.dtype) if t.is_floating_point() else t for t in tensors))

    def batches(self, seed: int) -> Iterator[Tensor]:
        """Indices of the training rows of each step."""
        order = generator("order", seed)
        for _ in range(self.epochs):
            shuffled = torch.randperm(self.rows, generator=order)
            yield from shuffled.split(self.batch_size)[: self.steps_per_epoch]

    def evaluate(
        self, model: nn.Module, params: dict[str, Tensor], buffers: dict[str, Tensor], data: Data
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Training loss, test loss and test error (percent) on all of `data`, each 0-dim.

        The model's buffers, if any, are first set by one pass over the whole training set in
        training mode: with a batch-norm momentum of 1 they are then its statistics.
        """
        if buffers:
            functional_call(model.train(), (params, buffers), (data.train_inputs,))
        model.eval()
        train = functional_call(model, (params, buffers), (data.train_inputs,))
        test = functional_call(model, (params, buffers), (data.test_inputs,))
        loss, error = self.task.loss, self.task.error
        measured = (
            loss(train, data.train_targets),
            loss(test, data.test_targets),
            error(test, data.test_targets),
        )
        model.train()
        return measured


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        test_error: final, percent. A run that diverged has what its weights then score.
        test_loss: final.
        train_loss: final, over the whole training set.
        weight_rms: final RMS over all weight matrices (tensors of two or more dimensions).
        predicted_rms: the same by `halflife.lab.prediction`; None where there is no prediction.
        fraction: removed per step at the peak lr. Where it depends on the gradients (Stable): the
            sum over the run divided by that of the schedule's multipliers. None where the rule
            has none (L2), or for a `Single`, whose optimizer does not tell.
        curve: lists ``step``, ``train_loss`` and ``test_error``, the last over the first 500 rows
            of the test set.
        diverged: whether a loss or a weight is not finite.
        seconds: wall time, an equal share of the ensemble's.
    """

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

    members: Sequence[Member]

    def step(self, inputs: Tensor, targets: Tensor, multiplier: float) -> tuple[Any, Any] | None:
        """One step at this multiple of the peak lr: fraction and step size by member, if known."""

    def evaluate(self, data: Data) -> Tensor:
        """Rows training loss, test loss, test error; shape ``[3, E]``."""

    def mean_square(self) -> Tensor:
        """Mean square of the entries of all weight matrices, shape ``[E]``."""


def train(training: Training, trainee: Trainee) -> list[Outcome]:
    """Run to the end of the schedule.

    Returns:
        One outcome per member, in order.
    """
    start = time.perf_counter()
    members = trainee.members
    data = training.data(members[0].seed)
    some = data._replace(
        test_inputs=data.test_inputs[:_CURVE_ROWS], test_targets=data.test_targets[:_CURVE_ROWS]
    )
    initial = trainee.mean_square()
    rates, points = [], []
    for done, rows in enumerate(training.batches(members[0].seed)):
        batch = data.train_inputs[rows], data.train_targets[rows]
        if (rate := trainee.step(*batch, training.curve(done))) is not None:
            rates.append(rate)
        if done + 1 in training.evaluated:
            points.append(trainee.evaluate(some))
    curves = torch.stack(points).tolist()
    finals = trainee.evaluate(data).T.tolist()
    end_square = trainee.mean_square()
    seconds = (time.perf_counter() - start) / len(members)

    fractions: list[float | None] = [None] * len(members)
    predictions = fractions
    if rates:
        removed = torch.stack([d for d, _ in rates])
        fractions = _at_peak(training, members, removed)
        beta1 = training.base(members[0].lr).momentum if training.optimizer == "adam" else None
        if beta1 is not None:
            sizes = torch.stack([s for _, s in rates])
            predictions = mean_square(removed, sizes, beta1, initial).sqrt().tolist()
    outcomes = []
    for e, member in enumerate(members):
        train_loss, test_loss, test_error = finals[e]
        weight_rms = math.sqrt(end_square[e])
        # L2 joins the gradient: what it removes is up to the optimizer, and not predicted.
        known = member.weight_decay == 0.0 or member.rule.name != "l2"
        outcomes.append(
            Outcome(
                test_error=test_error,
                test_loss=test_loss,
                train_loss=train_loss,
                weight_rms=weight_rms,
                predicted_rms=predictions[e] if known else None,
                fraction=fractions[e] if known else None,
                curve={
                    "step": list(training.evaluated),
                    "train_loss": [losses[e] for losses, _, _ in curves],
                    "test_error": [errors[e] for _, _, errors in curves],
                },
                diverged=not math.isfinite(train_loss + test_loss + weight_rms),
                seconds=seconds,
            )
        )
    return outcomes


def _at_peak(
    training: Training, members: Sequence[Member], removed: Tensor
) -> list[float | None]:
    total = sum(map(training.curve, range(training.steps)))
    measured = (removed.sum(0) / total).tolist()
    return [
        measured[e]
        if clamps(m.rule)
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
        self._optimizer = training.family.decayed(
            self.model.parameters(),
            lr=member.lr,
            weight_decay=member.weight_decay,
            decay=member.rule,
            peak_lr=member.lr,
            **training.family.settings,
        )

    def step(self, inputs: Tensor, targets: Tensor, multiplier: float) -> None:
        """One step of the optimizer."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * multiplier
        self._training.task.loss(self.model(inputs), targets).backward()
        self._optimizer.step()
        self._optimizer.zero_grad()

    @torch.no_grad()
    def evaluate(self, data: Data) -> Tensor:
        """Training loss, test loss, test error; shape ``[3, 1]``."""
        params, buffers = dict(self.model.named_parameters()), dict(self.model.named_buffers())
        return torch.stack(self._training.evaluate(self.model, params, buffers, data))[:, None]

    @torch.no_grad()
    def mean_square(self) -> Tensor:
        """Mean square of the entries of all weight matrices, shape ``[1]``."""
        entries = torch.cat([p.flatten() for p in self.model.parameters() if p.dim() >= 2])
        return entries.double().square().mean(0, keepdim=True)
