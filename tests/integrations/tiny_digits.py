"""A model that keeps the batches it saw, and the loop that every framework has to equal."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import halflife

STEPS, BATCH = 12, 8
HALF_LIFE = halflife.HalfLife(steps=20)


class Digits(torch.utils.data.Dataset):
    """The first images of scikit-learn's digits."""

    def __init__(self, images: int = 512) -> None:
        digits = load_digits()
        self.x = torch.tensor(digits.data[:images], dtype=torch.float32) / 16
        self.y = torch.tensor(digits.target[:images])

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "labels": self.y[index]}


class Net(nn.Module):
    """Matrices first, so that the groups have the model's order and norms add up in one order."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(64, 24, bias=False), nn.Linear(24, 10, bias=False)
        self.norm, self.dropout = nn.LayerNorm(24), nn.Dropout(dropout)
        self.seen: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.seen.append({"x": x, "labels": labels})
        logits = self.last(self.dropout(self.norm(self.first(x)).relu()))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def parameters(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def random_states() -> tuple[Any, ...]:
    _, keys, *rest = np.random.get_state()
    return random.getstate(), keys.tolist(), rest, torch.get_rng_state()


def same(a: Any, b: Any) -> bool:
    """Whether two nested things are equal to the last bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def optimizer_for(model: nn.Module, **changes: Any) -> Any:
    settings = {"lr": 0.02, "weight_decay": HALF_LIFE, "decay": "independent", **changes}
    return halflife.AdamW(halflife.param_groups(model), **settings)


def scheduler_for(optimizer: Any) -> torch.optim.lr_scheduler.LRScheduler:
    """Three steps of warm-up, then down to a tenth."""
    return torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.25, total_iters=3),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 3, eta_min=0.002),
        ],
        milestones=[3],
    )


@dataclass(frozen=True)
class Setting:
    """How a framework is asked to train."""

    name: str
    clip: float | None = None
    accumulate: int = 1
    bf16: bool = False


SETTINGS = [
    Setting("plain"),
    Setting("clip", clip=0.5),
    Setting("accumulate", accumulate=2),
    Setting("bf16", bf16=True),
    Setting("everything", clip=0.5, accumulate=2, bf16=True),
]


def loop(
    setting: Setting,
    seen: list[dict[str, Tensor]],
    make: Callable[[nn.Module], Any] = optimizer_for,
    schedule: Callable[[Any], Any] = scheduler_for,
) -> tuple[list[Tensor], Any]:
    """Train a fresh model on these batches without any framework."""
    model = Net()
    optimizer = make(model)
    scheduler = schedule(optimizer)
    for index, batch in enumerate(seen):
        cast = torch.autocast("cpu", torch.bfloat16) if setting.bf16 else contextlib.nullcontext()
        with cast:
            loss = model(**batch)["loss"]
        (loss / setting.accumulate).backward()
        if (index + 1) % setting.accumulate:
            continue
        if setting.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return parameters(model), optimizer
