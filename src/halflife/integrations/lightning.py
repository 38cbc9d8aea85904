"""Lightning's Trainer: an audit when it starts, and the decay watched in its loggers.

    trainer = lightning.Trainer(callbacks=[WeightDecayMonitor(every=50)])

Optimizers need nothing: ``configure_optimizers`` returns one of halflife's as it would torch's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from typing import Any

from ..diagnostics import Monitor
from ..diagnostics.auditing import Audit
from ..diagnostics.monitor.sinks import Record
from .records import audit_before, log_audit, tags

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError(
        f"halflife.integrations.lightning needs the extra 'lightning' ({error}): "
        "pip install torch-halflife[lightning]"
    ) from error

__all__ = ["WeightDecayMonitor"]

logger = logging.getLogger(__name__)


class WeightDecayMonitor(Callback):
    """An audit of the decay when training starts, its measures while it runs; changes nothing.

    The audit's findings go to Python's ``logging``, the measurements to the Trainer's loggers, with
    tags such as ``weight_rms/decayed`` and, beside it, ``weight_rms/decayed/predicted``. With
    several optimizers, tags begin with ``optimizer0/``, ``optimizer1/``. A resumed training is not
    audited again: the schedule's peak may be behind it.

    Args:
        every: a sample at the first step and every so many; or a function of the step.
        preset: what to measure, see `halflife.diagnostics.Monitor`.
        tensors: whether to log each parameter by name, besides the sums over all of them and over
            those that decay.
        audited: whether to audit.
        ignore: codes of findings to leave out.

    Attributes:
        audit: the audit; None before training, and after resuming.
        monitors: one for each optimizer, with the history of all that was measured.

    Example:
        >>> callback = WeightDecayMonitor(every=100, preset="standard")
        >>> trainer = Trainer(callbacks=[callback], logger=False, barebones=False)
    """

    def __init__(
        self,
        every: int | Callable[[int], bool] = 50,
        preset: str | Collection[str] = "economy",
        *,
        tensors: bool = False,
        audited: bool = True,
        ignore: Collection[str] = (),
    ) -> None:
        self.audit: Audit | None = None
        self.monitors: list[Monitor] = []
        self._every, self._preset, self._tensors = every, preset, tensors
        self._audited, self._ignore = audited, ignore
        self._loaded: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit, unless the training is resumed; put a monitor on each optimizer."""
        per_epoch = _finite(trainer.num_training_batches)
        if per_epoch is not None:
            per_epoch /= trainer.accumulate_grad_batches
        if self._audited and trainer.global_step == 0:
            self.audit = self._audit(trainer, pl_module, per_epoch)
            if trainer.is_global_zero:
                log_audit(self.audit, logger)
        several = len(trainer.optimizers) > 1
        self.monitors = [
            Monitor(
                optimizer,
                pl_module,
                every=self._every,
                preset=self._preset,
                sinks=[self._sink(trainer, f"optimizer{index}/" if several else "")],
                steps_per_epoch=per_epoch,
            )
            for index, optimizer in enumerate(trainer.optimizers)
        ]
        for monitor, state in zip(self.monitors, self._loaded, strict=False):
            monitor.load_state_dict(state)

    def _audit(
        self, trainer: Trainer, pl_module: LightningModule, per_epoch: float | None
    ) -> Audit:
        configs = trainer.lr_scheduler_configs
        steps = _finite(trainer.estimated_stepping_batches)
        interval: Any = configs[0].interval if configs else "step"
        known = steps is not None and (interval == "step" or per_epoch is not None)
        return audit_before(
            pl_module,
            trainer.optimizers,
            [config.scheduler for config in configs] if configs and known else None,
            logger,
            steps=None if steps is None else int(steps),
            steps_per_epoch=per_epoch,
            interval=interval if known else "step",
            ignore=self._ignore,
        )

    def _sink(self, trainer: Trainer, prefix: str) -> Callable[[list[Record]], None]:
        def write(records: list[Record]) -> None:
            numbers = {prefix + tag: v for tag, v in tags(records, self._tensors).items()}
            for target in trainer.loggers:
                target.log_metrics(numbers, step=records[0]["step"])

        return write

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the monitors off; what they measured stays."""
        for monitor in self.monitors:
            monitor.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Take the monitors off."""
        self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to go on counting."""
        return {"monitors": [monitor.state_dict() for monitor in self.monitors]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting where another training stopped."""
        self._loaded = state_dict["monitors"]


def _finite(number: float) -> float | None:
    return float(number) if 0 < number < math.inf else None
