"""Trains a recipe: through Fabric, with checkpoints from which it goes on bit for bit.

A folder holds all of a run:

    run.json            recipe and options, by which another run is not taken for this one
    metrics.jsonl       a line for each logged step, and one for each evaluation
    checkpoint-STEP/    state; the newest that is whole is named by `latest`
    result.json         what it came to
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import require, require_count
from ..sweeping.display import Display
from ..trials.randomness import generators, set_generators
from .building import data_of, feed_of, model_of, optimizer_of, schedulers_of
from .recipe import Recipe

__all__ = ["Options", "RunError", "train"]

_LATEST = "latest"


class RunError(RuntimeError):
    """A run that cannot begin, or go on."""


@dataclass(frozen=True)
class Options:
    """How a recipe is run; none of it changes what a step computes but precision and compile.

    Args:
        root: where the data lies.
        seed: of weights, order, augmentation and dropout.
        devices: processes.
        accelerator: ``"cpu"``, ``"cuda"``, ... or ``"auto"``.
        precision: Fabric's: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"``, ``"bf16-true"``.
        strategy: ``"auto"``, ``"ddp"`` or ``"fsdp2"``.
        compiled: whether the model is compiled.
        accumulate: pieces that a batch is computed in.
        ema: decay of an average of the weights, which is evaluated too; None for none.
        checkpoint_every: steps between checkpoints; None: an epoch.
        log_every: steps between lines of metrics.
        until: step after which the run stops, as if it had been cut; None: the recipe's end.
        model_settings: over those of the recipe.
        data_settings: of the data's reader.
    """

    root: str | None = None
    seed: int = 0
    devices: int = 1
    accelerator: str = "auto"
    precision: str = "32-true"
    strategy: str = "auto"
    compiled: bool = False
    accumulate: int = 1
    ema: float | None = None
    checkpoint_every: int | None = None
    log_every: int = 50
    until: int | None = None
    model_settings: dict[str, Any] = field(default_factory=dict)
    data_settings: dict[str, Any] = field(default_factory=dict)


def train(
    recipe: Recipe, out: str | Path, options: Options = Options(), *, resume: bool = False,
    display: Display | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train a recipe, or go on with it.

    Returns:
        What it came to: metrics, seconds, throughput.
    """
    run = _Run(recipe, Path(out), options, display or Display())
    run.begin(resume)
    run.go()
    return run.finish()


class _Run:
    def __init__(self, recipe: Recipe, out: Path, options: Options, display: Display) -> None:
        from .fabric import launched

        self.recipe, self.out, self.options, self.display = recipe, out, options, display
        self.fabric = launched(options)
        self.data = data_of(recipe, options.root, **options.data_settings)
        self.feed = feed_of(
            recipe, self.data, seed=options.seed, rank=self.fabric.global_rank,
            world=self.fabric.world_size, device=self.fabric.device,
        )  # fmt: skip
        self.per_epoch = self.feed.steps_per_epoch
        self.total = recipe.epochs * self.per_epoch
        torch.manual_seed(options.seed)
        model = model_of(recipe, self.data, **options.model_settings)
        if recipe.time is None:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = optimizer_of(recipe, model, self.per_epoch)
        self.bare = model
        if options.compiled:
            model = torch.compile(model)  # type: ignore[assignment]
        self.model, self.optimizer = self.fabric.setup(model, optimizer)
        self.schedulers = schedulers_of(recipe, self.optimizer, self.per_epoch)
        self.step, self.carried, self.losses = 0, None, []
