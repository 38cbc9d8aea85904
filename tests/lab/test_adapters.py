"""Trainings of other frameworks: the same numbers as by hand, and the trial's services."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import halflife
from halflife import lab
from halflife.lab.trials.bases import OptimizerKind
from halflife.lab.trials.cell import Outcome
from halflife.lab.trials.job import Job, Portion, run_portion

X = torch.linspace(-2, 2, 160).reshape(40, 4).sin()
Y = X.sum(1, keepdim=True).cos()
EPOCHS = 5


def run(train: Callable[..., Any], metric: str, *, until: float = 1.0) -> Outcome:
    """The outcome as a worker has it, which is sent the training."""
    return run_here(cloudpickle.loads(cloudpickle.dumps(train)), metric, until=until)


def run_here(
    train: Callable[..., Any], metric: str, *, seed: int = 0, until: float = 1.0
) -> Outcome:
    job = Job(train, OptimizerKind("adamw"), (lab.Metric(metric),))
    cell = lab.Cell("independent", 1e-2, 1e-2, seed)
    (outcome,) = run_portion(job, Portion((cell,), until), "cpu")
    assert outcome.status != "failed", outcome.error
    return outcome


def net(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(4, 1)


def by_hand(batch: int) -> list[float]:
    """The loss after each epoch of the same training, with nothing of the lab."""
    model = net()
    groups = halflife.param_groups(model, weight_decay=1e-2)
    optimizer = halflife.AdamW(groups, lr=1e-2, decay="independent")
    losses = []
    for _ in range(EPOCHS):
        for x, y in zip(X.split(batch), Y.split(batch), strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        losses.append(nn.functional.mse_loss(model(X), Y).item())
    return losses


# --- estimators -----------------------------------------------------------------------------------


class Remembering:
    """An estimator that says what it has been given; a number is an example and its own label."""

    seen: list[dict[str, list[int]]] = []  # noqa: RUF012  # of all of them

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        self.given = {"fit": sorted(map(int, y))}
        self.seen.append(self.given)

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        assert list(X[:, 0]) == list(y)
        self.given[str(len(self.given))] = sorted(map(int, y))
        return len(y)


@pytest.fixture(params=["array", "tensor", "list"])
def examples(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    values = np.arange(50.0)
    if request.param == "tensor":
        return torch.tensor(values)[:, None], torch.tensor(values)
    return (
        (values[:, None], values) if request.param == "array" else (values[:, None], list(values))
    )


def test_an_estimators_splits_follow_the_seed_alone(examples: tuple[Any, Any]) -> None:
    Remembering.seen.clear()
    train = lab.estimator(lambda trial: Remembering(), *examples, validation=0.2, test=0.3)
    sizes = []
    for seed, lr in [(0, 0.1), (0, 0.2), (1, 0.1)]:
        cell = lab.Cell("l2", lr, 0.1, seed)
        sizes.append(train(lab.Trial(cell, base=OptimizerKind("sgd"))))
    assert sizes == [{"val": 10.0, "test": 15.0}] * 3
    one, same, other = Remembering.seen
    assert one == same != other
    assert sorted(i for part in one.values() for i in part) == list(
        range(50)
    )  # nothing twice, nothing lost
    parts = sorted(one)
    unlike = [name for name in parts if sorted(one[name]) != sorted(other[name])]
    assert len(unlike) == len(parts) - 1  # what is told is of the same examples in every seed


def test_an_estimator_takes_other_examples_and_scorers() -> None:
    train = lab.estimator(
        lambda trial: Remembering(),
        np.arange(9.0)[:, None],
        np.arange(9.0),
        validation=(np.ones((2, 1)), np.ones(2)),
        test=None,
        scoring=lambda fitted, X, y: float(y.sum() + len(fitted.given["fit"])),
    )
    assert run(train, "val").metrics == {"val": 2.0 + 9.0}


def test_a_scorer_of_scikit_learn_by_name() -> None:
    from sklearn.linear_model import LinearRegression

    def make(trial: lab.Trial) -> LinearRegression:
        return LinearRegression()

    exact = lab.estimator(make, X.numpy(), X.sum(1).numpy(), scoring="neg_mean_squared_error")
    outcome = run(exact, "val")
    assert outcome.metrics == pytest.approx({"val": 0.0, "test": 0.0}, abs=1e-10)
    assert exact.name == "make"  # type: ignore[attr-defined]


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.6, 0.4), (1.5, None)])
def test_shares_leave_something_to_train_on(shares: tuple[float, float | None]) -> None:
    with pytest.raises(ValueError, match="validation, test"):
        lab.estimator(lambda trial: None, X, Y, validation=shares[0], test=shares[1])


# --- Lightning ------------------------------------------------------------------------------------


def lightning_modules() -> Any:
    pl = pytest.importorskip("lightning", reason="needs the extra lightning")

    class Regression(pl.LightningModule):
        def __init__(self, trial: lab.Trial) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val/loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        def test_step(self, batch: Any, index: int) -> None:
            self.log("test", 7.0)

    class Own(Regression):
        def __init__(self, trial: lab.Trial) -> None:
            super().__init__(trial)
            self.given = trial.lr, trial.weight_decay, trial.decay

        def configure_optimizers(self) -> torch.optim.Optimizer:
            lr, weight_decay, decay = self.given
            groups = halflife.param_groups(self, weight_decay=weight_decay)
            return halflife.AdamW(groups, lr=lr, decay=decay)

    return Regression, Own


quiet = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")


def loader(batch: int = 8) -> DataLoader:
    return DataLoader(TensorDataset(X, Y), batch)


@quiet
@pytest.mark.parametrize("own", [False, True])
def test_lightning_trains_as_by_hand(own: bool) -> None:
    make = lightning_modules()[own]
    train = lab.lightning(make, (loader(), loader(40), loader(40)), trainer={"max_epochs": EPOCHS})
    outcome = run(train, "val/loss")
    assert outcome.curve is not None
    assert outcome.curve["step"] == [5, 10, 15, 20, 25]
    assert outcome.curve["val/loss"] == pytest.approx(by_hand(8), rel=1e-6)
    assert outcome.metrics == {"val/loss": outcome.curve["val/loss"][-1], "test": 7.0}
    assert (outcome.steps, outcome.progress) == (25, 1.0)
    assert (outcome.epochs, outcome.curve_unit, outcome.optimizer) == (EPOCHS, "step", "adamw")
    assert ["without trial.optimizer" in note for note in outcome.notes] == [True] * own
    assert train.name == make.__name__  # type: ignore[attr-defined]


@quiet
@pytest.mark.parametrize(
    ("trainer", "epochs", "steps"),
    [
        ({"max_epochs": 3}, 3, 15),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 3, 9),  # the last of 5 batches alone
        ({"max_epochs": -1, "max_steps": 12}, 2.4, 12),
        ({"max_epochs": 3, "limit_train_batches": 2}, 3, 6),
    ],
)
def test_lightnings_epochs_are_passes_and_no_steps(
    trainer: dict[str, Any], epochs: float, steps: int
) -> None:
    make, _ = lightning_modules()
    outcome = run(lab.lightning(make, (loader(), loader(40), loader(40)), trainer=trainer), "test")
    assert (outcome.epochs, outcome.steps) == (pytest.approx(epochs), steps)


@quiet
def test_the_epochs_of_a_training_that_ends_early_are_those_trained() -> None:
    pl = pytest.importorskip("lightning", reason="needs the extra lightning")
    make, _ = lightning_modules()

    class Stopping(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    trainer = {"max_epochs": 9, "callbacks": Stopping()}
    outcome = run(lab.lightning(make, (loader(), loader(40)), trainer=trainer), "val/loss")
    assert (outcome.epochs, outcome.steps) == (2, 10)


@quiet
def test_a_sweep_of_lightning_knows_its_epochs() -> None:
    make, _ = lightning_modules()
    result = lab.sweep(
        lab.lightning(make, (loader(), loader(40)), trainer={"max_epochs": 3}),
        lr=[1e-2], weight_decay=[0.1], seeds=1, confirm=0, extend=False, choose="val/loss",
        executor=lab.InProcess(), progress=False,
    )  # fmt: skip
    meta = result.meta
    assert (meta.epochs, meta.steps, meta.steps_per_epoch, meta.curve_unit) == (3, 15, 5, "step")
    assert (meta.optimizer, meta.default_decay) == ("adamw", 0.01)


@quiet
def test_lightning_is_stopped_at_the_share() -> None:
    make, _ = lightning_modules()
    train = lab.lightning(make, (loader(), loader(40)), trainer={"max_epochs": EPOCHS})
    outcome = run(train, "val/loss", until=0.5)
    assert (outcome.status, outcome.steps, outcome.progress) == ("paused", 15, 0.6)
    assert outcome.metrics["val/loss"] == pytest.approx(by_hand(8)[2], rel=1e-6)


@quiet
def test_data_and_callbacks_are_each_trials_own() -> None:
    pl = pytest.importorskip("lightning", reason="needs the extra lightning")
    make, _ = lightning_modules()

    class Counting(pl.Callback):
        steps = 0

        def on_train_start(self, *_: Any) -> None:
            assert self.steps == 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.steps += 1

    class Data(pl.LightningDataModule):
        def __init__(self, trial: lab.Trial) -> None:
            super().__init__()
            self.batch = trial.seed + 4

        def train_dataloader(self) -> DataLoader:
            return loader(self.batch)

        def val_dataloader(self) -> DataLoader:
            return loader(40)

        def test_dataloader(self) -> DataLoader:
            return loader(40)

    counting = Counting()
    train = lab.lightning(make, Data, trainer={"max_epochs": 2, "callbacks": counting})
    assert run_here(train, "test", seed=0).steps == 20
    assert run_here(train, "test", seed=4).steps == 10
    assert counting.steps == 0


def test_lightning_refuses_what_would_go_on_from_trial_to_trial() -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    drawing = DataLoader(TensorDataset(X), shuffle=True, generator=torch.Generator())
    with pytest.raises(ValueError, match="a loader has a generator"):
        lab.lightning(lambda trial: None, (drawing, drawing))


def test_lightning_names_what_data_may_be() -> None:
    make, _ = lightning_modules()
    job = Job(lab.lightning(make, loader()), OptimizerKind("adamw"), (lab.Metric("val"),))
    (outcome,) = run_portion(job, Portion((lab.Cell("none", 0.1, 0.0, 0),)), "cpu")
    assert "data=DataLoader: must be the loaders (train, validation)" in str(outcome.error)


# --- Hugging Face ---------------------------------------------------------------------------------


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        predicted = self.net(x)
        return {"loss": nn.functional.mse_loss(predicted, labels), "predicted": predicted}


ROWS = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
ARGS = {
    "num_train_epochs": EPOCHS,
    # All at once: the Trainer shuffles.
    "per_device_train_batch_size": 40,
    "per_device_eval_batch_size": 40,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
}


def test_the_trainer_trains_as_by_hand() -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    train = lab.transformers(lambda trial: Model(), ARGS, ROWS, ROWS, test_dataset=ROWS[:1])
    outcome = run(train, "eval_loss")
    assert outcome.curve is not None
    assert outcome.curve["step"] == [1, 2, 3, 4, 5]
    assert outcome.curve["eval_loss"] == pytest.approx(by_hand(40), rel=1e-5)  # another order
    assert set(outcome.metrics) == {"eval_loss", "test_loss"}
    assert outcome.metrics["eval_loss"] == outcome.curve["eval_loss"][-1]
    assert outcome.metrics["test_loss"] != outcome.metrics["eval_loss"]
    assert (outcome.steps, outcome.epochs, outcome.curve_unit) == (EPOCHS, EPOCHS, "step")


@pytest.mark.parametrize(
    ("args", "epochs", "steps"),
    [
        ({"num_train_epochs": 3, "per_device_train_batch_size": 8}, 3, 15),
        ({"num_train_epochs": 2.4, "per_device_train_batch_size": 8}, 2.4, 12),
        ({"max_steps": 2, "per_device_train_batch_size": 8}, 0.4, 2),
        ({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}, EPOCHS, 15),
    ],
)
def test_the_trainers_epochs_are_passes_and_no_steps(
    args: dict[str, Any], epochs: float, steps: int
) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    train = lab.transformers(lambda trial: Model(), {**ARGS, **args}, ROWS, ROWS)
    outcome = run(train, "eval_loss")
    assert (outcome.epochs, outcome.steps) == (pytest.approx(epochs), steps)


def test_an_estimators_optimizer_is_not_known() -> None:
    outcome = run(
        lab.estimator(lambda trial: Remembering(), np.arange(50.0)[:, None], np.arange(50.0)), "val"
    )
    assert (outcome.optimizer, outcome.fraction) == (None, None)


def test_the_trainer_is_stopped_at_the_share() -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    outcome = run(lab.transformers(lambda t: Model(), ARGS, ROWS, ROWS), "eval_loss", until=0.4)
    assert (outcome.status, outcome.steps, outcome.progress) == ("paused", 2, 0.4)


def test_the_trainer_evaluates_at_the_end_where_it_did_not_before() -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    args = {**ARGS, "eval_strategy": "no"}
    outcome = run(lab.transformers(lambda t: Model(), args, ROWS, ROWS), "eval_loss")
    assert outcome.metrics["eval_loss"] == pytest.approx(by_hand(40)[-1], rel=1e-5)


@pytest.mark.parametrize(
    ("args", "more", "match"),
    [
        ({"learning_rate": 0.1}, {}, r"args\['learning_rate'\]=0.1: is the trial's own"),
        ({"seed": 1}, {}, r"args\['seed'\]"),
        ("folder", {}, "args=str: must be a mapping"),
        ({}, {"optimizers": (None, None)}, "optimizers: is made for each trial"),
    ],
)
def test_what_is_the_trials_is_refused(args: Any, more: dict[str, Any], match: str) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    with pytest.raises(ValueError, match=match):
        lab.transformers(lambda trial: Model(), args, ROWS, ROWS, **more)


@pytest.mark.parametrize(
    ("package", "extra", "ask"),
    [
        ("lightning.pytorch", "lightning", lambda: lab.lightning(lambda t: None, ())),
        ("transformers", "hf", lambda: lab.transformers(lambda t: None, {}, ROWS, ROWS)),
        ("sklearn", "lab", lambda: lab.estimator(lambda t: None, X, Y)),
    ],
)
def test_without_its_framework_an_adapter_names_the_extra(
    package: str, extra: str, ask: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    match = rf"^lab\.\w+ needs the extra '{extra}'.*pip install torch-halflife\[{extra}\]$"
    with pytest.raises(ImportError, match=match):
        ask()
