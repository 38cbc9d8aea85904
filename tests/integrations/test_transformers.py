"""Hugging Face's Trainer, run for real: equal to a plain loop, and to itself when it is resumed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_digits import (
    BATCH,
    HALF_LIFE,
    SETTINGS,
    STEPS,
    Digits,
    Net,
    Setting,
    loop,
    parameters,
    random_states,
    same,
)

import halflife

transformers = pytest.importorskip("transformers", reason="needs the extra hf")
pytest.importorskip("accelerate", reason="needs the extra hf")


from halflife.integrations.transformers import (  # noqa: E402
    WeightDecayMonitor,
    optimizer_cls_and_kwargs,
    trainer_groups,
)

# Its Trainer calls what it is given for a class with its own groups, and hands on no model.
HANDS_ON_THE_MODEL = hasattr(transformers.trainer, "is_optimizer_factory")


class OlderTrainer(transformers.Trainer):
    """Builds its optimizer as transformers 4.57 does, whatever the version."""

    def create_optimizer(self, *_: Any) -> Any:
        decaying = self.get_decay_parameter_names(self.model)
        groups = [
            {
                "params": [p for n, p in self.model.named_parameters() if (n in decaying) == first],
                "weight_decay": self.args.weight_decay if first else 0.0,
            }
            for first in (True, False)
        ]
        cls, settings = self.optimizer_cls_and_kwargs
        self.optimizer = cls(groups, **settings)
        return self.optimizer


class FactoryTrainer(transformers.Trainer):
    """The subclass of docs/frameworks.md."""

    def create_optimizer(self, *_: Any) -> Any:
        make, settings = self.optimizer_cls_and_kwargs
        self.optimizer = make()(self.model, **settings)
        return self.optimizer


def arguments(folder: Path, setting: Setting, **changes: Any) -> Any:
    given = {
        "max_steps": STEPS,
        "learning_rate": 0.02,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 3,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": setting.accumulate,
        "max_grad_norm": setting.clip or 0.0,
        "bf16": setting.bf16,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        **changes,
    }
    return transformers.TrainingArguments(str(folder), **given)


def trainer(args: Any, model: Net | None = None, **changes: Any) -> Any:
    settings = {"weight_decay": HALF_LIFE, "decay": "independent", **changes}
    own = "groups" in changes and not HANDS_ON_THE_MODEL
    return (FactoryTrainer if own else transformers.Trainer)(
        Net() if model is None else model,
        args,
        train_dataset=Digits(),
        optimizer_cls_and_kwargs=optimizer_cls_and_kwargs(args, **settings),
    )


def schedule(optimizer: Any) -> Any:
    return transformers.get_cosine_schedule_with_warmup(optimizer, 3, STEPS)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_trains_as_a_plain_loop(setting: Setting, tmp_path: Path) -> None:
    run = trainer(arguments(tmp_path, setting))
    run.train()
    assert len(run.model.seen) == STEPS * setting.accumulate

    def make(model: Net, weight_decay: Any = HALF_LIFE) -> Any:
        groups = trainer_groups(model)
        return halflife.AdamW(groups, lr=0.02, weight_decay=weight_decay, decay="independent")

    weights, optimizer = loop(setting, run.model.seen, make, schedule)
    assert same(parameters(run.model), weights)
    assert same(run.optimizer.state_dict()["state"], optimizer.state_dict()["state"])
    undecayed, _ = loop(setting, run.model.seen, lambda model: make(model, 0.0), schedule)
    assert not same(weights, undecayed)


@pytest.mark.parametrize("decay", ["independent", "stable", "cautious", "anchored"])
def test_resume_is_bitwise(decay: str, tmp_path: Path) -> None:
    """With dropout, accumulation, clipping and bfloat16; stopped in the middle of the schedule."""
    args = arguments(tmp_path, SETTINGS[-1], save_strategy="steps", save_steps=STEPS // 2)
    settings = {"weight_decay": 0.05, "decay": decay}
    whole = trainer(args, Net(dropout=0.2), **settings)
    whole.train()
    resumed = trainer(args, Net(dropout=0.2), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{STEPS // 2}"))
    assert len(resumed.model.seen) == len(whole.model.seen) // 2
    assert same(parameters(whole.model), parameters(resumed.model))
    assert same(whole.optimizer.state_dict(), resumed.optimizer.state_dict())
    assert same(whole.lr_scheduler.state_dict(), resumed.lr_scheduler.state_dict())


def test_groups_are_the_trainers_own() -> None:
    model = Net()
    model.first.weight.requires_grad_(False)
    theirs = transformers.Trainer(model, transformers.TrainingArguments(report_to=[]))
    theirs.create_optimizer()
    ours = trainer_groups(model)
    assert [group["params"] for group in theirs.optimizer.param_groups] == [
        group["params"] for group in ours
    ]


def test_gains_of_a_batch_norm_decay_under_the_trainers_grouping() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    decaying, exempt = trainer_groups(model)
    assert [id(p) for p in decaying["params"]] == [id(model[0].weight), id(model[1].weight)]
    assert [id(p) for p in exempt["params"]] == [id(model[0].bias), id(model[1].bias)]


def test_settings_come_from_the_arguments_unless_given() -> None:
    args = transformers.TrainingArguments(
        learning_rate=0.01, weight_decay=0.3, adam_beta2=0.95, adam_epsilon=1e-6, report_to=[]
    )
    _, settings = optimizer_cls_and_kwargs(args)
    assert settings == {"lr": 0.01, "weight_decay": 0.3, "betas": (0.9, 0.95), "eps": 1e-6}
    make, settings = optimizer_cls_and_kwargs(
        args, halflife.SGD, groups=halflife.param_groups, momentum=0.9, weight_decay=0.1
    )
    optimizer = make()(Net(), **settings)
    assert isinstance(optimizer, halflife.SGD)
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.01, 0.9, 0.1),
        (0.01, 0.9, 0.0),
    ]


# --- transformers before 5.2 ---------------------------------------------------------------------


def trained(kind: Any, folder: Path, groups: Any = trainer_groups, optimizers: Any = None) -> Any:
    args = arguments(folder, SETTINGS[0], weight_decay=0.3)
    settings = {"weight_decay": HALF_LIFE, "decay": "independent"}
    model = Net()
    if optimizers:
        own = halflife.AdamW(groups(model), lr=args.learning_rate, **settings)
        given = {"optimizers": (own, None)}
    else:
        given = {
            "optimizer_cls_and_kwargs": optimizer_cls_and_kwargs(args, groups=groups, **settings)
        }
    run = kind(model, args, train_dataset=Digits(), **given)
    run.train()
    return run


def test_every_way_trains_alike(tmp_path: Path) -> None:
    runs = [
        trained(kind, tmp_path, optimizers=built)
        for kind, built in (
            (transformers.Trainer, False),
            (transformers.Trainer, True),
            (OlderTrainer, False),
            (FactoryTrainer, False),
        )
    ]
    fraction = 1 - 2 ** (-1 / HALF_LIFE.steps)
    for run in runs:
        assert same(parameters(run.model), parameters(runs[0].model))
        groups = run.optimizer.param_groups
        assert [g["weight_decay"] for g in groups] == [pytest.approx(fraction), 0.0]


def test_own_groups_go_with_a_subclass_or_an_optimizer(tmp_path: Path) -> None:
    own = halflife.param_groups
    first = trained(FactoryTrainer, tmp_path, own)
    second = trained(transformers.Trainer, tmp_path, own, optimizers=True)
    assert same(parameters(first.model), parameters(second.model))
    if HANDS_ON_THE_MODEL:
        third = trained(transformers.Trainer, tmp_path, own)
        assert same(parameters(first.model), parameters(third.model))
    with pytest.raises(RuntimeError, match=r"groups=.*since 5\.2, .*Trainer\(optimizers=\("):
        trained(OlderTrainer, tmp_path, own)


# --- the callback --------------------------------------------------------------------------------


def watched(folder: Path, callback: bool = True, resume: bool = False) -> tuple[Any, Any]:
    """A run with dropout and its callback, which samples at steps 1, 4, 8 and 12."""
    args = arguments(
        folder,
        SETTINGS[-1],
        save_strategy="steps",
        save_steps=STEPS // 2,
        logging_strategy="steps",
        logging_steps=2,
    )
    run = trainer(args, Net(dropout=0.2))
    monitor = WeightDecayMonitor(run.log, every=4) if callback else None
    if callback:
        run.add_callback(monitor)
    run.train(resume_from_checkpoint=str(folder / f"checkpoint-{STEPS // 2}") if resume else None)
    return run, monitor


def test_the_callback_changes_nothing(tmp_path: Path) -> None:
    (alone, _), alone_random = watched(tmp_path, callback=False), random_states()
    (run, callback), random = watched(tmp_path), random_states()
    assert len(callback.monitor.history) > 0
    assert same(parameters(alone.model), parameters(run.model))
    assert same(alone.optimizer.state_dict(), run.optimizer.state_dict())
    assert same(alone_random, random)
    logs = [
        [(e["step"], e["loss"], e["grad_norm"]) for e in r.state.log_history if "loss" in e]
        for r in (alone, run)
    ]
    assert len(logs[0]) == STEPS // 2  # the Trainer's own entries, those at sampled steps included
    assert logs[0] == logs[1]


def test_samples_are_in_the_trainers_log(tmp_path: Path) -> None:
    run, callback = watched(tmp_path)
    entries = [entry for entry in run.state.log_history if "rotation/global" in entry]
    assert [entry["step"] for entry in entries] == [1, 4, 8, 12]
    history = {r["step"]: r for r in callback.monitor.history if r["name"] == "decayed"}
    for entry in entries[1:]:  # nothing decays in the first step, of lr 0
        record = history[entry["step"]]
        assert entry["weight_rms/decayed"] == record["weight_rms"]
        assert entry["weight_rms/decayed/predicted"] == record["weight_rms_predicted"]
    assert not any("first.weight" in tag for entry in entries for tag in entry)
    assert {r["name"] for r in callback.monitor.history} >= {"global", "first.weight"}


def test_a_resumed_callback_goes_on(tmp_path: Path) -> None:
    _, whole = watched(tmp_path)
    _, resumed = watched(tmp_path, resume=True)
    late = [record for record in whole.monitor.history if record["step"] > STEPS // 2]
    assert [r for r in resumed.monitor.history if r["step"] >= 8] == late
    assert whole.audit is not None
    assert resumed.audit is None


def test_training_starts_with_an_audit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    args = arguments(tmp_path, SETTINGS[0])
    run = trainer(args, groups=lambda model: [{"params": list(model.parameters())}])
    callback = WeightDecayMonitor(ignore=["decayed-bias"])
    run.add_callback(callback)
    with caplog.at_level(logging.WARNING, "halflife.integrations.transformers"):
        run.train()
    assert "decayed-norm" in [finding.code for finding in callback.audit.findings]
    assert "decayed-bias" not in [finding.code for finding in callback.audit.findings]
    assert callback.audit.steps == STEPS
    assert callback.audit.steps_per_epoch == 512 / BATCH
    assert any("warning decayed-norm" in record.message for record in caplog.records)
    assert not run.optimizer.optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("first", [True, False])
def test_the_first_process_logs_the_audit(first: bool, caplog: pytest.LogCaptureFixture) -> None:
    state = transformers.TrainerState(max_steps=5, is_world_process_zero=first)
    model = Net()
    given = {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters()),
        "lr_scheduler": None,
        "train_dataloader": iter([]),  # a stream
    }
    callback, args = WeightDecayMonitor(), transformers.TrainingArguments(report_to=[])
    callback.on_train_begin(args, state, transformers.TrainerControl(), **given)
    assert callback.audit.warnings
    assert bool(caplog.records) == first
    assert callback.audit.steps_per_epoch is None
