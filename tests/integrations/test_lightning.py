"""Lightning's Trainer, run for real: equal to a plain loop, and to itself when it is resumed."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_digits import (
    BATCH,
    SETTINGS,
    STEPS,
    Digits,
    Net,
    Setting,
    loop,
    optimizer_for,
    parameters,
    random_states,
    same,
    scheduler_for,
)

from halflife import schedules

lightning = pytest.importorskip("lightning.pytorch", reason="needs the extra lightning")

from halflife.integrations.lightning import WeightDecayMonitor  # noqa: E402

pytestmark = [
    # Lightning's use of torch's private pytree, its advice on data loading, and that the folder
    # from which a run is resumed has a checkpoint in it.
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


class Module(lightning.LightningModule):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.net, self.settings = Net(), settings

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.net(**batch)["loss"]

    def configure_optimizers(self) -> Any:
        optimizer = optimizer_for(self, **self.settings)
        schedule = {"scheduler": scheduler_for(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def trainer(setting: Setting, folder: Path, **changes: Any) -> Any:
    given = {
        "max_steps": STEPS,
        "accumulate_grad_batches": setting.accumulate,
        "gradient_clip_val": setting.clip,
        "precision": "bf16-mixed" if setting.bf16 else "32-true",
        "accelerator": "cpu",
        "devices": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "callbacks": [],
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **changes,
    }
    if given["enable_checkpointing"]:
        checkpoint = lightning.callbacks.ModelCheckpoint(
            folder, "{step}", save_top_k=-1, every_n_train_steps=STEPS // 2
        )
        given["callbacks"] = [*given["callbacks"], checkpoint]
    return lightning.Trainer(**given)


class Loader(torch.utils.data.DataLoader):
    """Knows where it is, without which Lightning resumes an epoch with its first batch."""

    taken = passed = 0

    def __iter__(self) -> Any:
        passed, self.passed = self.passed, 0
        for self.taken, batch in enumerate(super().__iter__(), 1):
            if self.taken > passed:
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"taken": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.passed = state["taken"]


def loader() -> Loader:
    return Loader(Digits(), BATCH)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_trains_as_a_plain_loop(setting: Setting, tmp_path: Path) -> None:
    module = Module()
    run = trainer(setting, tmp_path)
    run.fit(module, loader())
    assert len(module.net.seen) == STEPS * setting.accumulate
    weights, optimizer = loop(setting, module.net.seen)
    assert same(parameters(module), weights)
    assert same(run.optimizers[0].state_dict()["state"], optimizer.state_dict()["state"])
    undecayed, _ = loop(setting, module.net.seen, lambda m: optimizer_for(m, weight_decay=0.0))
    assert not same(weights, undecayed)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("decay", ["independent", "stable", "cautious", "anchored"])
def test_resume_is_bitwise(decay: str, precision: str, tmp_path: Path) -> None:
    setting, settings = SETTINGS[-1], {"decay": decay, "weight_decay": 0.05}
    whole, resumed = Module(**settings), Module(**settings)
    run = trainer(setting, tmp_path, enable_checkpointing=True, precision=precision)
    run.fit(whole, loader())
    again = trainer(setting, tmp_path, enable_checkpointing=True, precision=precision)
    again.fit(resumed, loader(), ckpt_path=tmp_path / f"step={STEPS // 2}.ckpt")
    assert len(resumed.net.seen) == len(whole.net.seen) // 2
    assert same(parameters(whole), parameters(resumed))
    assert same(run.optimizers[0].state_dict(), again.optimizers[0].state_dict())


def joint(optimizer: Any) -> Any:
    """The learning rate falls while the weight decay grows."""
    return schedules.JointScheduler(
        optimizer,
        lr=schedules.cosine(STEPS),
        weight_decay=schedules.linear(STEPS, start=0.2, final=1.0),
    )


class Jointly(Module):
    def configure_optimizers(self) -> Any:
        optimizer = optimizer_for(self)
        return [optimizer], [{"scheduler": joint(optimizer), "interval": "step"}]


def test_weight_decay_is_scheduled_and_resumed(tmp_path: Path) -> None:
    whole, resumed = Jointly(), Jointly()
    run = trainer(SETTINGS[0], tmp_path, enable_checkpointing=True)
    run.fit(whole, loader())
    weights, _ = loop(SETTINGS[0], whole.net.seen, schedule=joint)
    assert same(parameters(whole), weights)
    again = trainer(SETTINGS[0], tmp_path, enable_checkpointing=True)
    again.fit(resumed, loader(), ckpt_path=tmp_path / f"step={STEPS // 2}.ckpt")
    assert same(parameters(whole), parameters(resumed))
    assert same(run.optimizers[0].state_dict(), again.optimizers[0].state_dict())


# --- the callback --------------------------------------------------------------------------------


def watched(folder: Path, callback: bool = True, resume: bool = False) -> tuple[Any, Any, Any]:
    """A run and its callback, which samples at steps 1, 4, 8 and 12."""
    monitor = WeightDecayMonitor(every=4)
    log = lightning.loggers.CSVLogger(folder, name="resumed" if resume else "whole")
    run = trainer(
        SETTINGS[-1],
        folder,
        enable_checkpointing=True,
        callbacks=[monitor] if callback else [],
        logger=log,
        log_every_n_steps=1,
    )
    module = Module()
    run.fit(module, loader(), ckpt_path=folder / f"step={STEPS // 2}.ckpt" if resume else None)
    return run, module, monitor


def test_the_callback_changes_nothing(tmp_path: Path) -> None:
    (alone, left, _), before = watched(tmp_path / "a", callback=False), random_states()
    (run, module, callback), after = watched(tmp_path / "b"), random_states()
    assert len(callback.monitors[0].history) > 0
    assert same(parameters(left), parameters(module))
    assert same(alone.optimizers[0].state_dict(), run.optimizers[0].state_dict())
    assert same(before, after)


def test_samples_are_in_the_loggers(tmp_path: Path) -> None:
    run, _, callback = watched(tmp_path)
    with open(Path(run.logger.log_dir) / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["rotation/decayed"]]
    assert [int(row["step"]) for row in rows] == [1, 4, 8, 12]
    history = {r["step"]: r for r in callback.monitors[0].history if r["name"] == "decayed"}
    for row in rows:
        record = history[int(row["step"])]
        assert float(row["weight_rms/decayed"]) == record["weight_rms"]
        assert float(row["weight_rms/decayed/predicted"]) == record["weight_rms_predicted"]
    assert not any("first.weight" in tag for tag in rows[0])
    assert {r["name"] for r in callback.monitors[0].history} >= {"global", "net.first.weight"}


def test_a_resumed_callback_goes_on(tmp_path: Path) -> None:
    *_, whole = watched(tmp_path)
    *_, resumed = watched(tmp_path, resume=True)
    late = [record for record in whole.monitors[0].history if record["step"] > STEPS // 2]
    assert resumed.monitors[0].history == late
    assert whole.audit is not None
    assert resumed.audit is None


def test_training_starts_with_an_audit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = Module()
    every = list(module.parameters())
    module.configure_optimizers = lambda: torch.optim.AdamW(every, lr=0.02, weight_decay=0.1)
    callback = WeightDecayMonitor(ignore=["decayed-bias"])
    run = trainer(SETTINGS[0], tmp_path, callbacks=[callback])
    with caplog.at_level(logging.WARNING, "halflife.integrations.lightning"):
        run.fit(module, loader())
    assert "decayed-norm" in [finding.code for finding in callback.audit.findings]
    assert "decayed-bias" not in [finding.code for finding in callback.audit.findings]
    assert callback.audit.steps == STEPS
    assert callback.audit.steps_per_epoch == 512 / BATCH
    assert any("warning decayed-norm" in record.message for record in caplog.records)
    assert not run.optimizers[0]._optimizer_step_post_hooks


class ByIncrement:
    """A scheduler that only its own training can move, as Megatron's."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def step(self, increment: int) -> None:
        self.optimizer.param_groups[0]["lr"] *= 0.9**increment

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class Incremented(Module):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02, weight_decay=0.1)
        schedule = {"scheduler": ByIncrement(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step(1)


def test_a_refused_schedule_stops_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = WeightDecayMonitor()
    run = trainer(SETTINGS[0], tmp_path, callbacks=[callback])
    with caplog.at_level(logging.WARNING, "halflife.integrations.lightning"):
        run.fit(Incremented(), loader())
    assert run.global_step == STEPS
    (told,) = [r.message for r in caplog.records if "took the lr as constant" in r.message]
    assert "schedule=ByIncrement: its step(increment) must need" in told
    assert callback.audit.steps == STEPS
    assert callback.audit.parameters[0].lr == 0.02


class TwoOptimizers(Module):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, index: int) -> None:
        self.manual_backward(self.net(**batch)["loss"])
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        halves = [self.net.first, torch.nn.ModuleList([self.net.last, self.net.norm])]
        return [optimizer_for(half) for half in halves]


def test_several_optimizers_are_told_apart(tmp_path: Path) -> None:
    callback = WeightDecayMonitor(tensors=True)
    log = lightning.loggers.CSVLogger(tmp_path)
    run = trainer(SETTINGS[0], tmp_path, callbacks=[callback], logger=log, log_every_n_steps=1)
    run.fit(TwoOptimizers(), loader())
    assert callback.audit.optimizer == "AdamW + AdamW"
    tags = (Path(log.log_dir) / "metrics.csv").read_text().split("\n", 1)[0].split(",")
    assert "optimizer0/weight_rms/net.first.weight" in tags
    assert "optimizer1/weight_rms/net.last.weight" in tags
    assert "optimizer0/weight_rms/net.last.weight" not in tags


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self) -> Any:
        return iter(Digits())


def test_a_schedule_by_epochs_of_unknown_length_is_left_out_of_the_audit(tmp_path: Path) -> None:
    module = Module()

    def configure() -> Any:
        optimizer = optimizer_for(module)
        return [optimizer], [scheduler_for(optimizer)]  # Lightning's default: once an epoch

    module.configure_optimizers = configure
    callback = WeightDecayMonitor()
    run = trainer(SETTINGS[0], tmp_path, callbacks=[callback])
    run.fit(module, torch.utils.data.DataLoader(Stream(), BATCH))
    assert callback.audit.steps == STEPS
    assert callback.audit.steps_per_epoch is None


def test_monitors_come_off_when_training_fails(tmp_path: Path) -> None:
    module = Module()
    module.on_train_batch_end = lambda *_: 1 / 0
    run = trainer(SETTINGS[0], tmp_path, callbacks=[WeightDecayMonitor()])
    with pytest.raises(ZeroDivisionError):
        run.fit(module, loader())
    assert not run.optimizers[0]._optimizer_step_post_hooks
