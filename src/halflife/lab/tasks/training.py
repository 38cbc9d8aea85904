"""What the runs of a landscape share: task, base optimizer, budget, schedule, random streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...bases.noise import Base
from ...rules.contract import DecayRule
from ...schedules import Curve, schedule_named
from ..trials.bases import OptimizerKind
from .task import Data, Task, generator

__all__ = ["SCORES", "STACKED", "Member", "Training", "val_rows"]


Weights: TypeAlias = Mapping[str, Tensor]


# What moves the members of a stack, and settings that are stated for being known to the theory.
STACKED: Mapping[str, tuple[type[Any], Mapping[str, Any]]] = {
    "adamw": (torch.optim.Adam, {"betas": (0.9, 0.999), "eps": 1e-8}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.0}),
}

_CURVE_POINTS = 20
_PIECE = 2000  # rows evaluated at a time: the activations of all would fill the memory

# What a run is judged by.
SCORES = ("train_loss", "val_error", "test_loss", "test_error")


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
        optimizer: the name of one of halflife's; the rule comes with the member, so that
            ``"adamw"`` under L2 is torch's Adam.
        epochs: passes over the training set.
        batch_size: rows per step; a partial batch at the end of an epoch is left out.
        schedule: name of the learning-rate schedule (`halflife.schedules.schedule_named`).
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
        object.__setattr__(self, "optimizer", OptimizerKind(self.optimizer).name)
        if not (_is_count(self.epochs) and self.epochs >= 1):
            raise ValueError(f"epochs={self.epochs!r}: must be at least 1, an integer.")
        if not (_is_count(self.batch_size) and 1 <= self.batch_size <= self.rows):
            raise ValueError(
                f"batch_size={self.batch_size!r}: must be between 1 and the {self.rows} training "
                f"rows of {self.task.name}."
            )
        schedule_named(self.schedule, self.steps, self.steps_per_epoch)

    @cached_property
    def rows(self) -> int:
        """Rows of the training set."""
        return len(self.task.data(0).train_inputs)

    @cached_property
    def test_rows(self) -> int:
        """Rows of the test set."""
        return len(self.task.data(0).test_inputs)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of one pass."""
        return self.rows // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @cached_property
    def kind(self) -> OptimizerKind:
        """The base optimizer with its settings."""
        _, settings = STACKED.get(self.optimizer, (None, {}))
        return OptimizerKind(self.optimizer, settings)

    @property
    def stacks(self) -> bool:
        """Whether many members can be trained at once."""
        return self.optimizer in STACKED

    def base(self, lr: float) -> Base:
        """What the theory needs to know of the base optimizer at a learning rate."""
        return self.kind.base(lr)

    @cached_property
    def curve(self) -> Curve:
        """Multiplier of the peak learning rate, by step."""
        return schedule_named(self.schedule, self.steps, self.steps_per_epoch)

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
        self,
        model: nn.Module,
        params: Weights,
        buffers: Weights,
        data: Data,
        names: Sequence[str] = SCORES,
    ) -> tuple[Tensor, ...]:
        """What is asked for of `SCORES`, each 0-dim: losses, and errors in percent.

        ``val_error`` is over the first third of the test rows, on which settings are chosen;
        ``test_error`` and ``test_loss`` are over all others. Rows are evaluated a piece at a time.
        The model's buffers, if any, are first set by one pass over the whole training set in
        training mode: with a batch-norm momentum of 1 they are then its statistics.
        """
        if buffers:
            functional_call(model.train(), (dict(params), dict(buffers)), (data.train_inputs,))
        model.eval()
        weights, split = (dict(params), dict(buffers)), val_rows(len(data.test_inputs))
        parts = {
            "train": (data.train_inputs, data.train_targets),
            "val": (data.test_inputs[:split], data.test_targets[:split]),
            "test": (data.test_inputs[split:], data.test_targets[split:]),
        }
        outputs = {
            part: torch.cat(
                [functional_call(model, weights, (rows,)) for rows in inputs.split(_PIECE)]
            )
            for part, (inputs, _) in parts.items()
            if any(name.startswith(part) for name in names)
        }
        model.train()
        of = {"loss": self.task.loss, "error": self.task.error}
        return tuple(
            of[kind](outputs[part], parts[part][1])
            for part, _, kind in (name.partition("_") for name in names)
        )


def val_rows(test_rows: int) -> int:
    """Rows of a test set that settings are chosen on, the first third; the others report."""
    return test_rows // 3


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
