"""What a training is given: its optimizer, its loop, its reports, its checkpoints."""

from __future__ import annotations

import functools
import math
import os
import random
import signal
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

import halflife
from halflife import lab
from halflife.lab.trials.bases import OptimizerKind
from halflife.lab.trials.cell import Outcome, params_of
from halflife.lab.trials.job import Job, Portion, run_portion
from halflife.lab.trials.randomness import generators, seeded
from halflife.lab.trials.trial import Paused

X = torch.linspace(-2, 2, 160).reshape(40, 4).sin()
Y = X.sum(1, keepdim=True).cos()
EPOCHS = 5


def trial_of(
    rule: str = "decoupled",
    seed: int = 0,
    *,
    lr: float = 1e-2,
    weight_decay: float = 0.1,
    base: str = "adamw",
    params: dict[str, Any] | None = None,
    **more: Any,
) -> lab.Trial:
    cell = lab.Cell(rule, lr, weight_decay, seed, params_of(params or {}))
    return lab.Trial(cell, base=OptimizerKind(base), **more)


# --- the optimizer --------------------------------------------------------------------------------


def test_of_a_model_no_biases_and_norms_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = trial_of("independent").optimizer(model)
    assert isinstance(optimizer, halflife.AdamW)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {
        id(p): 0.1 if name == "0.weight" else 0.0 for name, p in model.named_parameters()
    }
    assert {g["lr"] for g in optimizer.param_groups} == {1e-2}
    assert {str(g["decay"]) for g in optimizer.param_groups} == {"independent"}


def test_of_parameters_all_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = trial_of().optimizer(model.parameters())
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1]


def test_without_decay_nothing_decays() -> None:
    optimizer = trial_of("none", weight_decay=0.0).optimizer(nn.Linear(2, 2))
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.0}


def test_settings_of_the_optimizer_are_the_callers_then_the_sweeps() -> None:
    cell = lab.Cell("decoupled", 1e-2, 0.1, 0)
    trial = lab.Trial(cell, base=OptimizerKind("adamw", {"betas": (0.8, 0.9), "eps": 1e-6}))
    group = trial.optimizer(nn.Linear(2, 2), eps=1e-5).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-5)
    group = trial.optimizer(nn.Linear(2, 2), base="radam", betas=(0.7, 0.8)).param_groups[0]
    assert group["betas"] == (0.7, 0.8)


def test_parameters_that_are_swept() -> None:
    trial = trial_of(params={"momentum": 0.8, "width": 4})
    assert (trial["momentum"], trial["width"]) == (0.8, 4)
    with pytest.raises(KeyError, match=r"trial\['momentun'\].*params=.*did you mean 'momentum'"):
        trial["momentun"]


# --- the fraction that is removed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("decoupled", 1e-2 * 0.1), ("independent", 0.1), ("none", 0.0)],
)
def test_the_fraction_of_a_rule_that_does_not_look_at_gradients(rule: str, expected: float) -> None:
    trial = trial_of(rule, weight_decay=0.0 if rule == "none" else 0.1)
    assert trial.fraction == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [40, 120])
def test_the_measured_fraction_of_stable_under_a_changing_lr(steps: int) -> None:
    """Per step at the peak lr: the fractions' sum over that of lr / peak lr, in float64 by hand."""
    lr, decay, beta = 1e-2, 0.05, 0.9
    weight = nn.Parameter(torch.linspace(0.5, 1.5, 6, dtype=torch.float64).reshape(2, 3))
    trial = trial_of("stable", lr=lr, weight_decay=decay)
    optimizer = trial.optimizer([weight], betas=(0.8, beta))
    schedule = CosineAnnealingLR(optimizer, steps + 1)
    second, removed, passed = torch.zeros(2, 3, dtype=torch.float64), 0.0, 0.0
    for step in range(1, steps + 1):
        weight.grad = torch.randn(2, 3, dtype=torch.float64) * (1 + step / 10)
        second = beta * second + (1 - beta) * weight.grad**2
        rate = 1 / math.sqrt((second / (1 - beta**step)).mean())
        now = lr * (1 + math.cos(math.pi * (step - 1) / (steps + 1))) / 2
        # The first fifty steps are read, and then one in ten, which stands for those.
        stands_for = 1 if step <= 50 else 10 if step % 10 == 0 else 0
        removed += stands_for * now * decay * rate
        passed += stands_for * now / lr
        optimizer.step()
        schedule.step()
    assert trial.fraction == pytest.approx(removed / passed, rel=1e-6)  # the sums are float32
    assert trial.steps == steps


# --- reports --------------------------------------------------------------------------------------


