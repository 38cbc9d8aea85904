"""Arguments of a sweep: made plain where they can be, else refused before anything is written."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from test_sweep import cells, swept, valley

from halflife import Decoupled, Stable, lab
from halflife.lab import Result
from halflife.rules.contract import DecayRule


def flat(trial):
    return valley(trial.lr, trial.weight_decay, trial.seed)


@dataclass(frozen=True)
class Slower(DecayRule):
    name = "slower"
    factor: float = 0.5

    def rate(self, step):
        return self.factor * step.lr


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0.25, 0.75, 2), [0.25, 0.75]),
        ([np.float32(0.5), np.float64(0.25)], [0.5, 0.25]),
        (np.arange(2), [0, 1]),
        ([torch.tensor(0.5), torch.tensor(1)], [0.5, 1]),
        (range(2, 4), [2, 3]),
        ([True, False], [True, False]),
        ([1.0, math.inf], [1.0, math.inf]),
        (("small", 3), ["small", 3]),
    ],
)
def test_values_of_parameters_become_plain_and_are_read_again(tmp_path, values, expected):
    result = swept(flat, params={"p": values}, out=tmp_path, seeds=1, confirm=0, extend=False)
    again = Result.read(tmp_path)
    assert list(again.meta.params["p"]) == expected
    assert [type(v) for v in again.meta.params["p"]] == [type(v) for v in expected]
    assert again.cells() == result.cells()
    assert len(again.cells()) == 12 * len(expected)


@pytest.mark.parametrize("seeds", [np.int64(2), np.arange(2), [np.int32(0), 1], range(2)])
def test_seeds_of_numpy_are_seeds(tmp_path, seeds):
    swept(seeds=seeds, out=tmp_path)
    assert cells(Result.read(tmp_path)) == cells(swept(seeds=2))


def test_settings_of_numpy_are_those_of_python(tmp_path):
    betas = (np.float32(0.5), np.float64(0.75))
    options = {"out": tmp_path, "seeds": 1, "confirm": 0, "extend": False}
    result = swept(flat, settings={"betas": betas, "eps": torch.tensor(0.5)}, **options)
    plain = {"betas": (0.5, 0.75), "eps": 0.5}
    assert cells(swept(flat, settings=plain, resume=True, **options)) == cells(result)


def test_other_numbers_of_numpy(tmp_path):
    swept(out=tmp_path, confirm=np.int64(2), extension_limit=np.int64(1), extend=np.bool_(True),
          equivalence=np.float32(0.5))  # fmt: skip
    meta = Result.read(tmp_path).meta
    assert (meta.confirm_seeds, meta.extension_limit) == ([10_000, 10_001], 1)
    assert (meta.extend, meta.equivalence) == (True, 0.5)


@pytest.mark.parametrize("rules", ["decoupled", Decoupled(), [Decoupled()], ("decoupled",) * 2])
def test_a_rule_that_is_trivially_its_name_is_that_name(rules):
    assert cells(swept(flat, rules=rules)) == cells(swept(flat))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": {"layers": [(64, 64), (128,)]}}, r"params: layers=\(64, 64\) must be a number"),
        ({"params": {"p": [[64], [128]]}}, r"params: p=\[64\] must be"),
        ({"params": {"p": [None, "a"]}}, "params: p=None must be"),
        ({"params": {"p": ["", "a"]}}, "params: p='' must be"),
        ({"params": {"p": ["a\nb"]}}, r"params: p='a\\nb' must be"),
        ({"params": {"p": ["a" * 201]}}, "1 to 200 printable characters"),
        ({"params": {"p": [torch.nn.ReLU]}}, "params: p=<class .*ReLU.*sweep names"),
        ({"params": {"p": [math.nan]}}, "params: p=nan must be"),
        ({"params": {"p": [10**400]}}, "params: p=1000.* must be"),
        ({"params": {"p": [torch.zeros(2)]}}, r"params: p=tensor\(\[0., 0.\]\) must be"),
        ({"params": {"p": [1, 1.0]}}, r"params: p=\[1, 1.0\] must be a list of different values"),
        ({"params": {"p": []}}, r"params: p=\[\] must be a list of different values"),
        ({"params": {"opt": "abc"}}, "params: opt='abc' must be a list"),
        ({"params": {"p": 0.9}}, "params: p=0.9 must be a list"),
        ({"params": {"p": {1, 2}}}, r"params: p=\{1, 2\} must be a list"),
        ({"params": {"lr": [5, 6]}}, "params: 'lr' must be a name .* other than lr"),
        ({"params": {"rule": ["a"]}}, "params: 'rule' must be a name"),
        ({"params": {"a\nb": [1]}}, r"params: 'a\\nb' must be a name"),
        ({"params": [1]}, r"params must be lists by name, got \[1\]"),
        ({"seeds": []}, r"seeds=\[\]: at least one"),
        ({"seeds": 10_001}, "seeds=10000: must be below 10000"),
        ({"seeds": 2.0}, "seeds=2.0 must be a list"),
        ({"seeds": None}, "seeds=None must be a list"),
        ({"seeds": [1.5]}, "seeds must be an integer >= 0, got 1.5"),
        ({"seeds": True}, "seeds must be an integer >= 1, got True"),
        ({"settings": {"bets": (0.9, 0.95)}}, "settings: 'bets' must be .*did you mean 'betas'"),
        ({"settings": {"lr": 0.1}}, "settings: 'lr' must be one that AdamW takes beside"),
        ({"settings": {"betas": (torch.nn.ReLU, 0.9)}}, "settings: betas=.* must be plain data"),
        ({"settings": {"eps": -1.0}}, "eps"),
        ({"settings": 3}, "settings must be values by name, got 3"),
        ({"rules": [Stable(eps=0.5)]}, r"rules=Stable\(eps=0.5\): must be a name"),
        ({"rules": [Slower(0.25)]}, r"rules=Slower\(factor=0.25\): must be a name.*'slower'"),
        ({"rules": [Stable]}, "rules must be names of decay rules, got <class"),
        ({"rules": 3}, "rules=3 must be a list"),
        ({"rules": ["decoupld"]}, "rules='decoupld': unknown rule"),
        ({"equivalence": "0.1"}, "equivalence must be a finite number > 0, got '0.1'"),
        ({"equivalence": -1.0}, "equivalence must be a finite number > 0, got -1.0"),
        ({"extension_limit": "a"}, "extension_limit must be an integer >= 0, got 'a'"),
        ({"extension_limit": -1}, "extension_limit must be an integer >= 0"),
        ({"confirm": "8"}, "confirm must be an integer >= 0, got '8'"),
        ({"choose": 3}, "choose=3: must be lab.Metric"),
        ({"choose": "a\nb"}, r"choose='a\\nb': must be lab.Metric"),
        ({"choose": lab.Metric("a\nb")}, r"choose=Metric\(name='a\\nb'.* must be lab.Metric"),
        ({"report": lab.Metric("x" * 201)}, "report=Metric.* 1 to 200 printable"),
        ({"report": ""}, "report='': must be lab.Metric"),
        ({"name": 3}, "name must be a text, got 3"),
        ({"executor": "local"}, "executor must be one of halflife.lab's, got 'local'"),
        ({"sampler": ["grid"]}, r"sampler=\['grid'\]: must be one of"),
        ({"lr": None}, "lr=None: must be lab.log"),
        ({"time_limit": 0}, "time_limit must be .*leave it out for no limit"),
    ],
)
def test_what_cannot_be_used_is_said_by_name_before_anything_is_written(change, message, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        swept(flat, out=tmp_path / "out", **change)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


# --- going on -------------------------------------------------------------------------------------


def test_a_metric_that_no_training_has_is_named_with_those_that_are_there(tmp_path):
    def train(trial):
        return {"val": flat(trial), "test": 1.0}

    options = {"out": tmp_path, "confirm": 0, "extend": False}
    swept(train, choose="val", **options)
    for option in ("choose", "report"):
        known = {"choose": "val", option: "vall"}
        with pytest.raises(
            lab.LedgerError,
            match=rf"^{option}='vall': must be one that the 24 trainings .*'val', 'test'; did you",
        ):
            swept(train, resume=True, **known, **options)


def test_a_training_is_judged_anew_by_other_metrics(tmp_path):
    def train(trial):
        return {"val": flat(trial), "test": math.nan}

    options = {"out": tmp_path, "confirm": 0, "extend": False}
    lost = swept(train, choose="val", report="test", **options)
    assert lost.best is None
    assert all(c["diverged"] for c in lost.cells())
    again = swept(train, choose="val", resume=True, **options)
    assert (again.best.lr, again.best.weight_decay) == (1e-2, 1e-2)
    assert not any(c["diverged"] for c in again.cells())
    assert not any(c["diverged"] for c in Result.read(tmp_path).cells())


@pytest.mark.parametrize("count", [3, 9])
def test_a_rule_that_is_added_trains_no_column_of_the_first_anew(tmp_path, count):
    """There and back by a strength of 12 digits, a coefficient may differ in its last one."""
    options = {
        "lr": lab.log(1e-4, 1e-1, 9), "weight_decay": lab.log(1e-3, 1.0, count), "seeds": 1,
        "confirm": 0, "extend": count == 3,
    }  # fmt: skip

    def train(trial):  # the best decay lies beyond the highest, so the grid grows where it may
        return valley(trial.lr, trial.weight_decay, trial.seed, (1e-2, 3.0))

    def own(result):
        return [c for c in cells(result) if c[0] in ("none", "decoupled")]

    alone = swept(train, out=tmp_path, **options)
    assert bool(alone.meta.extensions) == options["extend"]
    both = swept(train, out=tmp_path, resume=True, rules=["decoupled", "independent"], **options)
    assert own(both) == own(alone)
    assert both.meta.coefficients["decoupled"] == alone.meta.coefficients["decoupled"]


def of_data(trial, data):
    return data + trial.lr


def test_a_partial_has_the_name_of_its_function():
    train = functools.partial(functools.partial(of_data), data=2.0)
    name = swept(train, seeds=1, confirm=0, extend=False).meta.name
    assert name == f"{of_data.__module__}:of_data"
