"""Hugging Face's Trainer."""

from __future__ import annotations

import copy
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..trials.trial import Trial
from .asking import needed, training_name

__all__ = ["transformers"]

_QUIET = {
    "report_to": [],
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_strategy": "no",
    "eval_strategy": "epoch",
}
_OWN = ("output_dir", "seed", "learning_rate", "weight_decay")
# What the Trainer adds to its metrics that is none of the model's.
_TIMES = ("_runtime", "_samples_per_second", "_steps_per_second", "_model_preparation_time")


def transformers(
    model_init: Callable[[Trial], Any],
    args: Mapping[str, Any],
    train_dataset: Any,
    eval_dataset: Any,
    *,
    test_dataset: Any = None,
    **trainer: Any,
) -> Callable[[Trial], dict[str, float]]:
    """A training by Hugging Face's Trainer.

    The Trainer is given ``trial.optimizer(model)`` and makes the scheduler that `args` ask for,
    whose peak is ``trial.lr``. Metrics have the Trainer's names: ``"eval_loss"`` and what
    ``compute_metrics`` returns, and the same with ``"test_"`` of the `test_dataset`. Evaluations
    are reports. A training that is cut short begins anew; of ``sampler="halving"`` it is stopped at
    the first evaluation after the share that was asked for.

    Args:
        model_init: the model for a trial.
        args: of ``TrainingArguments``, such as ``{"num_train_epochs": 3}``. Seed, learning rate,
            weight decay and folder are the trial's. Where they say nothing, it evaluates after
            each epoch, and logs and keeps nothing.
        train_dataset: as the Trainer takes it.
        eval_dataset: as the Trainer takes it; settings are chosen by it.
        test_dataset: evaluated once at the end; None for none.
        **trainer: other arguments of the Trainer, such as ``compute_metrics`` and
            ``data_collator``; callbacks are copied for each trial.

    Returns:
        What `halflife.lab.sweep` takes.

    Raises:
        ImportError: without the extra ``hf``.
        ValueError: for an argument that is the trial's.

    Example:
        >>> train = transformers(
        ...     lambda trial: GPT2LMHeadModel(config), {"max_steps": 200}, train_rows, eval_rows
        ... )  # doctest: +SKIP
    """
    needed("transformers", "hf", "lab.transformers")
    if not isinstance(args, Mapping):
        raise ValueError(
            f"args={type(args).__name__}: must be a mapping of arguments of TrainingArguments, "
            'such as {"num_train_epochs": 3}, as each trial makes its own.'
        )
    for name in _OWN:
        if name in args:
            raise ValueError(f"args[{name!r}]={args[name]!r}: is the trial's own; leave it out.")
    for name in ("args", "model", "optimizers", "optimizer_cls_and_kwargs"):
        if name in trainer:
            raise ValueError(
                f"{name}: is made for each trial; leave it out, and let model_init make the model."
            )
    return _Trainer(model_init, dict(args), train_dataset, eval_dataset, test_dataset, trainer)


@dataclass(frozen=True)
class _Trainer:
    model_init: Callable[[Trial], Any]
    args: Mapping[str, Any]
    train_dataset: Any
    eval_dataset: Any
    test_dataset: Any = None
    trainer: Mapping[str, Any] = field(default_factory=dict)

    about = {"curve_unit": "step"}  # noqa: RUF012  # no field

    @property
    def name(self) -> str:
        return training_name(self.model_init)

    def __call__(self, trial: Trial) -> dict[str, float]:
        from transformers import Trainer

        model = self.model_init(trial).to(trial.device)
        given = dict(self.trainer)
        reporter = _reporter(trial)
        callbacks = [*copy.deepcopy(given.pop("callbacks", None) or []), reporter]
        with tempfile.TemporaryDirectory() as folder:
            runner = Trainer(
                model,
                self._arguments(trial, folder),
                train_dataset=self.train_dataset,
                eval_dataset=self.eval_dataset,
                optimizers=(trial.optimizer(model), None),
                callbacks=callbacks,
                **given,
            )
            runner.train()
            if reporter.step != runner.state.global_step:
                runner.evaluate()
            metrics = dict(reporter.metrics)
            if self.test_dataset is not None:
                runner.remove_callback(reporter)
                tested = runner.evaluate(self.test_dataset, metric_key_prefix="test")
                metrics |= _own(tested)
        return metrics

    def _arguments(self, trial: Trial, folder: str) -> Any:
        from transformers import TrainingArguments

        # Accelerate, which the Trainer asks, knows the device by this.
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(trial.device)
        args = TrainingArguments(
            folder,
            seed=trial.seed,
            learning_rate=trial.lr,
            weight_decay=trial.weight_decay,
            **{**_QUIET, "use_cpu": trial.device.type == "cpu", **self.args},
        )
        if args.n_gpu > 1:  # else it trains on all of them, by DataParallel
            args._n_gpu = 1
        return args


def _reporter(trial: Trial) -> Any:
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]  # of Any, as it may not be there
        step, metrics, per_epoch = -1, {}, 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            try:
                batches = len(given["train_dataloader"])
            except (KeyError, TypeError):  # data of unknown length
                batches = 0
            self.per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
            self._count(0, state.max_steps)

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self._count(state.global_step, state.global_step)  # it may have been stopped early

        def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self.step, self.metrics = state.global_step, _own(given["metrics"])
            trial.report(self.step, **self.metrics)
            self._count(self.step, state.max_steps)

        def _count(self, done: int, of: int) -> None:
            trial.advance(done, of, epochs=of / self.per_epoch if self.per_epoch and of else None)

    return Reporter()


def _own(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if k != "epoch" and not k.endswith(_TIMES)}
