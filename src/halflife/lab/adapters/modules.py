"""Lightning's modules."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..trials.fabric import placed
from ..trials.trial import Trial
from .asking import needed, training_name

__all__ = ["lightning"]

_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def lightning(
    make_module: Callable[[Trial], Any],
    data: Any,
    *,
    trainer: Mapping[str, Any] | None = None,
) -> Callable[[Trial], dict[str, Any]]:
    """A training by Lightning's Trainer.

    A module without ``configure_optimizers`` gets ``trial.optimizer(module)``. One that has it
    makes its optimizer from the trial that `make_module` hands it, ``self.trial.optimizer(self)``,
    with a scheduler beside it. Metrics are those that the module logs: validations are reports, and
    what it logs in ``test_step`` is there at the end. A training that is cut short begins anew; of
    ``sampler="halving"`` it is stopped at the first validation after the share that was asked for.

    Args:
        make_module: the LightningModule for a trial.
        data: loaders, (train, validation) or (train, validation, test); a LightningDataModule; or,
            so that each trial has its own, a function of the trial that returns either.
        trainer: arguments of the Trainer: ``{"max_epochs": 10, "precision": "bf16-mixed"}``.
            Where they say nothing, it logs, prints and keeps nothing, and trains where the trial
            does. Objects among them, such as callbacks, are copied for each trial.

    Returns:
        What `halflife.lab.sweep` takes.

    Raises:
        ImportError: without the extra ``lightning``.
        ValueError: for a loader with a generator, whose state would go on from trial to trial.

    Example:
        >>> train = lightning(lambda trial: Classifier(), loaders, trainer={"max_epochs": 5})
        ... # doctest: +SKIP
    """
    needed("lightning.pytorch", "lightning", "lab.lightning")
    if not callable(data):
        _stateless(data)
    return _Lightning(make_module, data, dict(trainer or {}))


@dataclass(frozen=True)
class _Lightning:
    make_module: Callable[[Trial], Any]
    data: Any
    trainer: Mapping[str, Any] = field(default_factory=dict)

    about = {"curve_unit": "step"}  # noqa: RUF012  # no field

    @property
    def name(self) -> str:
        return training_name(self.make_module)

    def __call__(self, trial: Trial) -> dict[str, Any]:
        from lightning.pytorch import LightningModule, Trainer

        module = self.make_module(trial)
        if type(module).configure_optimizers is LightningModule.configure_optimizers:
            module.configure_optimizers = functools.partial(trial.optimizer, module)
        data = self.data(trial) if callable(self.data) else self.data
        given = copy.deepcopy(dict(self.trainer))
        callbacks = given.pop("callbacks", None) or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        runner = Trainer(
            **{
                **_QUIET,
                **placed(trial.device),
                **given,
                "callbacks": [*callbacks, _reporter(trial)],
            }
        )
        fit, test = _loaders(data)
        runner.fit(module, **fit)
        metrics = dict(runner.callback_metrics)
        if test is not None:
            for tested in runner.test(module, verbose=False, **test):
                metrics |= tested
        return metrics


def _reporter(trial: Trial) -> Any:
    from lightning.pytorch import Callback

    class Reporter(Callback):  # type: ignore[misc]  # of Any, as Lightning may not be there
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            for optimizer in trainer.optimizers:
                if not trial.knows(optimizer):
                    trial.watch(optimizer)
                    trial.note(
                        "configure_optimizers made its optimizer without trial.optimizer: see that "
                        "it takes trial.lr, trial.weight_decay and trial.decay"
                    )
            _count(trial, trainer)

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.sanity_checking or trainer.state.fn != "fit":
                return
            trial.report(trainer.global_step, **trainer.callback_metrics)
            _count(trial, trainer)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            _count(trial, trainer, ended=True)

    return Reporter()


def _count(trial: Trial, trainer: Any, *, ended: bool = False) -> None:
    """Tell the trial how far it is, in steps, and how many epochs the whole is."""
    step, steps = trainer.global_step, trainer.estimated_stepping_batches
    batches, epochs = trainer.num_training_batches, None
    if ended or not (math.isfinite(steps) and steps > 0):  # it may have been stopped early
        steps = step if ended else 0
    if math.isfinite(batches) and batches > 0:
        epochs = steps / math.ceil(batches / trainer.accumulate_grad_batches)
    elif trainer.max_steps == -1 and (trainer.max_epochs or -1) > 0:  # data of unknown length
        epochs = trainer.current_epoch if ended else trainer.max_epochs
    trial.advance(step, int(steps), epochs=epochs or None)


def _loaders(data: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Arguments of ``fit``, and of ``test``; None where there is nothing to test on."""
    from lightning.pytorch import LightningDataModule

    if isinstance(data, LightningDataModule):
        tests = type(data).test_dataloader is not LightningDataModule.test_dataloader
        return {"datamodule": data}, {"datamodule": data} if tests else None
    if not (isinstance(data, (tuple, list)) and len(data) in (2, 3)):
        raise ValueError(
            f"data={type(data).__name__}: must be the loaders (train, validation) or (train, "
            "validation, test), or a LightningDataModule; or a function of the trial that returns "
            "either."
        )
    train, validation, *test = data
    fit = {"train_dataloaders": train, "val_dataloaders": validation}
    return fit, {"dataloaders": test[0]} if test else None


def _stateless(data: Any) -> None:
    for loader in data if isinstance(data, (tuple, list)) else ():
        if getattr(loader, "generator", None) is not None:
            raise ValueError(
                "data: a loader has a generator, whose state would go on from trial to trial; "
                "leave it out, as each trial seeds torch, or pass a function of the trial that "
                "returns the loaders."
            )