def test_reports_are_columns_of_one_length() -> None:
    trial = trial_of()
    assert trial.curve is None
    for epoch in trial.epochs(3):
        trial.report(val=torch.tensor([epoch * 1.5]), **({"late": np.float32(2)} if epoch else {}))
    trial.report(last=7)
    nan = math.nan
    assert trial.curve is not None
    assert trial.curve["step"] == [1, 2, 3]
    for name, column in {
        "val": [0.0, 1.5, 3.0], "late": [nan, 2.0, 2.0], "last": [nan, nan, 7.0]
    }.items():  # fmt: skip
        np.testing.assert_array_equal(trial.curve[name], column)
    assert trial.progress == 1.0


def test_reports_without_a_loop_are_counted_or_placed() -> None:
    trial = trial_of()
    trial.report(val=1)
    trial.report(val=2)
    trial.report(step=50, val=3)
    assert trial.curve == {"step": [1, 2, 50], "val": [1.0, 2.0, 3.0]}
    assert trial.last_report == {"val": 3.0}
    assert trial.progress == 0.0


@pytest.mark.parametrize("value", [torch.zeros(2), "1", None])
def test_a_report_is_a_number(value: Any) -> None:
    trial = trial_of()
    with pytest.raises(ValueError, match="metric 'val': must be a number"):
        trial.report(val=value)
    assert trial.curve is None


def test_epochs_are_a_positive_integer() -> None:
    with pytest.raises(ValueError, match="epochs"):
        next(iter(trial_of().epochs(0)))


LIVE = types.SimpleNamespace()  # what a test and its training share; no part of the training

# --- checkpoints ----------------------------------------------------------------------------------

Step = Callable[[lab.Trial, int], None]


def training(trial: lab.Trial, each: Step = lambda *_: None, keep: bool = True) -> dict[str, Any]:
    """A training with all that is random in one, and all that changes."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Linear(8, 1))
    optimizer = trial.optimizer(model)
    schedule = CosineAnnealingLR(optimizer, EPOCHS)
    own = torch.Generator().manual_seed(trial.seed)
    if keep:
        trial.keep(schedule=schedule, own=own)
    for epoch in trial.epochs(EPOCHS):
        model.train()
        for x, y in DataLoader(TensorDataset(X, Y), 8, shuffle=True):
            noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1) + torch.randn(1, generator=own)
            loss = nn.functional.mse_loss(model(x + noise), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        trial.report(val=nn.functional.mse_loss(model.eval()(X), Y))
        each(trial, epoch)
    return {
        "val": trial.last_report["val"],
        "weights": sum(p.double().sum() for p in model.parameters()),
    }


def run(
    train: Callable[..., Any], folder: Path | None, rule: str = "stable", until: float = 1.0
) -> Outcome:
    names = (lab.Metric("val"), lab.Metric("val"))
    job = Job(train, OptimizerKind("adamw"), names, folder)
    (outcome,) = run_portion(job, Portion((lab.Cell(rule, 1e-2, 0.01, 3),), until))
    return outcome


def same(one: Outcome, other: Outcome) -> bool:
    known = ("status", "metrics", "curve", "steps", "fraction", "weight_rms")
    return all(getattr(one, name) == getattr(other, name) for name in known)


class Killed(BaseException):
    """As if the process were gone."""


def killing(at: int) -> Step:
    def each(trial: lab.Trial, epoch: int) -> None:
        if epoch == at:
            raise Killed

    return each


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch."""
    monkeypatch.setattr("halflife.lab.trials.trial._CHECKPOINT_EVERY", 0.0)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("at", range(1, EPOCHS))
def test_a_training_that_is_cut_short_goes_on_to_the_same_bits(at: int, tmp_path: Path) -> None:
    undisturbed = run(training, None)
    assert undisturbed.status == "done", undisturbed.error
    with pytest.raises(Killed):
        run(functools.partial(training, each=killing(at)), tmp_path)
    torch.randn(7), random.random(), np.random.rand()  # the process is another one
    epochs: list[int] = []
    resumed = run(functools.partial(training, each=lambda _, e: epochs.append(e)), tmp_path)
    assert epochs == list(range(at, EPOCHS))
    assert same(resumed, undisturbed)
    assert not list(tmp_path.iterdir())  # what is done needs no checkpoint


