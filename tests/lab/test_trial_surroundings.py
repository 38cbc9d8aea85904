"""What a training changes of its process is not there for the next, nor for the caller."""

from __future__ import annotations

import functools
import os
import random
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from halflife import lab
from halflife.lab.trials.bases import OptimizerKind
from halflife.lab.trials.cell import Outcome
from halflife.lab.trials.held import held, state_of
from halflife.lab.trials.job import Job, Portion, run_portion

SWEEP: dict[str, Any] = {
    "lr": [1e-3, 1e-2, 1e-1], "weight_decay": [0.1], "seeds": 1, "confirm": 0, "default": False,
    "extend": False, "progress": False,
}  # fmt: skip


def run(
    train: Callable[..., Any], folder: Path | None = None, seed: int = 3, until: float = 1.0
) -> Outcome:
    names = (lab.Metric("loss"), lab.Metric("loss"))
    job = Job(train, OptimizerKind("adamw"), names, folder)
    (outcome,) = run_portion(job, Portion((lab.Cell("decoupled", 1e-2, 0.01, seed),), until))
    return outcome


def numerics() -> Any:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic, cudnn.benchmark, torch.get_float32_matmul_precision(),
    )  # fmt: skip


def deterministic() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("medium")
    if not torch.backends.flags_frozen():  # as torch's own tests, which others use, leave them
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.deterministic = True


def environment() -> None:
    os.environ["HALFLIFE_LEFT"] = "1"
    os.environ["HALFLIFE_KNOWN"] = "2"
    os.environ.pop("HALFLIFE_GONE", None)


