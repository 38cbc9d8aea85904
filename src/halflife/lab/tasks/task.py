"""Tasks: what a landscape trains, and on what it is judged.

A task is a model, data, a loss and an error. Everything random about it follows from one seed:
which images are for training, which of their labels are wrong, the initial weights and the order
of the batches. Any object with these attributes is a task; ``module:attribute`` names one from
the command line.

The built-in tasks are made so that decay matters within seconds. On scikit-learn's digits a
network soon memorises everything and errs on 1 to 3 % of the test set whatever the decay. With
400 training images of which 20 % have a wrong label, memorising costs. Noise of 10 to 40 %, 200 to
800 images, 15 to 60 epochs and two initialisations were tried; with these and He's initialisation
the best Decoupled cell on Adam beat the best cell without decay by 1.6 points (standard error 0.3,
six seeds) without batch norm and by 2.9 (0.5) with it, at errors around 8 % that saturate nothing.
A test repeats the comparison on other seeds.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from .models import mlp

__all__ = ["Data", "Digits", "Task", "as_task", "find_task", "generator", "task_names"]


class Data(NamedTuple):
    """Inputs ``[rows, ...]`` and targets ``[rows, ...]`` for training and testing."""

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor


class Task(Protocol):
    """What can be trained as a landscape.

    The model must run under ``torch.vmap``: no dropout, and no branch on a tensor's value. `loss`
    is the mean over the rows of a batch; `error` is in percent. Both return 0-dim tensors.
    """

    @property
    def name(self) -> str:
        """How the ledger and the report name the task."""

    @property
    def description(self) -> str:
        """One sentence on model, data and noise, for the report."""

    @property
    def epochs(self) -> int:
        """Default number of passes over the training set."""

    @property
    def batch_size(self) -> int:
        """Default rows per step; the last, partial batch of an epoch is left out."""

    @property
    def schedule(self) -> str:
        """Default learning-rate schedule, by name."""

    def model(self) -> nn.Module:
        """A freshly initialised model; the caller has seeded torch's generator."""

    def data(self, seed: int) -> Data:
        """The data of this seed, in float32."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean training loss over the rows."""

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Test error over the rows, in percent."""


@dataclass(frozen=True)
class Digits:
    """Handwritten digits, 8x8 pixels, ten classes, with noisy labels (scikit-learn's digits).

    Each seed draws its own training images and its own wrong labels, so that a spread over seeds
    covers the choice of data too. All other images, with their true labels, are the test set.

    Args:
        name: how it is registered.
        batch_norm: normalise before each ReLU. For evaluation the statistics are those of the
            full training set.
        images: training images. The rest of the 1797 is for testing.
        label_noise: share of the training labels replaced by another class.
        epochs: default passes over the training set.
        batch_size: default rows per step.
        schedule: default learning-rate schedule.

    Example:
        >>> data = Digits("digits").data(seed=0)
        >>> data.train_inputs.shape, data.test_inputs.shape
        (torch.Size([400, 64]), torch.Size([1397, 64]))
    """

    name: str
    batch_norm: bool = False
    images: int = 400
    label_noise: float = 0.2
    epochs: int = 30
    batch_size: int = 50
    schedule: str = "cosine"

    @property
    def description(self) -> str:
        """One sentence on model, data and noise."""
        held = _digits()[1].numel() - self.images
        return (
            f"MLP 64-64-64-10 with ReLU{' and batch norm' if self.batch_norm else ''} on "
            f"{self.images} of scikit-learn's 8x8 digits, {100 * self.label_noise:g} % of the "
            f"training labels wrong, chosen on {held // 3} others and tested on {held - held // 3}"
        )

    def model(self) -> nn.Module:
        """An MLP with He's initialisation."""
        return mlp([64, 64, 64, 10], batch_norm=self.batch_norm)

    def data(self, seed: int) -> Data:
        """Pixels from 0 to 1, centred; a wrong label is any of the other nine classes.

        Of the test rows the first third, on which settings are chosen, is drawn with the training
        images for each seed; the others are the same images in every seed.
        """
        inputs, targets = _digits()
        # What is told is of the same images in every seed: none of them has chosen a setting.
        fixed = torch.randperm(len(targets), generator=generator("test", 0))
        held = len(targets) - self.images
        told, known = fixed[: held - held // 3], fixed[held - held // 3 :]
        order = known[torch.randperm(len(known), generator=generator("split", seed))]
        train, test = order[: self.images], torch.cat([order[self.images :], told])
        noise = generator("labels", seed)
        wrong = torch.randperm(self.images, generator=noise)
        wrong = wrong[: round(self.label_noise * self.images)]
        labels = targets[train].clone()
        labels[wrong] = (labels[wrong] + torch.randint(1, 10, wrong.shape, generator=noise)) % 10
        mean = inputs[train].mean(0)
        return Data(inputs[train] - mean, labels, inputs[test] - mean, targets[test])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs, targets)

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Share of wrong classes, in percent."""
        return 100.0 * (outputs.argmax(-1) != targets).to(outputs.dtype).mean()


_TASKS: dict[str, Task] = {
    task.name: task for task in (Digits("digits"), Digits("digits-bn", batch_norm=True))
}


def task_names() -> list[str]:
    """Names of the built-in tasks.

    Example:
        >>> task_names()
        ['digits', 'digits-bn']
    """
    return sorted(_TASKS)


def find_task(name: str) -> Task:
    """The built-in task of that name, or the user's own as ``module:attribute``.

    Raises:
        ValueError: for a name that is neither, naming the nearest one.

    Example:
        >>> find_task("digits").epochs
        30
    """
    if name in _TASKS:
        return _TASKS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        near = difflib.get_close_matches(name, task_names(), n=1)
        raise ValueError(
            f"task={name!r}: unknown task{f', did you mean {near[0]!r}' if near else ''}; the "
            f"built-in ones are {', '.join(task_names())}, and 'module:attribute' names your own."
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"task={name!r}: cannot be loaded ({error}); 'module:attribute' must name a Task that "
            "Python can import from here (see PYTHONPATH)."
        ) from error
    return as_task(found, f"task={name!r}")


def as_task(value: Any, where: str) -> Task:
    """A value that has what a task must have.

    Args:
        value: what was found.
        where: how it was named, for the message.

    Raises:
        ValueError: if it lacks some of it.
    """
    members = sorted(name for name in vars(Task) if not name.startswith("_"))
    missing = [name for name in members if not hasattr(value, name)]
    if missing or isinstance(value, type):
        why = f"has no {', '.join(missing)}" if missing else "is a class; name an instance of it"
        raise ValueError(f"{where}: must be a Task (see halflife.lab.tasks), and {why}.")
    return value


def generator(purpose: str, seed: int) -> torch.Generator:
    """Random numbers for one purpose of one seed, independent of those for any other purpose."""
    return torch.Generator().manual_seed(zlib.crc32(f"{purpose}/{seed}".encode()))


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    inputs, targets = load_digits(return_X_y=True)
    return torch.from_numpy(inputs / 16.0).float(), torch.from_numpy(targets)