@pytest.mark.usefixtures("eager")
def test_what_is_not_kept_is_seen(tmp_path: Path) -> None:
    """Else the test above could not fail."""

    def forgetful(trial: lab.Trial, each: Step = lambda *_: None) -> dict[str, Any]:
        trial.keep = lambda schedule, own: lab.Trial.keep(trial, schedule=schedule)  # type: ignore[method-assign]
        return training(trial, each)

    with pytest.raises(Killed):
        run(functools.partial(forgetful, each=killing(2)), tmp_path)
    assert not same(run(forgetful, tmp_path), run(training, None))


@pytest.mark.usefixtures("eager")
def test_a_scheduler_that_is_not_kept_leaves_no_checkpoint(tmp_path: Path) -> None:
    undisturbed = run(training, None)
    forgetful = functools.partial(training, keep=False)
    with pytest.raises(Killed):
        run(functools.partial(forgetful, each=killing(3)), tmp_path)
    assert not list(tmp_path.iterdir())
    resumed = run(forgetful, tmp_path)
    assert same(resumed, undisturbed)  # from the start
    (note,) = resumed.notes
    assert "begins anew" in note
    assert "scheduler" in note
    assert "trial.keep" in note


@pytest.mark.usefixtures("eager")
def test_a_model_that_is_not_known_leaves_no_checkpoint(tmp_path: Path) -> None:
    def train(trial: lab.Trial, keep: bool, at: int = -1) -> float:
        model = nn.Linear(4, 1)
        optimizer = trial.optimizer(model.parameters())
        if keep:
            trial.keep(model=model)
        for epoch in trial.epochs(3):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(X), Y).backward()
            optimizer.step()
            killing(at)(trial, epoch)
        return float(model.weight.detach().sum())

    for keep in (False, True):
        with pytest.raises(Killed):
            run(functools.partial(train, keep=keep, at=2), tmp_path)
        assert len(list(tmp_path.iterdir())) == keep
        outcome = run(functools.partial(train, keep=keep), tmp_path)
        assert same(outcome, run(functools.partial(train, keep=keep), None))
        assert ["no model is known" in note for note in outcome.notes] == [True] * (not keep)


