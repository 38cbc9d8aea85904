"""The record of a whole landscape: stored, read again, read from other versions, refused."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
import synthetic

from halflife.lab.landscape import landscape
from halflife.lab.ledger import Ledger
from halflife.lab.meta import Meta
from halflife.lab.metric import Metric
from halflife.lab.tasks import STACKED, Digits, Training

FIELDS = {f.name for f in fields(Meta)}
GROWN = {"rule": "stable", "axis": "lr", "side": "low", "value": 1e-5}
RATE = {"effective_rate": 30.0, "lr": 1e-2, "seed": 0, "method": "measured"}
STORED = {
    **json.loads(json.dumps(synthetic.meta().as_dict())),
    "betas": [0.9, 0.999],
    "omitted": {"decoupled": 1},
    "extensions": [GROWN],
    "unresolved": [{**GROWN, "reason": "4 extensions, the limit"}],
    "calibration": {"stable": RATE},
    "choose": {"name": "val", "unit": "nats", "goal": "min", "examples": None},
    "params": {"momentum": [0.9, 0.99], "nesterov": [True]},
    "confirm_seeds": [10_000, 10_001],
}


def test_an_earlier_name_of_an_optimizer_is_read_as_todays():
    assert Meta.read({"optimizer": "adam"}).optimizer == "adamw"
    assert Meta.read({"optimizer": "sgd"}).optimizer == "sgd"


def test_what_is_stored_comes_back():
    meta = Meta.read(STORED)
    stored = json.loads(json.dumps(meta.as_dict()))
    assert {name: stored[name] for name in STORED} == STORED
    assert Meta.read(stored).as_dict() == meta.as_dict()


def test_an_older_ledger_has_defaults_and_a_newer_one_more_keys():
    old = Meta.read({"name": "digits", "lrs": [0.1], "seeds": None})
    assert (old.name, old.lrs, old.seeds, old.strengths, old.extend) == (
        "digits", [0.1], (), {}, None,
    )  # fmt: skip
    assert Meta.read({}) == Meta()
    assert Meta.read({**STORED, "invented": {"later": 1}}) == Meta.read(STORED)


def test_one_metric_stands_for_the_other():
    accuracy = Metric("acc", "%", goal="max", examples=500)
    error = Metric("err")
    both = Meta(choose=error.as_dict(), report=accuracy.as_dict())
    assert (both.chosen_by, both.reported) == (error, accuracy)
    for one in (Meta(choose=error.as_dict()), Meta(report=error.as_dict())):
        assert (one.chosen_by, one.reported) == (error, error)
    assert Meta().chosen_by == Meta().reported == Metric("value")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 3, "name must be a string, got 3"),
        ("steps", "240", "steps must be an integer, got '240'"),
        ("steps", True, "steps must be an integer, got True"),
        ("extend", 1, "extend must be true or false, got 1"),
        ("central_lr", [0.1], r"central_lr must be a number, got \[0.1\]"),
        ("rules", "stable", "rules must be a list, got 'stable'"),
        ("lrs", [0.1, "x"], r"lrs\[1\] must be a number, got 'x'"),
        ("strengths", [0.1], r"strengths must be a mapping, got \[0.1\]"),
        ("choose", {"unit": "%"}, "choose must be a metric with a name"),
        ("params", {"momentum": 0.9}, r"params\['momentum'\] must be a list, got 0.9"),
        ("confirm_seeds", [0.5], r"confirm_seeds\[0\] must be an integer, got 0.5"),
        ("omitted", {"l2": 0.5}, r"omitted\['l2'\] must be an integer, got 0.5"),
        ("extensions", [{"rule": "l2"}], r"extensions\[0\] must be a mapping with rule, axis"),
        ("calibration", {"stable": RATE | {"lr": "x"}}, r"calibration\['stable'\]\['lr'\] must"),
    ],
)
def test_a_wrong_type_is_refused_by_name(key, value, message):
    with pytest.raises(ValueError, match=rf"^{message}.*; restore the ledger from a copy, or map"):
        Meta.read({**STORED, key: value})


@pytest.mark.parametrize("optimizer", STACKED)
def test_every_key_that_a_landscape_writes_is_a_field(optimizer, tmp_path):
    training = Training(Digits("digits", images=60), optimizer, 1, 20, "cosine")
    options = {"lr": [1e-2], "strength": [1e-2], "rules": ["stable"], "seeds": 1, "confirm": 0}
    landscape(training, workers=0, out=tmp_path, progress=False, **options)
    with Ledger(tmp_path) as ledger:
        stored = ledger._study.user_attrs["meta"]
        assert ledger.meta().as_dict() == stored
    others = {key for _, settings in STACKED.values() for key in settings}
    unset = {"default_decay"} if optimizer == "sgd" else set()
    unset |= {"equivalence", "test_examples", "command"}
    assert stored.keys() == FIELDS - unset - (others - training.kind.settings.keys())
