"""The files that an unfinished training goes on from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ...versions import counts_steps_for_scheduler
from .fabric import world_size
from .held import set_state, state_of
from .randomness import generators, set_generators
from .watching import Watch

__all__ = ["Checkpoint", "remove"]


class Checkpoint:
    """What is known of a training's state, and the files that hold it.

    Each loop over epochs has a file of its own, from which no other is restored: what stands
    between two loops then sees what it saw before.

    Args:
        path: of the first loop's file; None if nothing is to be kept.
        device: where the training trains.
        watch: its optimizers.
        held: generators that the training draws from and does not make itself.
        say: told why a training that is cut short begins anew, where it does.

    Attributes:
        models: of the training.
        kept: other objects with a state, by name.
        precision: of Fabric.
    """

    def __init__(
        self,
        path: Path | None,
        device: torch.device,
        watch: Watch,
        held: Sequence[Any],
        say: Callable[[str], None],
    ) -> None:
        # At once, as a training may change the folder that it is in.
        self._path = None if path is None else path.absolute()
        self._device, self._watch, self._held, self._say = device, watch, held, say
        self.models: list[nn.Module] = []
        self.kept: dict[str, Any] = {}
        self.precision: Any = None

    def usable(self) -> bool:
        """Whether the files can hold the training; what they cannot hold is said."""
        if self._path is None or not (self._watch.optimizers or self.kept):
            return False
        if why := self.unknown():
            self._anew(why)
        return not why

    def unknown(self) -> str:
        """What of the training the files cannot hold; empty where they can hold all."""
        if world_size() > 1:
            return "several processes train it together"
        if str(self.precision) in ("16", "16-mixed"):
            return "float16's scale of the loss is kept by Fabric"
        if self._watch.optimizers and not self.models and "model" not in self.kept:
            return "no model is known (pass the model to trial.optimizer, or trial.keep it)"
        for optimizer in self._watch.optimizers:
            scheduled = counts_steps_for_scheduler(optimizer.step)
            if scheduled and not any(_schedules(o, optimizer) for o in self.kept.values()):
                return "a scheduler acts on the optimizer and is not known: trial.keep it"
        return ""

    def save(self, loop: int, progress: Mapping[str, Any]) -> None:
        """Keep the training as it is now.

        Args:
            loop: number of the loop over epochs that it is in.
            progress: what else is to be kept, as plain data.
        """
        if self._path is None or not self.usable():
            return
        state = {
            **progress,
            "model": [m.state_dict() for m in self.models],
            "optimizer": [o.state_dict() for o in self._watch.optimizers],
            "kept": {name: value.state_dict() for name, value in self.kept.items()},
            "random": generators(),
            "held": [state_of(generator) for generator in self._held],
            "own": self._watch.counts(),
        }
        path = _file(self._path, loop)
        beside = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, beside)
            os.replace(beside, path)
        except (OSError, RuntimeError) as error:  # torch's writer says the latter of a full disk
            self._anew(f"{path.parent} cannot be written to ({error})")
            with contextlib.suppress(OSError):
                beside.unlink()

    def load(self, loop: int) -> dict[str, Any] | None:
        """What was kept of the loop with that number, put back; None if nothing can be."""
        if self._path is None or not (path := _file(self._path, loop)).exists():
            return None
        if not self.usable():
            return None
        state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
        for what, mine, theirs in (
            ("models", len(self.models), len(state["model"])),
            ("optimizers", len(self._watch.optimizers), len(state["optimizer"])),
            ("generators", len(self._held), len(state["held"])),
            ("kept objects", sorted(self.kept), sorted(state["kept"])),
        ):
            if mine != theirs:
                self._anew(f"its checkpoint has other {what} ({theirs}) than it has now ({mine})")
                return None
        for model, saved in zip(self.models, state["model"], strict=True):
            model.load_state_dict(saved)
        for optimizer, saved in zip(self._watch.optimizers, state["optimizer"], strict=True):
            optimizer.load_state_dict(saved)
        for name, saved in state["kept"].items():
            self.kept[name].load_state_dict(saved)
        self._watch.take_up(state["own"])
        set_generators(state["random"])
        for generator, saved in zip(self._held, state["held"], strict=True):
            set_state(generator, saved)
        return state

    def _anew(self, why: str) -> None:
        self._say(f"a training that is cut short begins anew, not from a checkpoint: {why}")


def remove(path: Path) -> None:
    """Delete the files of a training that needs them no more, and what a killed one left of one."""
    with contextlib.suppress(OSError):
        for file in path.parent.glob(f"{path.stem}*"):
            file.unlink()


def _file(path: Path, loop: int) -> Path:
    return path if loop == 0 else path.with_name(f"{path.stem}-{loop}{path.suffix}")


def _schedules(value: Any, optimizer: Optimizer) -> bool:
    return getattr(value, "optimizer", None) is optimizer