@pytest.mark.usefixtures("eager")
def test_a_checkpoint_that_cannot_be_read_fails_once(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(functools.partial(training, each=killing(3)), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert run(training, tmp_path).status == "failed"
    assert same(run(training, tmp_path), run(training, None))


@pytest.mark.usefixtures("eager")
def test_a_checkpoint_that_cannot_be_written_is_noted(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    outcome = run(training, occupied)  # no folder can be there
    assert same(outcome, run(training, None))
    (note,) = outcome.notes
    assert "cannot be written" in note


def test_short_trainings_write_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(functools.partial(training, each=killing(3)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_has_no_state_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match=r"keep\(thing=\.\.\.\).*got int"):
        trial_of().keep(thing=3)


def killed_once(trial: lab.Trial, folder: Path) -> dict[str, Any]:
    import halflife.lab.trials.trial

    halflife.lab.trials.trial._CHECKPOINT_EVERY = 0.0

    def each(trial: lab.Trial, epoch: int) -> None:
        mark = folder / f"{trial.rule}-{len(list(folder.iterdir())):03d}-{epoch}"
        mark.touch()
        if epoch == 2 and len(list(folder.glob(f"{trial.rule}-*-2"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    return training(trial, each)


@pytest.mark.slow
def test_a_worker_that_is_killed_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    result = lab.sweep(
        functools.partial(killed_once, folder=seen),
        lr=[1e-2], weight_decay=[0.01], rules=["decoupled"], seeds=[3], confirm=0, default=False,
        extend=False, choose="val", out=tmp_path / "out", executor=lab.Local(1), progress=False,
    )  # fmt: skip
    cells = {c["rule"]: c for c in result.cells()}
    for rule, cell in cells.items():
        epochs = [int(path.name.split("-")[-1]) for path in sorted(seen.glob(f"{rule}-*"))]
        assert epochs == [0, 1, 2, 2, 3, 4]
        assert cell["steps"] == 5 * EPOCHS
    undisturbed = run(training, None, "decoupled")
    assert cells["decoupled"]["metrics"] == undisturbed.metrics


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("edited", [False, True])
def test_the_checkpoint_of_another_training_is_not_taken(edited: bool, tmp_path: Path) -> None:
    """Not even where its ledger, which would have refused, is gone."""
    seen: list[int] = []
    LIVE.seen, LIVE.at = seen, 1

    def train(trial: lab.Trial, share: float = 1.0) -> float:
        trial.optimizer(nn.Linear(4, 1))
        for epoch in trial.epochs(3):
            LIVE.seen.append(epoch)
            if epoch == LIVE.at:
                raise Killed
        return share

    def sweep(train: Callable[..., Any]) -> lab.Result:
        return lab.sweep(
            train, lr=[0.1], weight_decay=[0.1], seeds=1, confirm=0, default=False, extend=False,
            out=tmp_path, executor=lab.InProcess(), progress=False, name="train",
        )  # fmt: skip

    with pytest.raises(Killed):
        sweep(train)
    assert len(list((tmp_path / "checkpoints").rglob("*.pt"))) == 1
    for path in tmp_path.iterdir():
        if path.is_file():
            path.unlink()
    seen.clear()
    LIVE.at = -1
    sweep(functools.partial(train, share=2.0) if edited else train)
    assert seen == [*([0] if edited else []), 1, 2, 0, 1, 2]


# --- stopped at a share ---------------------------------------------------------------------------


def test_a_pause_passes_through_the_trainings_own_exceptions(tmp_path: Path) -> None:
    def train(trial: lab.Trial) -> Any:
        try:
            return training(trial)
        except Exception:  # as careless trainings do
            return {"val": math.nan}

    paused = run(train, tmp_path, until=0.5)
    assert (paused.status, paused.progress, paused.steps) == ("paused", 3 / 5, 15)
    assert paused.curve is not None
    assert paused.metrics == {"val": paused.curve["val"][-1]}
    assert paused.curve["step"] == [1, 2, 3]
    assert same(run(train, tmp_path), run(training, None))  # from where it was


def test_a_loop_of_ones_own_is_stopped_too() -> None:
    trial = trial_of(until=0.4)
    trial.advance(3, 10)
    assert trial.progress == 0.3
    with pytest.raises(Paused):
        trial.advance(4, 10)
    trial.advance(10, 10)  # what is done is done
    assert not isinstance(Paused(), Exception)


def test_what_another_loop_counts_is_no_epoch_unless_it_says_so() -> None:
    trial = trial_of()
    trial.report(val=1)
    assert (trial.epochs_done, trial.curve_unit) == (None, "report")
    trial.advance(8, 24)
    trial.report(val=1)
    assert trial.epochs_done is None
    assert trial.curve is not None
    assert (trial.curve["step"], trial.progress) == ([1, 8], 1 / 3)
    trial.advance(16, 24, epochs=3.0)
    assert (trial.epochs_done, trial.progress) == (2, 2 / 3)
    trial.advance(24, 24, epochs=2.5)
    assert trial.epochs_done == 2.5


@pytest.mark.parametrize("epochs", [0, -1, math.inf, math.nan, "3", True])
def test_epochs_of_another_loop_are_a_positive_number(epochs: Any) -> None:
    with pytest.raises(ValueError, match=r"^epochs must be a number of passes > 0, got"):
        trial_of().advance(1, 2, epochs=epochs)


@pytest.mark.usefixtures("eager")
def test_a_curve_counts_epochs_where_no_step_is_given_alone(tmp_path: Path) -> None:
    def train(trial: lab.Trial, placed: bool, at: int = -1) -> float:
        model = nn.Linear(4, 1)
        trial.optimizer(model)
        for epoch in trial.epochs(3):
            trial.report(100 * (epoch + 1) if placed and epoch == 0 else None, val=1.0)
            killing(at)(trial, epoch)
        return 1.0

    for placed, unit in ((False, "epoch"), (True, "step")):
        assert run(functools.partial(train, placed=placed), None).curve_unit == unit
        with pytest.raises(Killed):
            run(functools.partial(train, placed=placed, at=2), tmp_path)
        assert run(functools.partial(train, placed=placed), tmp_path).curve_unit == unit


# --- random numbers -------------------------------------------------------------------------------


def draws() -> list[Any]:
    return [random.random(), np.random.rand(), float(torch.rand(()))]


def test_a_seed_repeats_a_training_and_the_caller_notices_nothing() -> None:
    with seeded(1):
        before = generators()
        first = run(training, None)
        assert same(first, run(training, None))
        after = draws()
    with seeded(1):
        assert draws() == after
    assert first.metrics != {}
    assert before["numpy"][0] == "MT19937"


def test_seeds_differ() -> None:
    seen = []
    for seed in (0, 1, 2**32 - 1, 2**40):  # NumPy takes 32 bits
        with seeded(seed):
            seen.append(tuple(draws()))
    assert len(set(seen)) == len(seen)


def test_generators_are_restored_after_a_failure() -> None:
    def train(trial: lab.Trial) -> Tensor:
        torch.rand(3), random.random(), np.random.rand()
        raise RuntimeError("no")

    with seeded(4):
        assert run(train, None).status == "failed"
        after = draws()
    with seeded(4):
        assert draws() == after
