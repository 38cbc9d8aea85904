"""An edited training is refused by name; what changes nothing that it does is no edit."""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from halflife import lab
from halflife.lab.trials.fingerprint import difference, parts_of

Load = Callable[[str], Any]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Sources as a user's module `mine`, one after the other."""
    count = iter(range(1000))

    def load(source: str) -> Any:
        path = tmp_path / str(next(count)) / "mine.py"
        path.parent.mkdir()
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("mine", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "mine", module)
        spec.loader.exec_module(module)
        return module

    return load


SOURCE = """
import functools
import torch

WIDTH = 4

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, 1)

    @torch.no_grad()
    def measured(self, x):
        return helper(self.layer(x))

def helper(x):
    return x + 1

@torch.no_grad()
def error(model):
    return score(model)

def score(model):
    return 1.0

@functools.lru_cache
def data():
    return made()

def made():
    return 2

def loud(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)
    return inner

@loud
def fitted(net):
    return data()

def train(trial):
    net = Net()
    fitted(net)
    return error(net)

def make(trial):
    return Net()
"""

EDITS = {
    "a function": ("return 1.0", "return 1.5", {"mine.score"}),
    "a constant": ("WIDTH = 4", "WIDTH = 5", {"mine.Net: WIDTH"}),
    "a class": ("self.layer = torch.nn", "self.other = torch.nn", {"mine.Net"}),
    "behind torch.no_grad": ("return x + 1", "return x + 2", {"mine.helper"}),
    "a decorated function": ("return score(model)", "return score(model) + 1", {"mine.error"}),
    "behind lru_cache": ("return 2", "return 3", {"mine.made"}),
    "a decorator": ("return function(*args)", "return function(1)", {"mine.fitted (inner)"}),
    "within a decorator": ("return data()", "return data() + 1", {"mine.fitted"}),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_is_named(edit: tuple[str, str, set[str]], load: Load) -> None:
    before, after, named = edit
    assert SOURCE.count(before) == 1
    first = parts_of(load(SOURCE).train)
    second = parts_of(load(SOURCE.replace(before, after)).train)
    assert set(difference(first, second)) == named


def test_comments_docstrings_and_layout_are_no_edit(load: Load) -> None:
    other = SOURCE.replace("def helper(x):\n", 'def helper(\n    x,  # this\n):\n    """Help."""\n')
    other = other.replace(
        "class Net(torch.nn.Module):", 'class Net(torch.nn.Module):\n    """A net."""\n'
    )
    other = "# first\n\n\n" + other.replace("WIDTH = 4", "WIDTH = 4  # wide")
    assert other != SOURCE
    assert parts_of(load(SOURCE).train) == parts_of(load(other).train)


def test_what_the_training_does_not_use_is_no_edit(load: Load) -> None:
    other = SOURCE.replace("def make(trial):\n    return Net()", "def make(trial):\n    return 0")
    assert parts_of(load(SOURCE).train) == parts_of(load(other).train)


def test_a_lambda_is_its_own_code_and_not_its_line(load: Load) -> None:
    """Else another grid, in the call in which it stands, would be another training."""
    one = load("def call(f, lr): return f\ntrain = call(lambda t: t.lr + 1, lr=[1])").train
    grid = load("def call(f, lr): return f\ntrain = call(lambda t: t.lr + 1, lr=[1, 2])").train
    edited = load("def call(f, lr): return f\ntrain = call(lambda t: t.lr + 2, lr=[1])").train
    assert parts_of(one) == parts_of(grid)
    assert difference(parts_of(one), parts_of(edited)) == ["mine.<lambda>"]


def test_of_two_lambdas_both_count(load: Load) -> None:
    source = "one = lambda t: {}\ntwo = lambda t: 2\ndef train(t): return one(t) + two(t)"
    first, second = (parts_of(load(source.format(n)).train) for n in (1, 7))
    assert difference(first, second) == ["mine.<lambda>"]


# --- what an adapter, a partial, a container or an object holds -----------------------------------

DATA = [[0.0], [1.0]] * 10
HOLDERS: dict[str, Callable[[Any], Any]] = {
    "lightning": lambda mine: lab.lightning(mine.make, (DATA, DATA), trainer={"max_epochs": 2}),
    "transformers": lambda mine: lab.transformers(mine.make, {"max_steps": 2}, DATA, DATA),
    "estimator": lambda mine: lab.estimator(mine.make, DATA, DATA),
    "partial": lambda mine: functools.partial(mine.train, maker=mine.make),
    "partial of an adapter": lambda mine: functools.partial(
        lab.estimator(mine.make, DATA, DATA).__call__
    ),
    "in a mapping": lambda mine: lab.lightning(
        lambda trial: 0, (DATA, DATA), trainer={"callbacks": [mine.make, object()]}
    ),
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_an_edit_of_what_an_adapter_is_given_is_named(
    holder: Callable[[Any], Any], load: Load
) -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    pytest.importorskip("transformers", reason="needs the extra hf")
    edited = SOURCE.replace("def make(trial):\n    return Net()", "def make(trial):\n    return 0")
    remarked = SOURCE.replace("    return Net()", "    # the net\n    return Net()")
    first, second, third = (parts_of(holder(load(s))) for s in (SOURCE, edited, remarked))
    assert "mine.make" in difference(first, second)
    assert first == third


def test_settings_of_an_adapter_are_parts(load: Load) -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    mine = load(SOURCE)
    short, long = (
        parts_of(lab.lightning(mine.make, (DATA, DATA), trainer={"max_epochs": n})) for n in (2, 3)
    )
    assert difference(short, long) == ["train.trainer"]


def test_an_object_of_the_users_is_followed(load: Load) -> None:
    source = SOURCE + (
        "\nclass Training:\n    def __init__(self, make): self.make = make; self.itself = self\n"
        "    def __call__(self, trial): return self.make(trial)\ntraining = Training(make)\n"
    )
    edited = source.replace("def make(trial):\n    return Net()", "def make(trial):\n    return 0")
    first, second = (parts_of(load(s).training) for s in (source, edited))
    assert "mine.make" in difference(first, second)


def arrays(change: float) -> dict[str, Any]:
    values = np.arange(6.0) + change
    tensor = torch.tensor(values)
    rows = [{"x": row, "y": 1} for row in tensor]
    return {
        "array": values,
        "tensor": tensor,
        "bfloat16": tensor.bfloat16(),
        "transposed": tensor.reshape(2, 3).T,
        "objects": np.array([change, "text"], dtype=object),
        "rows": rows,
        "dataset": TensorDataset(tensor),
        "subset": Subset(TensorDataset(tensor), [0, 2]),
        "loader": DataLoader(TensorDataset(tensor)),
        "hugging face": types.SimpleNamespace(_fingerprint=str(change)),
    }


@pytest.mark.parametrize("kind", arrays(0))
def test_data_is_told_by_its_content(kind: str) -> None:
    def train(trial: object, data: object) -> None: ...

    one, same, other = (
        parts_of(functools.partial(train, data=arrays(change)[kind])) for change in (0, 0, 1)
    )
    assert one == same
    assert len(difference(one, other)) == 1


def test_large_data_is_told_by_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halflife.lab.trials.values._CHEAP", 10)
    zeros, ones, longer = (
        parts_of(functools.partial(print, data)) for data in (np.zeros(9), np.ones(9), np.ones(10))
    )
    assert zeros == ones
    assert difference(ones, longer) == ["train(0)"]


def test_a_dataset_of_hugging_face_is_told_by_its_rows(tmp_path: Path) -> None:
    """Its own fingerprint differs as soon as its file is written again."""
    datasets = pytest.importorskip("datasets", reason="needs the extra hf")

    def read(last: int, folder: str) -> Any:
        path = tmp_path / folder / "rows.csv"
        path.parent.mkdir()
        path.write_text(f"x,label\n1,a\n2,\n{last},b\n")
        return datasets.Dataset.from_csv(str(path), cache_dir=str(tmp_path / folder))

    datasets.disable_progress_bars()
    one, same, other = read(3, "one"), read(3, "same"), read(4, "other")
    parts = [parts_of(functools.partial(print, d)) for d in (one, same, other, one.select([0, 2]))]
    assert one._fingerprint != same._fingerprint
    assert parts[0] == parts[1]
    assert difference(parts[0], parts[2]) == difference(parts[0], parts[3]) == ["train(0)"]


def test_a_sweep_refuses_an_edited_make(load: Load, tmp_path: Path) -> None:
    source = """
class Model:
    def fit(self, X, y): pass
    def score(self, X, y): return {}
def make(trial): return Model()
"""

    def sweep(score: str) -> lab.Result:
        train = lab.estimator(load(source.format(score)).make, DATA, DATA)
        return lab.sweep(
            train, lr=[0.1], weight_decay=[0.1], seeds=1, confirm=0, default=False, extend=False,
            choose=lab.Metric("val", goal="max"), out=tmp_path / "out", resume=True,
            executor=lab.InProcess(), progress=False,
        )  # fmt: skip

    assert len(sweep("1.0").cells()) == 2
    assert len(sweep("1.0  # of all").cells()) == 2
    with pytest.raises(lab.LedgerError, match=r"mine\.Model"):
        sweep("2.0")
