"""Schedulers of other packages: driven as a training drives them, or refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from halflife.diagnostics.auditing import audit
from halflife.diagnostics.auditing.schedules import plan_of
from halflife.groups import param_groups
from halflife.schedules import JointScheduler

STEPS, PER_EPOCH = 24, 5


def trained():
    model = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4))
    optimizer = torch.optim.AdamW(param_groups(model), lr=1e-2, weight_decay=0.5)
    optimizer.param_groups[1]["lr_scale"] = 0.5
    return model, optimizer


class Timm:
    """The interface of timm's schedulers: the caller counts, by the epoch or by the update."""

    def __init__(self, optimizer, length, t_in_epochs, field="lr"):
        self.optimizer, self.length, self.t_in_epochs = optimizer, length, t_in_epochs
        self.field = field
        self.base_values = [group[field] for group in optimizer.param_groups]

    def _get_lr(self, t):
        return [0.5 * v * (1 + math.cos(math.pi * t / self.length)) for v in self.base_values]

    def update_groups(self, values):
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group[self.field] = value * group.get("lr_scale", 1.0)

    def step(self, epoch, metric=None):
        if self.t_in_epochs:
            self.update_groups(self._get_lr(epoch))

    def step_update(self, num_updates, metric=None):
        if not self.t_in_epochs:
            self.update_groups(self._get_lr(num_updates))


def settings(optimizer):
    return [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]


@pytest.mark.parametrize("field", ["lr", "weight_decay"])
@pytest.mark.parametrize(("length", "t_in_epochs"), [(5, True), (STEPS, False)])
def test_timms_interface_is_driven_as_its_training_does(length, t_in_epochs, field):
    model, optimizer = trained()
    scheduler = Timm(optimizer, length, t_in_epochs, field)
    before = settings(optimizer)
    plan = plan_of([optimizer], scheduler, STEPS, PER_EPOCH, "step", model)
    assert settings(optimizer) == before
    for step in range(STEPS):
        for group, course in zip(optimizer.param_groups, plan.courses[0], strict=True):
            assert float(course.lrs[step]) == group["lr"]
            assert float(course.weight_decays[step]) == group["weight_decay"]
        scheduler.step_update(step + 1)
        if (step + 1) % PER_EPOCH == 0:
            scheduler.step((step + 1) // PER_EPOCH)
    first = plan.courses[0][0]
    assert len(set((first.lrs if field == "lr" else first.weight_decays).tolist())) > 3


def test_updates_need_no_epochs_and_epochs_do():
    model, optimizer = trained()
    assert audit(model, optimizer, schedule=Timm(optimizer, STEPS, False), steps=STEPS).steps
    with pytest.raises(ValueError, match=r"schedule=Timm moves by the epoch.*pass steps_per_epoch"):
        audit(model, optimizer, schedule=Timm(optimizer, 5, True), steps=STEPS)


class ByEpoch:
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self, epoch):
        self.optimizer.param_groups[0]["lr"] = 1e-2 * 0.5**epoch


class ByStep(ByEpoch):
    def step(self, current_step):
        self.optimizer.param_groups[0]["lr"] = 1e-2 * 0.9**current_step


class Optional(ByEpoch):
    """As torch's and DeepSpeed's, whose argument may be left out."""

    def step(self, last=None):
        self.optimizer.param_groups[0]["lr"] *= 0.9


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (ByEpoch, lambda t: 1e-2 * 0.5 ** (t // PER_EPOCH)),
        (ByStep, lambda t: 1e-2 * 0.9**t),
        (Optional, lambda t: 1e-2 * 0.9**t),
    ],
)
def test_other_counts_are_driven(cls, expected):
    model, optimizer = trained()
    course = plan_of([optimizer], cls(optimizer), STEPS, PER_EPOCH, "step", model).courses[0][0]
    assert course.lrs.tolist() == pytest.approx([expected(t) for t in range(STEPS)], rel=1e-12)


class Plateau(Timm):
    """Timm's, which holds torch's."""

    def __init__(self, optimizer):
        super().__init__(optimizer, 5, True)
        self.lr_scheduler = ReduceLROnPlateau(optimizer)


class Watching(ByEpoch):
    def step(self, val_loss):
        raise NotImplementedError


@pytest.mark.parametrize("cls", [Plateau, Watching])
def test_what_follows_a_metric_is_taken_as_constant(cls):
    model, optimizer = trained()
    result = audit(model, optimizer, schedule=cls(optimizer), steps=1000)
    (note,) = [f for f in result.findings if f.code == "unknown-schedule"]
    assert f"schedule={cls.__name__} follows a metric" in note.message
    assert result.parameters[0].total_decay == pytest.approx(1000 * 1e-2 * 0.5)


class Increment(ByEpoch):
    """As Megatron's: moves by a number of samples."""

    def step(self, increment):
        raise NotImplementedError


class TwoCounts(ByEpoch):
    def step(self, epoch, batch):
        raise NotImplementedError


