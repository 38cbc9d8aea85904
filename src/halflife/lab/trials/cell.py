"""The unit of work: one training, and what it came to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

__all__ = ["BASELINE", "Cell", "Outcome", "params_of"]

BASELINE = "none"  # the rule of the trainings without decay

Params = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Cell:
    """One training: a setting and a seed.

    Attributes:
        rule: the rule's name, or ``"none"`` without decay.
        lr: peak learning rate.
        weight_decay: the rule's own coefficient.
        seed: of whatever is random in the training.
        params: other parameters that are swept, by name, in the order of their names.
        strength: fraction removed per step at the central lr, where it is known. It says where the
            coefficient came from and is no part of what the cell is.

    Example:
        >>> Cell("decoupled", 1e-3, 0.1, 0).key
        '["decoupled",0.001,0.1,0,{}]'
    """

    rule: str
    lr: float
    weight_decay: float
    seed: int
    params: Params = ()
    strength: float | None = field(default=None, compare=False)

    @cached_property
    def key(self) -> str:
        """What the cell is, as text: the same for equal cells."""
        own = [self.rule, self.lr, self.weight_decay, self.seed, dict(self.params)]
        return json.dumps(own, separators=(",", ":"))

    @property
    def setting(self) -> tuple[Any, ...]:
        """The cell without its seed."""
        return (self.rule, self.lr, self.weight_decay, self.params)

    def with_seed(self, seed: int) -> Cell:
        """The same setting with another seed."""
        return replace(self, seed=seed)

    def as_dict(self) -> dict[str, Any]:
        """As the ledger's records name it."""
        return {
            "rule": self.rule,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "strength": self.strength,
            "seed": self.seed,
            "params": dict(self.params),
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Cell:
        """The cell that a record is of."""
        return cls(
            record["rule"],
            record["lr"],
            record["weight_decay"],
            record["seed"],
            params_of(record.get("params") or {}),
            record.get("strength"),
        )

    def __str__(self) -> str:
        words = [f"rule {self.rule}", f"lr {self.lr:.3g}"]
        if self.rule != BASELINE:
            words.append(f"weight_decay {self.weight_decay:.3g}")
        words += [f"{name} {value}" for name, value in self.params]
        return ", ".join([*words, f"seed {self.seed}"])


def params_of(values: Mapping[str, Any]) -> Params:
    """Parameters in the order of their names, as a cell has them."""
    return tuple(sorted(values.items()))


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        status: ``"done"``; ``"failed"`` with an `error`; or ``"paused"``, stopped at the share of
            the training that was asked for.
        metrics: by name, of the end or, where it was stopped, of the last report.
        curve: reports: lists ``"step"`` and one by metric; None without any.
        curve_unit: what they count: ``"epoch"``, ``"step"`` or ``"report"``; None if not known.
        progress: share of the training that is done, 0 to 1.
        error: the traceback.
        diverged: whether the training says so; a figure that is not finite says it by itself.
        seconds: wall time.
        epochs: of the whole training, by `Trial.epochs` or a framework; None if not known.
        steps: optimizer steps, where `Trial.optimizer` made the optimizer.
        optimizer: its name, where the trial made or watched it.
        settings: of the optimizer, where the trial made it; what is no plain data is left out.
        fraction: of each weight removed per step at the peak lr; None where there is none to tell.
        weight_rms: of the decayed weights at the end; None where they are not known.
        predicted_rms: the same by theory; None where there is no prediction.
        notes: what should be said once, of all trainings alike; not recorded.
    """

    status: str = "done"
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Mapping[str, list[Any]] | None = None
    curve_unit: str | None = None
    progress: float = 1.0
    error: str | None = None
    diverged: bool = False
    seconds: float = 0.0
    epochs: float | None = None
    steps: int | None = None
    optimizer: str | None = None
    settings: Mapping[str, Any] | None = None
    fraction: float | None = None
    weight_rms: float | None = None
    predicted_rms: float | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain data, to be recorded."""
        return {name: value for name, value in vars(self).items() if name != "notes"}
