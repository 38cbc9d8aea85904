r"""What a training is given: its numbers, an optimizer with its rule, and a place to report to.

    def train(trial):
        model = make_model().to(trial.device)
        optimizer = trial.optimizer(model)
        for epoch in trial.epochs(10):
            fit(model, optimizer)
            trial.report(val=error(model, val))
        return {"val": error(model, val), "test": error(model, test)}

Python's, NumPy's and torch's generators are seeded with the trial's seed before the training is
called, so a training that draws from them repeats itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...checks import is_number, near, require, require_count
from ...groups import param_groups
from ...rules.contract import DecayRule, as_rule
from ...rules.scalar import Decoupled
from ...rules.step import Step
from ...versions import counts_steps_for_scheduler
from .bases import made
from .cell import BASELINE, Cell
from .fabric import made_fabric, world_size
from .randomness import Drawing, generators, set_generators
from .reports import Reports
from .watching import Watch

if TYPE_CHECKING:
    from .bases import OptimizerKind

__all__ = ["Paused", "Trial"]

_CHECKPOINT_EVERY = 30.0  # seconds: a training shorter than that never writes one


class Paused(BaseException):  # no error: the training is stopped where it was asked
    """Ends a training at the share that was asked for; leave it to pass."""


class Trial:
    """One training's numbers and services.

    Attributes:
        rule: name of the decay rule; ``"none"`` for the trainings without decay.
        lr: peak learning rate.
        weight_decay: the rule's own coefficient; 0 without decay.
        seed: of whatever is random.
        params: other swept parameters, by name; ``trial["momentum"]`` is one of them.
        device: where to train.
        until: share of the training after which it is stopped; `epochs` sees to that.

    Args:
        cell: what is trained.
        base: the base optimizer of the sweep.
        device: where to train.
        checkpoint: where the state of an unfinished training may be kept.
        until: share of the training after which it is stopped.
        fabric: arguments of Lightning's Fabric.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        base: OptimizerKind,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        until: float = 1.0,
        fabric: Mapping[str, Any] | None = None,
    ) -> None:
        self.rule, self.lr, self.weight_decay = cell.rule, cell.lr, cell.weight_decay
        self.seed, self.params = cell.seed, dict(cell.params)
        self.device = torch.device(device)
        self._base, self._path, self.until = base, checkpoint, until
        self._fabric_options, self._fabric = fabric, None
        self._kept: dict[str, Any] = {}
        self._rule = Decoupled() if self.rule == BASELINE else as_rule(self.rule)
        self._taken = False  # by the training
        self._watch = Watch(self._rule, self.lr)
        self._models: list[nn.Module] = []
        self._reports = Reports()
        self._done = self._total = 0
        self._within = False  # the body of the loop over epochs
        self._ahead = 0, 0  # what a loop other than `epochs` has done, and of how many
        self._epochs: float | None = None  # of that loop, which may count steps
        self.notes: list[str] = []

    def __getitem__(self, name: str) -> Any:
        """A swept parameter.

        Raises:
            KeyError: if the sweep has none of that name.
        """
        if name not in self.params:
            raise KeyError(
                f"trial[{name!r}]: this sweep has no such parameter; give its values as "
                f"sweep(..., params={{{name!r}: [...]}}){near(name, self.params)}."
            )
        return self.params[name]

    @property
    def decay(self) -> DecayRule:
        """The rule itself."""
        self._taken = True
        return self._rule

    # --- the optimizer ----------------------------------------------------------------------------

    def optimizer(
        self, parameters: nn.Module | Iterable[Any], base: Any = None, **settings: Any
    ) -> Optimizer:
        """The base optimizer with this trial's rule, learning rate and decay.

        Args:
            parameters: a model, of which `halflife.param_groups` decides what decays (no biases
                and no norms); or what torch's optimizers take, all of which decays.
            base: one of halflife's optimizer classes, or its name. Default: that of the sweep.
            **settings: of the optimizer, such as ``betas``; over those of the sweep.

        Returns:
            The optimizer, whose steps are counted, and which is in the trial's checkpoints.

        Example:
            >>> from halflife.lab.trials.bases import OptimizerKind
            >>> trial = Trial(Cell("independent", 1e-3, 1e-4, 0), base=OptimizerKind("adamw"))
            >>> optimizer = trial.optimizer(nn.Linear(2, 1))
            >>> type(optimizer).__name__, [g["weight_decay"] for g in optimizer.param_groups]
            ('AdamW', [0.0001, 0.0])
        """
        kind = self._base if base is None else made(base)
        if isinstance(parameters, nn.Module):
            self._models.append(parameters)
            parameters = param_groups(parameters, weight_decay=self.weight_decay)
        optimizer = kind.build(
            parameters, lr=self.lr, weight_decay=self.weight_decay, decay=self.decay, **settings
        )
        self._watch.add(optimizer, kind, {**kind.settings, **settings})
        return optimizer

    def watch(self, optimizer: Optimizer) -> Optimizer:
        """Count an optimizer's steps and keep it in checkpoints; for one made by other means."""
        self._watch.add(optimizer)
        return optimizer

    def knows(self, optimizer: Optimizer) -> bool:
        """Whether it is one of the trial's: made by `optimizer`, or watched."""
        return any(optimizer is one for one in self._watch.optimizers)

    # --- progress ---------------------------------------------------------------------------------

    def epochs(self, n: int) -> Iterator[int]:
        """Numbers of the epochs still to be trained: ``for epoch in trial.epochs(10)``.

        A training that was cut short goes on from its checkpoint, if the models and optimizers are
        known (by `optimizer` and `keep`); else from the start. After the share of the training that
        was asked for (`sampler="halving"`), the loop ends the training.

        Raises:
            Paused: after that share; a training leaves it to pass.
            ValueError: if n is no positive integer.
        """
        require_count("epochs", n, "pass the number of passes over the training set")
        self._total = n
        first = self._restore()
        last = math.ceil(self.until * n)
        saved = time.monotonic()
        for epoch in range(first, n):
            if epoch >= last:
                self._save(epoch)
                raise Paused
            self._within = True
            yield epoch
            self._done, self._within = epoch + 1, False
            if self._path and time.monotonic() - saved >= _CHECKPOINT_EVERY:
                self._save(epoch + 1)
                saved = time.monotonic()

    def advance(self, done: int, of: int, *, epochs: float | None = None) -> None:
        """Count what a loop other than `epochs` has done, such as a framework's.

        Such a training has no checkpoint: one that is cut short, or stopped by
        ``sampler="halving"``, begins anew when it is to go on.

        Args:
            done: epochs, or steps, so far.
            of: how many there will be.
            epochs: passes over the training set that all of them are, where that is known.

        Raises:
            Paused: after the share of the training that was asked for.
            ValueError: for epochs that are no positive number.
        """
        ok = epochs is None or (is_number(epochs) and 0.0 < epochs < math.inf)
        require(ok, "epochs", "a number of passes > 0", epochs, "leave it out if it is not known")
        self._ahead = done, of
        if epochs is not None:
            self._epochs = int(epochs) if float(epochs).is_integer() else float(epochs)
        if math.ceil(self.until * of) <= done < of:
            raise Paused

    def report(self, step: int | None = None, **metrics: float | Tensor) -> None:
        """Metrics of a moment in the training, for its learning curve.

        Args:
            step: when it was, in steps. Default: the number of epochs done; without `epochs`, what
                `advance` counted, or the number of reports so far.
            **metrics: by name; a tensor of one element is a number too.

        Raises:
            ValueError: for a metric that is no number.
        """
        if step is not None:
            unit = "step"
        elif self._total:
            # Within the loop's body the epoch is not counted as done yet.
            step, unit = self._done + self._within, "epoch"
        elif self._ahead[1]:
            step, unit = self._ahead[0], "step"
        else:
            step, unit = len(self._reports) + 1, "report"
        self._reports.add(step, unit, metrics)

    def keep(self, **objects: Any) -> None:
        """Put objects with ``state_dict`` and ``load_state_dict`` into the trial's checkpoints.

        A scheduler is one, and so are an average of the weights and a ``GradScaler``; a generator
        of torch's that the training made is taken too. What changes in a training and is not kept
        is as at the start when the training goes on.

        Raises:
            ValueError: for an object without them.
        """
        for name, value in objects.items():
            if isinstance(value, torch.Generator):
                objects[name] = Drawing(value)
            elif not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
                raise ValueError(
                    f"keep({name}=...): must have state_dict and load_state_dict, got "
                    f"{type(value).__name__}; keep the object that owns the state."
                )
        self._kept.update(objects)

    @property
    def fabric(self) -> Any:
        """Lightning's Fabric for this trial: device, precision, DDP or FSDP2, as the sweep says.

        ``sweep(..., fabric={"precision": "bf16-mixed"})`` gives its arguments; the processes of a
        strategy with more than one belong to one cell.
        """
        if self._fabric is None:
            self._fabric = made_fabric(self._fabric_options or {}, self.device, self.seed)
        return self._fabric

    # --- checkpoints ------------------------------------------------------------------------------

    def _unknown(self) -> str:
        """What of the training a checkpoint cannot hold; empty where it can hold all."""
        if world_size() > 1:
            return "several processes train it together"
        if str((self._fabric_options or {}).get("precision")) in ("16", "16-mixed"):
            return "float16's scale of the loss is kept by Fabric"
        if self._watch.optimizers and not self._models and "model" not in self._kept:
            return "no model is known (pass the model to trial.optimizer, or trial.keep it)"
        for optimizer in self._watch.optimizers:
            scheduled = counts_steps_for_scheduler(optimizer.step)
            kept = (getattr(o, "optimizer", None) for o in self._kept.values())
            if scheduled and not any(one is optimizer for one in kept):
                return "a scheduler acts on the optimizer and is not known: trial.keep it"
        return ""

    def _resumable(self) -> bool:
        """Whether a checkpoint can hold the training; what it cannot hold is said."""
        if not self._watch.optimizers and not self._kept:
            return False
        if why := self._unknown():
            self._anew(why)
        return not why

    def note(self, text: str) -> None:
        """Say something once, of all trainings alike."""
        if text not in self.notes:
            self.notes.append(text)

    def _anew(self, why: str) -> None:
        self.note(f"a training that is cut short begins anew, not from a checkpoint: {why}")

    def _save(self, done: int) -> None:
        if (path := self._path) is None or not self._resumable():
            return
        state = {
            "model": [m.state_dict() for m in self._models],
            "optimizer": [o.state_dict() for o in self._watch.optimizers],
            "kept": {name: value.state_dict() for name, value in self._kept.items()},
            "done": done,
            "random": generators(),
            "reports": self._reports.state(),
            "own": self._watch.counts(),
        }
        beside = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, beside)
            os.replace(beside, path)
        except (OSError, RuntimeError) as error:  # torch's writer says the latter of a full disk
            self._anew(f"{path.parent} cannot be written to ({error})")
            with contextlib.suppress(OSError):
                beside.unlink()

    def _restore(self) -> int:
        """Load the checkpoint, if there is one; returns the number of epochs done."""
        if (path := self._path) is None or not path.exists() or not self._resumable():
            return 0
        state = torch.load(path, map_location=self.device, weights_only=True)
        for mine, theirs in (
            (self._models, state["model"]),
            (self._watch.optimizers, state["optimizer"]),
            ([self._kept[k] for k in state["kept"] if k in self._kept], state["kept"].values()),
        ):
            for value, saved in zip(mine, theirs, strict=True):
                value.load_state_dict(saved)
        self._reports.take_up(state["reports"])
        self._watch.take_up(state["own"])
        self._done = state["done"]
        set_generators(state["random"])
        return int(state["done"])

    # --- what is known at the end -----------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the training that is done; 0 where that is not counted."""
        done, of = (self._done, self._total) if self._total else self._ahead
        return done / of if of else 0.0

    @property
    def total(self) -> float | None:
        """Epochs of the whole training; None where they are not known."""
        return self._total or self._epochs

    @property
    def curve_unit(self) -> str | None:
        """What the reports' places count; None without any."""
        return self._reports.unit

    @property
    def curve(self) -> dict[str, list[Any]] | None:
        """The reports; None without any."""
        return self._reports.columns or None

    @property
    def last_report(self) -> dict[str, float]:
        """The metrics of the last report."""
        return self._reports.last

    @property
    def steps(self) -> int | None:
        """Steps of the first optimizer; None if the trial knows of none."""
        return self._watch.steps if self._watch.optimizers else None

    @property
    def fraction(self) -> float | None:
        """Removed of each weight per step at the peak lr; None where there is no such number."""
        rule = self._rule
        if self.weight_decay == 0.0:
            return 0.0
        if not rule.uniform:
            return None
        if rule.follows_gradients:
            return self._watch.fraction
        return float(rule.fraction(Step(self.lr, self.lr, self.weight_decay)))

    @property
    def decays_so(self) -> bool:
        """Whether the training is known to decay by the rule, and not by an optimizer unseen."""
        return self._taken or self._watch.removes(self.fraction)

    @property
    def made(self) -> tuple[str | None, dict[str, Any] | None]:
        """Name of the first optimizer, and its settings if the trial made it."""
        return self._watch.made

    def weight_rms(self) -> float | None:
        """RMS over the weight matrices in the optimizers; None if there are none."""
        return self._watch.weight_rms()
