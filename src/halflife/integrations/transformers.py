"""Hugging Face's Trainer: our optimizers, and the decay watched in its log.

    trainer = Trainer(
        model, args, train_dataset=data,
        optimizer_cls_and_kwargs=optimizer_cls_and_kwargs(
            args, weight_decay=HalfLife(steps=5000), decay="independent"
        ),
    )
    trainer.add_callback(WeightDecayMonitor(trainer.log, every=50))

Either of the two works without the other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..diagnostics import Monitor
from ..diagnostics.auditing import Audit
from ..diagnostics.monitor.sinks import Record
from ..optim import AdamW
from ..versions import ADAMS
from .records import audit_before, log_audit, tags

try:
    import transformers
    from transformers import (
        Trainer,
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )
except ImportError as error:
    raise ImportError(
        f"halflife.integrations.transformers needs the extra 'hf' ({error}): "
        "pip install torch-halflife[hf]"
    ) from error

__all__ = ["WeightDecayMonitor", "optimizer_cls_and_kwargs", "trainer_groups"]

logger = logging.getLogger(__name__)

# Of TrainerState.stateful_callbacks, which is plain data in every checkpoint.
STATE_KEY = "halflife"


def trainer_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The Trainer's own grouping: no decay for LayerNorm, nor where "bias" or "norm" is in a name.

    Args:
        model: the model; parameters that need no gradient are left out.

    Returns:
        The group that decays, with the optimizer's ``weight_decay``, and the one that does not.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        >>> [(len(g["params"]), g.get("weight_decay")) for g in trainer_groups(model)]
        [(1, None), (3, 0.0)]
    """
    decaying = set(Trainer.get_decay_parameter_names(None, model))
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return _undecided(
        [p for name, p in named if name in decaying],
        [p for name, p in named if name not in decaying],
    )


def _undecided(decaying: list[nn.Parameter], others: list[nn.Parameter]) -> list[dict[str, Any]]:
    """The groups of these parameters; how much the first decay is the optimizer's setting."""
    groups: list[dict[str, Any]] = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def optimizer_cls_and_kwargs(
    args: TrainingArguments,
    optimizer: Callable[..., Optimizer] = AdamW,
    *,
    groups: Callable[[nn.Module], list[dict[str, Any]]] = trainer_groups,
    **settings: Any,
) -> tuple[Callable[[], Callable[..., Optimizer]], dict[str, Any]]:
    """What ``Trainer(optimizer_cls_and_kwargs=...)`` takes, for an optimizer with a decay rule.

    The Trainer writes ``args.weight_decay``, a number, into the groups it makes, which leaves no
    room for a strength. So it is given a function that makes the groups, once the Trainer has the
    model as it will be trained. Before transformers 5.2 it takes the Trainer's groups instead.

    Args:
        args: the Trainer's arguments. ``learning_rate`` and ``weight_decay`` are taken from them,
            and for Adam and AdamW ``adam_beta1``, ``adam_beta2`` and ``adam_epsilon``.
        optimizer: the optimizer's class.
        groups: makes the groups of a model. Default: as the Trainer does; `halflife.param_groups`
            is another, from transformers 5.2, where the Trainer hands on the model.
        **settings: arguments of the optimizer, which come before those from `args`:
            ``weight_decay=HalfLife(steps=5000), decay="independent"``.

    Example:
        >>> args = TrainingArguments(learning_rate=0.01, weight_decay=0.1, report_to=[])
        >>> make, settings = optimizer_cls_and_kwargs(args, decay="independent")
        >>> optimizer = make()(nn.Linear(2, 2), **settings)
        >>> [(group["decay"], group["weight_decay"]) for group in optimizer.param_groups]
        [(Independent(), 0.1), (Independent(), 0.0)]
    """
    own: dict[str, Any] = {"lr": args.learning_rate, "weight_decay": args.weight_decay}
    if isinstance(optimizer, type) and issubclass(optimizer, ADAMS):
        own |= {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}

    return _Factory(optimizer, groups), own | settings


