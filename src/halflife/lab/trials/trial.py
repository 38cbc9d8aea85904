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

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ..metric import metric_values
from .bases import made
from .cell import BASELINE, Cell
from .checkpoint import Checkpoint
from .fabric import made_fabric
from .randomness import Drawing
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
        held: generators that the training draws from and does not make itself.
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
        held: Sequence[Any] = (),
    ) -> None:
        self.rule, self.lr, self.weight_decay = cell.rule, cell.lr, cell.weight_decay
        self.seed, self.params = cell.seed, dict(cell.params)
        self.device = torch.device(device)
        self._base, self.until = base, until
        self._fabric_options, self._fabric = fabric, None
        self._rule = Decoupled() if self.rule == BASELINE else as_rule(self.rule)
        self._taken = False  # by the training
        self._watch = Watch(self._rule, self.lr)
        self._checkpoint = Checkpoint(checkpoint, self.device, self._watch, held, self.note)
        self._checkpoint.precision = (fabric or {}).get("precision")
        self._saved = time.monotonic()
        self._reports = Reports()
        self._done = self._total = 0
        self._loops = self._whole = 0  # loops that have begun, and epochs of all of them if told
        self._within = False  # the body of the loop over epochs
        self._before = 0  # steps when that began
        self._ahead = 0, 0  # what a loop other than `epochs` has done, and of how many
        self._epochs: float | None = None  # that it has done, where it counts steps
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
            self._checkpoint.models.append(parameters)
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

    def epochs(self, n: int, of: int | None = None) -> Iterator[int]:
        """Numbers of the epochs still to be trained: ``for epoch in trial.epochs(10)``.

        A training that was cut short goes on from its checkpoint, if the models and optimizers are
        known (by `optimizer` and `keep`); else from the start. After the share of the training that
        was asked for (`sampler="halving"`), the loop ends the training. One loop may follow
        another, as for the parts of a cross-validation; each has its own checkpoint.

        Args:
            n: how many.
            of: how many the training has in all its loops. Default: those begun so far.

        Raises:
            Paused: after that share; a training leaves it to pass.
            ValueError: if n is no positive integer, or the loop is within another one.
        """
        require_count("epochs", n, "pass the number of passes over the training set")
        if of is not None:
            require_count("of", of, "pass the epochs of all loops of the training together")
        loop, before = self._loops, self._done + self._was_left
        self._loops += 1
        self._whole = max(self._whole, of or 0)
        if loop and not self._whole:
            self.note(
                "the training calls trial.epochs more than once, and a share of it (as "
                "sampler='halving' asks for) is one of the loops begun so far: say how many epochs "
                "it has in all, trial.epochs(n, of=...)"
            )
        self._total, self._within = max(before + n, self._whole), False
        first, before = self._restore(loop, before)
        last = math.ceil(self.until * self._total)
        for epoch in range(first, n):
            if before + epoch >= last:
                self._save(loop, before, epoch)
                raise Paused
            self._within, self._before = True, self._watch.steps
            yield epoch
            if self._loops != loop + 1:
                raise ValueError(
                    f"epochs({n}): another loop over trial.epochs began within this one; let range "
                    "count what is not an epoch of the training."
                )
            self._done, self._within = before + epoch + 1, False
            # A training that is to be stopped comes by again: its finished loops are not repeated.
            ends = self.until < 1.0 and epoch == n - 1
            if ends or time.monotonic() - self._saved >= _CHECKPOINT_EVERY:
                self._save(loop, before, epoch + 1)

    def _save(self, loop: int, before: int, done: int) -> None:
        progress = {"before": before, "done": done, "reports": self._reports.state_dict()}
        self._checkpoint.save(loop, progress)
        self._saved = time.monotonic()

    def _restore(self, loop: int, before: int) -> tuple[int, int]:
        """Take up the loop's checkpoint, if there is one; epochs done in it, and before it."""
        if (state := self._checkpoint.load(loop)) is None:
            self._done = before
            return 0, before
        self._reports.load_state_dict(state["reports"])
        self._done = state["before"] + state["done"]
        return int(state["done"]), int(state["before"])

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
            so_far = float(epochs) * done / of
            self._epochs = int(so_far) if so_far.is_integer() else so_far
        if math.ceil(self.until * of) <= done < of:
            raise Paused

    def report(self, step: int | None = None, **metrics: float | Tensor) -> None:
        """Metrics of a moment in the training, for its learning curve.

        What is told of one moment in several reports belongs together.

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
        self._reports.add(step, unit, metric_values(metrics))

    def note(self, text: str) -> None:
        """Say something once, of all trainings alike."""
        if text not in self.notes:
            self.notes.append(text)

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
        self._checkpoint.kept.update(objects)

    @property
    def fabric(self) -> Any:
        """Lightning's Fabric for this trial: device, precision, DDP or FSDP2, as the sweep says.

        ``sweep(..., fabric={"precision": "bf16-mixed"})`` gives its arguments; the processes of a
        strategy with more than one belong to one cell.
        """
        if self._fabric is None:
            self._fabric = made_fabric(self._fabric_options or {}, self.device, self.seed)
        return self._fabric

    # --- what is known at the end -----------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the training that is done; 0 where that is not counted."""
        done, of = (self._done, self._total) if self._total else self._ahead
        return done / of if of else 0.0

    @property
    def epochs_done(self) -> float | None:
        """Epochs that were trained; None where they are not counted."""
        return self._done + self._was_left or self._epochs

    @property
    def _was_left(self) -> bool:
        """Whether the last loop was left by ``break`` in an epoch that had trained something."""
        stepped = not self._watch.optimizers or self._watch.steps > self._before
        return self._within and stepped

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
        """The last value that was reported of each metric."""
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
