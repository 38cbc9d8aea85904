"""Several reports of one moment, several loops over epochs in one training, loops that are left."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from halflife import lab
from halflife.lab.trials.bases import OptimizerKind
from halflife.lab.trials.cell import Outcome
from halflife.lab.trials.job import Job, Portion, run_portion

X = torch.linspace(-2, 2, 160).reshape(40, 4).sin()
Y = X.sum(1, keepdim=True).cos()
CELL = lab.Cell("decoupled", 1e-2, 0.01, 3)

Said = Callable[[str, int], None]


class Killed(BaseException):
    """As if the process were gone."""


def run(train: Callable[..., Any], folder: Path | None, until: float = 1.0) -> Outcome:
    names = (lab.Metric("val"), lab.Metric("val"))
    job = Job(train, OptimizerKind("adamw"), names, folder)
    (outcome,) = run_portion(job, Portion((CELL,), until))
    return outcome


def same(one: Outcome, other: Outcome) -> bool:
    known = ("status", "metrics", "curve", "steps", "epochs", "fraction", "weight_rms")
    return all(getattr(one, name) == getattr(other, name) for name in known)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch."""
    monkeypatch.setattr("halflife.lab.trials.trial._CHECKPOINT_EVERY", 0.0)


# --- several reports of one moment ----------------------------------------------------------------


def test_reports_of_one_moment_are_one_row_and_the_last_of_each_metric_counts() -> None:
    def train(trial: lab.Trial) -> None:
        for epoch in trial.epochs(3):
            trial.report(val=float(epoch))
            trial.report(train=0.5)

    for until, last in ((1.0, 2.0), (0.4, 1.0)):
        outcome = run(train, None, until)
        assert outcome.metrics == {"val": last, "train": 0.5}
        epochs = int(last) + 1
        assert outcome.curve == {
            "step": [*range(1, epochs + 1)],
            "val": [*map(float, range(epochs))],
            "train": [0.5] * epochs,
        }


def test_a_metric_told_again_of_one_moment_is_another_row() -> None:
    trial = lab.Trial(CELL, base=OptimizerKind("adamw"))
    for step, value in ((1, 0.1), (1, math.nan), (1, 0.3), (2, 0.4)):
        trial.report(step, batch=value)
    trial.report(2, val=1.0)
    trial.report(3, val=math.nan)
    curve = trial.curve
    assert curve is not None
    assert curve["step"] == [1, 1, 1, 2, 3]
    assert [math.isnan(v) for v in curve["batch"]] == [False, True, False, False, True]
    assert trial.last_report["batch"] == 0.4
    assert math.isnan(trial.last_report["val"])  # told so, not filled in


def test_halving_chooses_by_what_was_reported_first_in_an_epoch() -> None:
    def train(trial: lab.Trial) -> None:
        for epoch in trial.epochs(10):
            trial.report(val=abs(trial.lr - 0.1) + abs(trial.weight_decay - 0.1) + 1 / (epoch + 1))
            trial.report(train=0.5)

    result = lab.sweep(
        train, lr=[1e-3, 1e-2, 1e-1], weight_decay=[1e-3, 1e-2, 1e-1], seeds=1, confirm=0,
        default=False, extend=False, sampler="halving", choose="val", executor=lab.InProcess(),
        progress=False,
    )  # fmt: skip
    assert result.best is not None
    assert (result.best.lr, result.best.weight_decay) == (0.1, 0.1)


# --- several loops --------------------------------------------------------------------------------


def fit(trial: lab.Trial, model: nn.Module, optimizer: Any, loop: Any, said: Said) -> float:
    for epoch, name in loop:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(X + 0.1 * torch.randn(1)), Y)
        loss.backward()
        optimizer.step()
        trial.report(val=loss)
        said(name, epoch)
    with torch.no_grad():
        return float(nn.functional.mse_loss(model(X), Y))


def named(trial: lab.Trial, name: str, *count: int) -> Any:
    return ((epoch, name) for epoch in trial.epochs(*count))


def folds(trial: lab.Trial, said: Said) -> dict[str, float]:
    """A model for each part: what one comes to is read between the loops."""
    values = []
    for fold in range(3):
        model = nn.Linear(4, 1)
        loop = named(trial, f"fold {fold}", 4, 12)
        values.append(fit(trial, model, trial.optimizer(model), loop, said))
    return {"val": sum(values) / 3, **{f"fold {k}": v for k, v in enumerate(values)}}


def phases(trial: lab.Trial, said: Said) -> dict[str, float]:
    """One model, trained in two loops."""
    model = nn.Linear(4, 1)
    optimizer = trial.optimizer(model)
    warm = fit(trial, model, optimizer, named(trial, "warm", 3, 8), said)
    return {"val": fit(trial, model, optimizer, named(trial, "main", 5, 8), said), "warm": warm}


EPOCHS = {
    folds: [(f"fold {fold}", epoch) for fold in range(3) for epoch in range(4)],
    phases: [("warm", e) for e in range(3)] + [("main", e) for e in range(5)],
}


class Epochs:
    """What was trained, until it is killed."""

    def __init__(self, at: tuple[str, int] | None = None) -> None:
        self.epochs: list[tuple[str, int]] = []
        self._at = at

    def __call__(self, name: str, epoch: int) -> None:
        self.epochs.append((name, epoch))
        if (name, epoch) == self._at:
            raise Killed