class Failing(ByEpoch):
    def step(self):
        raise RuntimeError("no engine\nand a second line")


class Uncopied(Failing):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle 'lock' object")


class NoOptimizer:
    def step(self):
        raise NotImplementedError


LIST = "pass the learning rates of all steps as a list"


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        (Increment, TypeError, [r"schedule=Increment: its step(increment) must need", LIST]),
        (TwoCounts, TypeError, ["schedule=TwoCounts: its step(epoch, batch) must need", LIST]),
        (Failing, ValueError, ["schedule=Failing", "failed at step 1", "no engine)", LIST]),
        (Uncopied, ValueError, ["schedule=Uncopied", "failed at step 0", "'lock'", LIST]),
        (lambda o: NoOptimizer(), TypeError, ["NoOptimizer", "must be a torch LRScheduler"]),
        (lambda o: [ByStep(o), NoOptimizer()], TypeError, ["NoOptimizer", "a scheduler too"]),
        (lambda o: OneCycleLR, TypeError, ["schedule=OneCycleLR: must be a function", LIST]),
        (lambda o: lambda a, b: 1.0, TypeError, ["schedule=<lambda>: must be a function", LIST]),
        (lambda o: lambda step: None, TypeError, ["schedule=<lambda>: must be a function", LIST]),
        (lambda o: "cosine", TypeError, ["schedule='cosine': must be a torch LRScheduler"]),
        (lambda o: ["a"] * STEPS, TypeError, ["one number for each step", "flat list"]),
        (lambda o: np.ones((STEPS, 2)), TypeError, ["one number for each step", "flat list"]),
        (lambda o: {"scheduler": ByStep(o)}, TypeError, ["must be a torch LRScheduler"]),
        (lambda o: OneCycleLR(o, 0.1, total_steps=9), ValueError, ["schedule=OneCycleLR", "step"]),
    ],
)
def test_what_cannot_be_driven_is_refused_by_name(schedule, error, words):
    model, optimizer = trained()
    with pytest.raises(error) as refused:
        audit(
            model, optimizer, schedule=schedule(optimizer), steps=STEPS, steps_per_epoch=PER_EPOCH
        )
    for word in words:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


# --- messages of one step -------------------------------------------------------------------------


def test_a_message_pairs_the_lr_and_the_weight_decay_of_one_step():
    """DINO: the lr warms up and falls, the weight decay rises from 0.04 to 0.4."""
    model, optimizer = trained()
    del optimizer.param_groups[1]["lr_scale"]
    steps = 400
    lr = [min(t / 40, 0.5 + 0.5 * math.cos(math.pi * (t - 40) / 360)) for t in range(steps)]
    decay = [0.4 - 0.36 * (0.5 + 0.5 * math.cos(math.pi * t / steps)) for t in range(steps)]
    schedule = JointScheduler(optimizer, lr=lambda t: lr[t], weight_decay=lambda t: decay[t] / 0.5)
    result = audit(model, optimizer, schedule=schedule, steps=steps)
    step = max(range(steps), key=lambda t: lr[t] * decay[t])
    assert lr[step] < 0.9  # neither the highest lr
    assert decay[step] < 0.3  # nor the largest weight decay
    pair = f"weight_decay={decay[step]:g} of group 0 at lr={1e-2 * lr[step]:g} (step {step:,})"
    (weak,) = [f for f in result.findings if f.code == "weak-decay"]
    assert weak.message.startswith(f"{pair} has a timescale of")
    row = result.parameters[0]
    assert row.fraction == pytest.approx(row.lr * row.weight_decay, rel=1e-12)
    assert row.fraction == pytest.approx(max(1e-2 * a * b for a, b in zip(lr, decay, strict=True)))
    assert row.predicted_rms == pytest.approx(math.sqrt(row.lr / (2 * row.weight_decay)), rel=1e-2)


def test_the_end_of_a_schedule_is_quoted_with_its_own_weight_decay():
    model, optimizer = trained()
    del optimizer.param_groups[1]["lr_scale"]
    lr = lambda t: 1.0 if t < 300 else 1e-3  # noqa: E731
    decay = lambda t: 1.0 if t < 300 else 800.0  # noqa: E731
    schedule = JointScheduler(optimizer, lr=lr, weight_decay=decay)
    result = audit(model, optimizer, schedule=schedule, steps=400)
    (late,) = [f for f in result.findings if f.code == "decay-outlives-lr"]
    assert "weight_decay=400 of group 0: at step 300 the lr is down to 1e-05" in late.message


def test_a_setting_that_stays_is_quoted_without_a_step():
    model, optimizer = trained()
    result = audit(model, optimizer, schedule=LambdaLR(optimizer, lambda t: 1.0), steps=150)
    (weak,) = [f for f in result.findings if f.code == "weak-decay"]
    assert weak.message.startswith("weight_decay=0.5 of group 0 at lr=0.01 has a timescale of 200")
