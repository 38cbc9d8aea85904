"""How a recipe is run: where, in what precision, by how many processes, and what is kept of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...checks import near, require_count

__all__ = ["PRECISIONS", "STRATEGIES", "Options"]

STRATEGIES = ("auto", "ddp", "fsdp2")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true")
# What a run may go on with changed: none of these decides what a step computes.
_FREE = ("root", "checkpoint_every", "log_every", "until", "workers", "accelerator")


@dataclass(frozen=True)
class Options:
    """How a recipe is run.

    Args:
        root: where the data lies; default: as `halflife.lab.data.load` looks for it.
        seed: of weights, order, augmentation and dropout.
        devices: processes, each on a device of its own; on the CPU they share it.
        accelerator: ``"cpu"``, ``"cuda"``, ... or ``"auto"``, which is a GPU if there is one.
        precision: ``"32-true"``; ``"bf16-mixed"`` and ``"16-mixed"``, in which matrix products are
            taken in half precision and weights kept in float32, with a scaled loss for ``16``;
            ``"bf16-true"``, in which weights too are bfloat16.
        strategy: ``"ddp"``, each process with all weights; ``"fsdp2"``, weights, gradients and
            state sharded; ``"auto"``, DDP where there are several processes.
        compiled: whether the model is compiled.
        accumulate: pieces that a process computes its share of a batch in. Batch norm takes its
            means over a piece.
        ema: decay of an average of the weights, which is evaluated too; None for none.
        validation: rows to hold out of the official training set, or their share. Default: none of
            images, as the papers train; of text, the official part or a tenth.
        monitor_every: steps between what a `halflife.diagnostics.Monitor` samples into
            ``monitor.jsonl``; None for no monitor.
        checkpoint_every: steps between checkpoints. Default: an epoch.
        log_every: steps between writes of the metrics; each waits for the device once.
        until: step after which the run stops, to go on later. Default: the recipe's end.
        deterministic: on a GPU, kernels that give the same bits each time, which some slower ones
            do; without it a run that goes on may differ in the last bits. A CPU's always do.
        workers: processes that decode image files ahead of the training.
        model: settings of the model over those of the recipe.

    Raises:
        ValueError: for what cannot be run, or not together.
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
    validation: float | None = None
    monitor_every: int | None = None
    checkpoint_every: int | None = None
    log_every: int = 50
    until: int | None = None
    deterministic: bool = False
    workers: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name, known in (("strategy", STRATEGIES), ("precision", PRECISIONS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(
                    f"{name}={value!r}: must be one of {', '.join(known)}{near(value, known)}"
                )
        for name in ("devices", "accumulate", "log_every"):
            require_count(name, getattr(self, name), "pass 1 or more")
        for name in ("checkpoint_every", "until", "monitor_every"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name), "pass 1 or more, or leave it out")
        require_count("workers", self.workers, "pass 0 to read in this process", minimum=0)
        if self.ema is not None and not (0.0 < self.ema < 1.0 and math.isfinite(self.ema)):
            raise ValueError(f"ema={self.ema}: must be between 0 and 1; pass such as 0.999.")
        if self.strategy == "fsdp2":
            for name in ("ema", "monitor_every"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name}={getattr(self, name)}: needs whole weights in each process, which "
                        "strategy='fsdp2' shards; leave it out, or pass strategy='ddp'."
                    )

    def binding(self) -> dict[str, Any]:
        """What a run that goes on must have been begun with."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}