@pytest.mark.parametrize("train", [folds, phases])
@pytest.mark.parametrize("often", [True, False])
def test_every_loop_is_trained_to_its_end(
    train: Any, often: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if often:
        request.getfixturevalue("eager")
    said = Epochs()
    outcome = run(lambda trial: train(trial, said), tmp_path)
    assert outcome.status == "done", outcome.error
    assert said.epochs == EPOCHS[train]
    assert outcome.epochs == len(EPOCHS[train])
    assert outcome.curve is not None
    assert outcome.curve["step"] == [*range(1, len(EPOCHS[train]) + 1)]
    assert same(outcome, run(lambda trial: train(trial, Epochs()), None))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("train", "at"), [(t, at) for t in (folds, phases) for at in EPOCHS[t]])
def test_a_training_of_several_loops_goes_on_where_it_was(
    train: Any, at: tuple[str, int], tmp_path: Path
) -> None:
    undisturbed = run(lambda trial: train(trial, Epochs()), None)
    with pytest.raises(Killed):
        run(lambda trial: train(trial, Epochs(at)), tmp_path)
    said = Epochs()
    assert same(run(lambda trial: train(trial, said), tmp_path), undisturbed)
    assert said.epochs == EPOCHS[train][EPOCHS[train].index(at) :]


@pytest.mark.usefixtures("eager")
def test_a_loop_whose_own_file_is_gone_is_trained_and_the_next_goes_on(tmp_path: Path) -> None:
    undisturbed = run(lambda trial: phases(trial, Epochs()), None)
    with pytest.raises(Killed):
        run(lambda trial: phases(trial, Epochs(("main", 2))), tmp_path)
    first, _ = sorted(tmp_path.iterdir(), key=lambda path: len(path.name))
    first.unlink()
    said = Epochs()
    assert same(run(lambda trial: phases(trial, said), tmp_path), undisturbed)
    assert said.epochs == [("warm", e) for e in range(3)] + [("main", e) for e in (2, 3, 4)]


@pytest.mark.parametrize("train", [folds, phases])
def test_a_share_is_one_of_all_loops(train: Any, tmp_path: Path) -> None:
    undisturbed = run(lambda trial: train(trial, Epochs()), None)
    count = math.ceil(0.5 * len(EPOCHS[train]))
    said = Epochs()
    paused = run(lambda trial: train(trial, said), tmp_path, until=0.5)
    assert (paused.status, paused.progress) == ("paused", 0.5)
    assert said.epochs == EPOCHS[train][:count]
    assert paused.notes == ()
    said = Epochs()
    assert same(run(lambda trial: train(trial, said), tmp_path), undisturbed)
    assert said.epochs == EPOCHS[train][count:]


def test_that_a_share_cannot_be_told_is_said() -> None:
    def train(trial: lab.Trial) -> float:
        return float(sum(1 for _ in range(3) for _ in trial.epochs(2)))

    outcome = run(train, None)
    assert outcome.metrics == {"val": 6.0}
    (note,) = outcome.notes
    assert "trial.epochs(n, of=...)" in note


def test_a_loop_within_a_loop_is_refused_by_name() -> None:
    def train(trial: lab.Trial) -> float:
        return float(sum(1 for _ in trial.epochs(3) for _ in trial.epochs(2)))

    outcome = run(train, None)
    assert outcome.status == "failed"
    assert "epochs(3): another loop over trial.epochs began within this one" in str(outcome.error)


@pytest.mark.usefixtures("eager")
def test_a_checkpoint_of_another_make_is_not_taken_up(tmp_path: Path) -> None:
    """Of two models, where the training now has three."""

    def train(trial: lab.Trial, models: int, at: int = -1) -> float:
        made = [nn.Linear(4, 1) for _ in range(models)]
        optimizers = [trial.optimizer(model) for model in made]
        epochs = []
        for epoch in trial.epochs(3):
            for optimizer in optimizers:
                optimizer.step()
            epochs.append(epoch)
            if epoch == at:
                raise Killed
        return float(len(epochs))

    with pytest.raises(Killed):
        run(lambda trial: train(trial, 2, at=1), tmp_path)
    outcome = run(lambda trial: train(trial, 3), tmp_path)
    assert outcome.metrics == {"val": 3.0}
    assert any("other models (2) than it has now (3)" in note for note in outcome.notes)


# --- loops that are left --------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("held", [False, True])
def test_epochs_of_a_loop_that_is_left_are_those_that_were_trained(late: bool, held: bool) -> None:
    def train(trial: lab.Trial) -> float:
        model = nn.Linear(4, 1)
        optimizer = trial.optimizer(model)
        loop = trial.epochs(100)
        for epoch in loop if held else trial.epochs(100):
            if epoch == 10 and not late:  # at the top of the eleventh
                break
            for _ in range(7):
                optimizer.step()
            if epoch == 9 and late:  # at the end of the tenth
                break
        return 1.0

    outcome = run(train, None)
    assert (outcome.status, outcome.epochs, outcome.steps) == ("done", 10, 70)
    result = lab.sweep(
        train, lr=[1e-2], weight_decay=[0.1], seeds=1, confirm=0, default=False, extend=False,
        executor=lab.InProcess(), progress=False,
    )  # fmt: skip
    assert (result.meta.epochs, result.meta.steps, result.meta.steps_per_epoch) == (10, 70, 7)


def test_a_loop_after_one_that_was_left_counts_on() -> None:
    def train(trial: lab.Trial) -> None:
        for count in (2, 3):
            for epoch in trial.epochs(50):
                trial.report(val=1.0)
                if epoch == count - 1:
                    break

    outcome = run(train, None)
    assert outcome.epochs == 5
    assert outcome.curve == {"step": [1, 2, 3, 4, 5], "val": [1.0] * 5}
