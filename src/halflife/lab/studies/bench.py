"""What studies train: small networks, many at once, and what is measured of them.

A whole grid of one seed is one `Ensemble`: a study of hundreds of trainings takes a minute.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...rules.contract import DecayRule
from ..data.fashion_mnist import load_fashion_mnist
from ..models.perceptron import mlp
from ..tasks import Data, Digits, Member, Training, generator
from ..tasks.ensemble import LANES, Ensemble

__all__ = ["Bench", "Fashion", "Net", "grid", "task_of", "trained"]

PLAIN_SGD = (torch.optim.SGD, {"momentum": 0.0})


@dataclass(frozen=True)
class Net(Digits):
    """The digits with another network or another loss.

    Args:
        widths: of the hidden layers.
        slope: of the ReLU below 0.
        factor: of the loss.
    """

    widths: tuple[int, ...] = (64, 64)
    slope: float = 0.0
    factor: float = 1.0

    def model(self) -> nn.Module:
        """An MLP with He's initialisation."""
        return mlp([64, *self.widths, 10], batch_norm=self.batch_norm, slope=self.slope)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, times the factor."""
        return self.factor * F.cross_entropy(outputs, targets)


@dataclass(frozen=True)
class Fashion(Net):
    """Fashion-MNIST at 14 x 14 pixels: each seed draws its training images of the 60,000.

    Settings are chosen on the first 1000 of the official test images and told on the next 2000,
    the same in every seed.
    """

    images: int = 2000
    label_noise: float = 0.0
    batch_size: int = 100
    epochs: int = 20

    @property
    def description(self) -> str:
        """One sentence on model and data."""
        shape = "-".join(map(str, (196, *self.widths, 10)))
        return f"MLP {shape} on {self.images} images of Fashion-MNIST at 14 x 14 pixels"

    def model(self) -> nn.Module:
        """An MLP with He's initialisation."""
        return mlp([196, *self.widths, 10], batch_norm=self.batch_norm, slope=self.slope)

    def data(self, seed: int) -> Data:
        """Pixels standardised one by one; a deviation counts as 0.1 more than it is."""
        inputs, targets, held, held_targets = _fashion()
        chosen = torch.randperm(len(targets), generator=generator("split", seed))[: self.images]
        train = inputs[chosen]
        mean, deviation = train.mean(0), train.std(0) + 0.1
        labels = targets[chosen].clone()
        noise = generator("labels", seed)
        wrong = torch.randperm(self.images, generator=noise)
        wrong = wrong[: round(self.label_noise * self.images)]
        labels[wrong] = (labels[wrong] + torch.randint(1, 10, wrong.shape, generator=noise)) % 10
        return Data((train - mean) / deviation, labels, (held - mean) / deviation, held_targets)


@functools.cache
def _fashion() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = load_fashion_mnist(validation=1)

    def pooled(part: Any) -> tuple[Tensor, Tensor]:
        images = F.avg_pool2d(part.inputs.float() / 255.0, 2).flatten(1)
        return images, part.targets

    train, test = pooled(data.train), pooled(data.test)
    return train[0], train[1], test[0][:3000], test[1][:3000]


def task_of(kind: str, **settings: Any) -> Net:
    """The digits, Fashion-MNIST (``"fashion"``) or characters (``"text"``), with their settings."""
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    if kind == "text":
        from .bench_text import Characters

        return Characters(kind, **settings)
    return {"digits": Net, "fashion": Fashion}[kind](kind, **settings)


def grid(
    rule: DecayRule, lrs: Sequence[float], weight_decays: Sequence[float], seed: int
) -> list[Member]:
    """Every pair of a learning rate and a weight decay, in the order of a table's rows."""
    return [Member(rule, lr, wd, seed) for lr in lrs for wd in weight_decays]