def other_filters() -> None:
    warnings.simplefilter("error")
    warnings.showwarning = print  # type: ignore[assignment]


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "folder": (os.getcwd, lambda: os.chdir("/")),
    "environment": (lambda: dict(os.environ), environment),
    "filters": (lambda: (list(warnings.filters), warnings.showwarning), other_filters),
    "list of filters": (
        lambda: list(warnings.filters),
        lambda: setattr(warnings, "filters", [("error", None, Warning, None, 0)]),
    ),
    "floating point": (np.geterr, lambda: np.seterr(all="raise")),
    "dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "device": (lambda: torch.zeros(1).device, lambda: torch.set_default_device("meta")),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(3)),
    "deterministic": (numerics, deterministic),
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_what_a_training_changes_is_put_back(
    name: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFLIFE_KNOWN", "1")
    monkeypatch.setenv("HALFLIFE_GONE", "1")
    read, change = CHANGES[name]
    before, seen = read(), []

    def train(trial: lab.Trial) -> float:
        seen.append(read())
        change()
        seen.append(read())
        if fails:
            raise RuntimeError("no")
        return 1.0

    for _ in range(2):
        assert run(train).status == ("failed" if fails else "done")
        assert read() == before
    assert [value == before for value in seen] == [True, False] * 2


def test_a_default_device_of_the_callers_stays() -> None:
    with torch.device("meta"):
        assert run(lambda trial: float(torch.zeros(3).is_meta)).metrics == {"loss": 1.0}
        assert torch.zeros(1).is_meta


def test_a_folder_that_the_training_deletes_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def train(trial: lab.Trial) -> float:
        os.chdir(tmp_path)
        folder.rmdir()
        return 1.0

    assert run(train).status == "done"


@pytest.mark.parametrize("sampler", ["grid", "halving"])
def test_a_training_may_change_the_folder_under_a_relative_out(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").touch()
    monkeypatch.chdir(tmp_path)
    epochs: list[int] = []

    def train(trial: lab.Trial) -> float:
        assert Path("data").exists()
        os.chdir("elsewhere")
        trial.optimizer(nn.Linear(2, 1))
        for epoch in trial.epochs(10):
            if trial.lr == 1e-3:
                epochs.append(epoch)
            trial.report(loss=trial.lr)
        return trial.lr

    result = lab.sweep(train, out="runs", sampler=sampler, executor=lab.InProcess(), **SWEEP)
    assert {c["status"] for c in result.cells()} <= {"done", "pruned"}
    assert epochs in ([*range(10)] * 2, [*range(4)] * 2 + [*range(4, 10)] * 2)
    assert len(lab.Result.read("runs").records) == 6
    assert Path(str(result.out)).absolute() == tmp_path / "runs"
    assert not list((tmp_path / "elsewhere").iterdir())


# --- generators that a training holds -------------------------------------------------------------

DATA = TensorDataset(torch.arange(16.0))
GENERATOR = torch.Generator()
LOADER = DataLoader(DATA, batch_size=1, shuffle=True, generator=GENERATOR)
MODULE = types.ModuleType("own_module")
MODULE.__dict__["NOISE"] = np.random.default_rng(1)
SHUFFLE = random.Random(0).shuffle


def shuffled() -> float:
    values = [*range(1000)]
    SHUFFLE(values)
    return float(values[0])


class Slotted:
    __slots__ = ("generator",)

    def __init__(self) -> None:
        self.generator = np.random.RandomState(1)

    def __call__(self, trial: lab.Trial) -> float:
        return float(self.generator.rand())


class Odd(dict):  # type: ignore[type-arg]
    """As many write it: every attribute is a key."""

    __getattr__ = dict.__getitem__


CONFIG = [Odd(draw=np.random.Generator(np.random.MT19937(1)))]
DEFAULT = np.random.Generator(np.random.SFC64(1))


def with_default(trial: lab.Trial, generator: Any = DEFAULT) -> Any:
    return generator.normal()


def closed(trial: lab.Trial, own: torch.Generator) -> float:
    return float(torch.rand((), generator=own))


TRAININGS: dict[str, Callable[[lab.Trial], Any]] = {
    "a loader": lambda trial: float(next(iter(LOADER))[0]),
    "a module": lambda trial: MODULE.NOISE.normal(),
    "a method's own": lambda trial: shuffled(),
    "an object": Slotted(),
    "a mapping": lambda trial: CONFIG[0]["draw"].normal(),
    "a default": with_default,
    "a partial": functools.partial(closed, own=torch.Generator()),
    "code within": lambda trial: (lambda: float(torch.rand((), generator=GENERATOR)))(),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_generator_that_a_training_holds_begins_with_each_cells_seed(name: str) -> None:
    train = TRAININGS[name]
    first = run(train, seed=1)
    assert first.status == "done", first.error
    others = [run(train, seed=seed).metrics for seed in (1, 2, 2**40, 1)]
    assert others[0] == others[-1] == first.metrics
    assert others[1] != first.metrics != others[2]


def plain(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, torch.Tensor) else state


@pytest.mark.parametrize("name", TRAININGS)
def test_a_generator_is_the_callers_again(name: str) -> None:
    (own,) = held(TRAININGS[name])
    before = plain(state_of(own))
    run(TRAININGS[name])
    assert plain(state_of(own)) == before


def test_cells_of_one_seed_are_given_the_same_order() -> None:
    result = lab.sweep(TRAININGS["a loader"], executor=lab.InProcess(), **SWEEP)
    assert len({c["metrics"]["loss"] for c in result.cells()}) == 1


def test_no_generator_is_found_in_what_is_installed() -> None:
    assert held(lambda trial: nn.Linear(torch.randn(3).numel(), np.float64(1))) == []
    assert held(functools.partial(sorted, key=random.SystemRandom().random)) == []


class Killed(BaseException):
    """As if the process were gone."""


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_goes_on_with_the_generators_that_it_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halflife.lab.trials.trial._CHECKPOINT_EVERY", 0.0)

    def train(trial: lab.Trial, draw: Any, at: int = -1) -> None:
        trial.optimizer(nn.Linear(2, 1))
        for epoch in trial.epochs(3):
            trial.report(loss=draw(trial))
            if epoch == at:
                raise Killed

    draw = TRAININGS[name]
    undisturbed = run(functools.partial(train, draw=draw))
    with pytest.raises(Killed):
        run(functools.partial(train, draw=draw, at=2), tmp_path)
    resumed = run(functools.partial(train, draw=draw), tmp_path)
    assert resumed.curve == undisturbed.curve
    assert resumed.curve is not None
    assert len(set(resumed.curve["loss"])) == 3


# --- a training that forks ------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda: sys.exit(3), 3),
        (lambda: sys.exit("why"), 1),
        (lambda: 1 / 0, 1),
        (lambda: None, 0),
    ],
)
def test_a_forked_child_ends_where_the_training_does(
    end: Callable[[], Any], code: int, tmp_path: Path
) -> None:
    known = os.getpid()

    def train(trial: lab.Trial) -> float:
        if (child := os.fork()) == 0:
            end()
            return 5.0
        return float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    outcome = run(train, tmp_path)
    if os.getpid() != known:  # else the tests would go on in both
        os._exit(77)
    assert outcome.metrics == {"loss": float(code)}