class _Factory:
    """What the Trainer is given for an optimizer's class.

    Since transformers 5.2 it is called without arguments, and what it returns with the model;
    before, it is called with the Trainer's own groups, as a class would be.
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        groups: Callable[[nn.Module], list[dict[str, Any]]],
    ) -> None:
        self._optimizer, self._groups = optimizer, groups

    def __call__(self, theirs: list[dict[str, Any]] | None = None, **settings: Any) -> Any:
        """The function that builds; or the optimizer, of the Trainer's groups."""
        if theirs is None:
            return self._build
        if self._groups is not trainer_groups:
            raise RuntimeError(
                f"groups={self._groups!r}: transformers hands its factories the model since 5.2, "
                f"and this is {transformers.__version__}; pass Trainer(optimizers=(optimizer, "
                "None)) an optimizer of your groups."
            )
        return self._optimizer(_undecided(*(group["params"] for group in theirs)), **settings)

    def _build(self, model: nn.Module, **settings: Any) -> Optimizer:
        return self._optimizer(self._groups(model), **settings)


class WeightDecayMonitor(TrainerCallback):
    """An audit of the decay when training starts, its measures while it runs; changes nothing.

    The audit's findings go to Python's ``logging``, the measurements to the Trainer's own log and
    from there to its trackers, with tags such as ``weight_rms/decayed`` and, beside it,
    ``weight_rms/decayed/predicted``. A resumed training is not audited again: the schedule's peak
    may be behind it.

    Args:
        log: ``trainer.log``; None keeps the measurements in `monitor` only.
        every: a sample at the first step and every so many; or a function of the step.
        preset: what to measure, see `halflife.diagnostics.Monitor`.
        tensors: whether to log each parameter by name, besides the sums over all of them and over
            those that decay.
        audited: whether to audit.
        ignore: codes of findings to leave out.

    Attributes:
        audit: the audit; None before training, and after resuming.
        monitor: the monitor, with the history of all that was measured; None before training.

    Example:
        >>> args = TrainingArguments(report_to=[])
        >>> trainer = Trainer(nn.Linear(2, 2), args)
        >>> trainer.add_callback(WeightDecayMonitor(trainer.log, every=100))
    """

    def __init__(
        self,
        log: Callable[[dict[str, float]], None] | None = None,
        every: int | Callable[[int], bool] = 50,
        preset: str | Collection[str] = "economy",
        *,
        tensors: bool = False,
        audited: bool = True,
        ignore: Collection[str] = (),
    ) -> None:
        self.audit: Audit | None = None
        self.monitor: Monitor | None = None
        self._log, self._every, self._preset = log, every, preset
        self._tensors, self._audited, self._ignore = tensors, audited, ignore
        self._sample: list[Record] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Audit, unless the training is resumed; put a monitor on the optimizer."""
        model, optimizer, schedule = given["model"], given["optimizer"], given["lr_scheduler"]
        per_epoch = _steps_per_epoch(given["train_dataloader"], args.gradient_accumulation_steps)
        self.audit = None
        if self._audited and state.global_step == 0:
            self.audit = audit_before(
                model,
                optimizer,
                schedule,
                logger,
                steps=state.max_steps,
                steps_per_epoch=per_epoch,
                ignore=self._ignore,
            )
            if state.is_world_process_zero:
                log_audit(self.audit, logger)
        if self.monitor is not None:
            self.monitor.close()
        self.monitor = Monitor(
            optimizer,
            model,
            every=self._every,
            preset=self._preset,
            sinks=[self._sample.extend],
            steps_per_epoch=per_epoch,
        )
        if saved := (state.stateful_callbacks or {}).get(STATE_KEY):
            self.monitor.load_state_dict(saved)
        self.monitor.step = state.global_step  # the sample that was saved may be older

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Log the step's sample, if one was taken."""
        if self.monitor is None or not self._sample:
            return
        numbers = tags(self._sample, self._tensors)
        self._sample.clear()
        state.stateful_callbacks[STATE_KEY] = self.monitor.state_dict()
        if self._log is not None:
            due = control.should_log  # which every entry in the log takes for its own
            self._log(numbers)
            control.should_log = due

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Take the monitor off; what it measured stays."""
        if self.monitor is not None:
            self.monitor.close()


def _steps_per_epoch(loader: Any, accumulated: int) -> float | None:
    try:
        return math.ceil(len(loader) / accumulated) or None
    except TypeError:  # a stream
        return None