class Bench:
    """Networks of one seed that have been trained, and what can be measured of them.

    Attributes:
        members: the runs.
        ensemble: their weights; has some members more, at the end.
        removed: fraction removed at each step; shape ``[steps, members]``.
        sizes: size of each step; likewise.
    """

    def __init__(self, training: Training, members: Sequence[Member], ensemble: Ensemble) -> None:
        self.training, self.members, self.ensemble = training, list(members), ensemble
        self.data = training.data(members[0].seed)
        self.removed = self.sizes = torch.zeros(0, len(members))

    def _own(self, values: Tensor) -> Tensor:
        return values[: len(self.members)]

    def scores(self) -> dict[str, list[float]]:
        """``val`` and ``test`` error in percent, ``train`` loss, ``norm`` of the weights, ``K``.

        ``K`` is the sum of the fractions that were removed. Lists have a number a member.
        """
        names = ("val_error", "test_error", "train_loss")
        val, test, loss = self.ensemble.evaluate(self.data, names)
        return {
            "val": self._own(val).tolist(),
            "test": self._own(test).tolist(),
            "train": self._own(loss).tolist(),
            "norm": self.norms().tolist(),
            "K": self.removed.sum(0).tolist(),
        }

    def norms(self) -> Tensor:
        """Euclidean norm of all parameters of each member."""
        return self._own(_norm(list(self.ensemble.params.values())))

    def rows(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """The first rows of the training set; all by default."""
        return self.data.train_inputs[:count], self.data.train_targets[:count]

    def gradients(self, inputs: Tensor, targets: Tensor, *, graph: bool = False) -> list[Tensor]:
        """Of the mean training loss over some rows, of each member; each ``[E, ...]``."""
        loss = self.ensemble.losses(inputs, targets).sum()
        params = list(self.ensemble.params.values())
        return list(torch.autograd.grad(loss, params, create_graph=graph))

    def gradient_norm(self) -> Tensor:
        """Norm of the gradient of the mean loss over the training set (G1), in training mode."""
        return self._own(_norm(self.gradients(*self.rows())))

    def objective_gradient_norm(self) -> Tensor:
        """The same of what the last step descended: the loss and ``d/s |w|^2 / 2``.

        There ``d`` is the fraction that it removed and ``s`` its size (Xie et al., Theorem 1).
        """
        weights = list(self.ensemble.params.values())
        coefficient = torch.zeros(len(weights[0]))
        coefficient[: len(self.members)] = (self.removed[-1] / self.sizes[-1]).float()
        parts = [
            g + _divided(w.detach(), 1.0 / coefficient)
            for g, w in zip(self.gradients(*self.rows()), weights, strict=True)
        ]
        return self._own(_norm(parts))

    def batch_gradient_norm(self) -> Tensor:
        """Mean squared norm of the gradients of the batches of an epoch (G2)."""
        inputs, targets = self.rows()
        size = self.training.batch_size
        parts = zip(inputs.split(size), targets.split(size), strict=True)
        squares = [_norm(self.gradients(*part)) ** 2 for part in parts]
        return self._own(torch.stack(squares).mean(0))

    def sharpness(self, rows: int = 500, iterations: int = 40) -> Tensor:
        """Largest eigenvalue, by size, of the Hessian on some rows: power iteration."""
        params = list(self.ensemble.params.values())
        gradients = self.gradients(*self.rows(rows), graph=True)
        random = generator("power", self.members[0].seed)
        v = [torch.randn(p.shape, generator=random) for p in params]
        value = torch.zeros(len(params[0]))
        for _ in range(iterations):
            norm = _norm(v).clamp_min(1e-30)
            v = [_divided(part, norm) for part in v]
            product = torch.autograd.grad(gradients, params, v, retain_graph=True)
            value = sum((a * b).flatten(1).sum(1) for a, b in zip(v, product, strict=True))  # type: ignore[assignment]
            v = [part.detach() for part in product]
        return self._own(value.detach())

    def only(self, index: int, factors: Tensor) -> None:
        """Give every member the weights of one of them, times a factor of its own."""
        padded = torch.ones(len(next(iter(self.ensemble.params.values()))))
        padded[: len(factors)] = factors
        with torch.no_grad():
            for p in self.ensemble.params.values():
                p.copy_(p[index] * padded.view(-1, *[1] * (p.dim() - 1)))

    def network(self, index: int) -> nn.Module:
        """The network of one member, in training mode, in double precision."""
        model = self.training.task.model().double()
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(self.ensemble.params[name][index])
        return model


def trained(
    task: Net,
    members: Sequence[Member],
    *,
    optimizer: str = "adamw",
    native: tuple[type[Any], Mapping[str, Any]] | None = None,
    schedule: str = "cosine",
    epochs: int | None = None,
    observe: Mapping[int, Callable[[Bench], None]] | None = None,
    before: Callable[[int, Ensemble], None] | None = None,
) -> Bench:
    """Train members of one seed to the end.

    Args:
        task: what they learn.
        members: the runs.
        optimizer: ``"adamw"`` or ``"sgd"`` (momentum 0.9).
        native: as `Ensemble` takes it.
        schedule: of the learning rate, by name.
        epochs: passes; by default the task's.
        observe: called when so many steps are done.
        before: called before each step with its number and the ensemble.
    """
    training = Training(
        task, optimizer, task.epochs if epochs is None else epochs, task.batch_size, schedule
    )
    padding = [members[-1]] * (-len(members) % LANES)
    ensemble = Ensemble(training, [*members, *padding], native)
    bench = Bench(training, members, ensemble)
    rates: list[tuple[Tensor, Tensor]] = []
    for step, rows in enumerate(training.batches(members[0].seed)):
        if before is not None:
            before(step, ensemble)
        batch = bench.data.train_inputs[rows], bench.data.train_targets[rows]
        rates.append(ensemble.step(*batch, training.curve(step)))
        if step + 1 == training.steps or (observe and step + 1 in observe):
            both = (torch.stack(each)[:, : len(members)] for each in zip(*rates, strict=True))
            bench.removed, bench.sizes = both
            if observe and step + 1 in observe:
                observe[step + 1](bench)
    return bench


def _norm(parts: Sequence[Tensor]) -> Tensor:
    squares = [part.double().flatten(1).square().sum(1) for part in parts]
    return torch.stack(squares).sum(0).sqrt().float()


def _divided(part: Tensor, by: Tensor) -> Tensor:
    return part / by.to(part.dtype).view(-1, *[1] * (part.dim() - 1))
