"""What is written can be read again; and what a ledger knows before anything has come of it."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from ledgers import ERROR, PARTS, SETTINGS, cell, outcome, train
from sqlalchemy.engine import make_url
from test_ledger_damaged import LARGE, WRONG
from test_sweep import swept, valley

from halflife import lab
from halflife.lab import Result
from halflife.lab.ledger import Ledger, LedgerError, RecordError, records
from halflife.lab.ledger.stored import written
from halflife.lab.meta import Meta

UNWRITTEN = [
    ("metrics", {"a\nb": 1.0}, r"metrics named 'a\\nb'"),
    ("metrics", {"x" * 201: 1.0}, "metrics named 'xxx"),
    ("metrics", {"val": [1, 2]}, r"metrics\['val'\]=\[1, 2\]"),
    ("metrics", {"val": torch.zeros(2)}, r"metrics\['val'\]=tensor"),
    ("metrics", {"val": LARGE}, r"metrics\['val'\]=1000"),
    ("metrics", {"val": 10**5000}, r"metrics\['val'\]=<int>"),
    ("metrics", {"not finite": "inf"}, "metrics=inf"),
    ("metrics", {"not finite": "x"}, r"metrics\['not finite'\]='x'"),
    ("curve", {"step": ["e1"], "val": [1.0]}, r"curve\['step'\]\[0\]='e1'"),
    ("curve", {"step": [1], "val": [1.0, 2.0]}, "columns of different lengths"),
    ("status", "paused", "status='paused'"),
    ("diverged", "no", "diverged='no'"),
    ("epochs", "ten", "epochs='ten'"),
]
SAME = [(key, value, key) for key, value in WRONG if key not in ("lr", "seed", "rule", "params")]


@pytest.mark.parametrize(("key", "value", "named"), [*UNWRITTEN, *SAME])
def test_a_record_that_could_not_be_read_is_not_written(tmp_path, key, value, named):
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=False)
        assert ledger.claim([cell(0)]) == [cell(0)]
        before = (tmp_path / "ledger.journal").read_bytes()
        with pytest.raises(RecordError, match=named) as raised:
            ledger.finish(cell(0), {**outcome(), key: value}, 1.0)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 500
        assert (tmp_path / "ledger.journal").read_bytes() == before
        assert ledger.finish(cell(0), outcome(), 1.0)  # it is still this driver's
    with Ledger(tmp_path) as ledger:
        assert len(ledger.records()) == 1


def test_numbers_of_numpy_and_torch_are_written_as_pythons(tmp_path):
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=False)
        assert ledger.claim([cell(0)]) == [cell(0)]
        weight = torch.nn.Parameter(torch.tensor([2.0]))
        metrics = {"val": weight * 2, "n": np.int64(3), "a": np.array(0.5), "b": np.float32("nan")}
        curve = {"step": [np.int64(1), torch.tensor(2)], "val": (np.float16(0.5), 1.0)}
        record = {**outcome(), "metrics": metrics, "curve": curve, "diverged": np.bool_(False)}
        assert ledger.finish(cell(0), record, 4.0)
        own = ledger.records()
    with Ledger(tmp_path) as ledger:
        (back,) = ledger.records()
    for found in (back, own[0]):
        assert math.isnan(found["metrics"].pop("b"))
        assert found["metrics"] == {"val": 4.0, "n": 3, "a": 0.5}
        assert [type(v) for v in found["curve"]["step"]] == [int, int]
        assert {k: list(v) for k, v in found["curve"].items()} == {"step": [1, 2], "val": [0.5, 1]}


def test_a_record_is_no_longer_than_a_line_that_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_MOST", 1 << 20)
    curve = {"step": list(range(100_000)), "val": [1 / 3] * 100_000}
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=False)
        ledger.claim([cell(0)])
        with pytest.raises(RecordError, match="report less often"):
            ledger.finish(cell(0), outcome(curve=curve), 1.0)
        long = "\n".join(["first", "x" * (2 << 20), "ValueError: last"])
        ledger.finish(cell(0), outcome(status="failed", error=long), 1.0)
    with Ledger(tmp_path) as ledger:
        assert ledger.records()[0]["error"].endswith("ValueError: last")


def test_meta_that_could_not_be_read_is_not_written(tmp_path):
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.set_meta(Meta(equivalence=0.1))
        for change in ({"equivalence": "0.1"}, {"choose": {"name": ""}}, {"extend": 1}):
            with pytest.raises(ValueError, match=next(iter(change)).replace("choose", "name")):
                ledger.set_meta(replace(Meta(), **change))
    with Ledger(tmp_path) as ledger:
        assert ledger.meta().equivalence == 0.1


# --- a sweep whose training comes to what cannot be recorded --------------------------------------


def one_cell(bad):
    def train(trial):
        good = {"loss": valley(trial.lr, trial.weight_decay, trial.seed)}
        if (trial.lr, trial.weight_decay, trial.seed) != (1e-1, 1e-1, 1):
            return good
        return bad(trial, good)

    return train


def reported(step):
    def bad(trial, good):
        trial.report(step=step, **good)
        return good

    return bad


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (lambda trial, good: {**good, "accuracy of\nclass 3": 0.5}, r"'accuracy of\\nclass 3'"),
        (lambda trial, good: {**good, "": 0.5}, "metric ''"),
        (lambda trial, good: {**good, "x" * 300: 0.5}, "metric 'xxx"),
        (lambda trial, good: {**good, "n": 10**400}, "metric 'n'"),
        (reported("e1"), r"curve\['step'\]\[0\]='e1'"),
        (lambda trial, good: lab.Outcome(metrics={"loss": [1]}), r"metrics\['loss'\]=\[1\]"),
        (lambda trial, good: lab.Outcome(metrics=[1]), r"metrics=\[1\]"),
        (lambda trial, good: lab.Outcome(status="fine", metrics=good), "status='fine'"),
    ],
)
def test_it_is_a_failed_training_and_the_ledger_is_read_and_gone_on_with(tmp_path, bad, named):
    result = swept(one_cell(bad), out=tmp_path, confirm=0, extend=False)
    (failed,) = [c for c in result.cells() if c["status"] == "failed"]
    assert (failed["lr"], failed["weight_decay"], failed["seed"]) == (1e-1, 1e-1, 1)
    assert re.search(named, failed["error"])
    assert result.best.lr == 1e-2
    assert Result.read(tmp_path).cells() == result.cells()
    options = {"out": tmp_path, "resume": True, "extend": False}
    again = swept(one_cell(bad), confirm=2, retry_failed=True, **options)
    assert len(again.cells()) == 24 + 4


@pytest.mark.parametrize("step", [np.int64(3), torch.tensor(3), 0.5])
def test_a_step_may_be_of_numpy_or_torch(tmp_path, step):
    swept(one_cell(reported(step)), out=tmp_path, confirm=0, extend=False)
    (curve,) = [c["curve"] for c in Result.read(tmp_path).cells() if c["curve"]]
    assert curve["step"] == [float(step)]


def test_an_outcome_may_have_metrics_of_torch(tmp_path):
    def train(trial):
        weight = torch.nn.Parameter(torch.tensor(valley(trial.lr, trial.weight_decay, trial.seed)))
        return lab.Outcome(metrics={"loss": weight * 1})

    assert swept(train, out=tmp_path).best.lr == 1e-2
    assert Result.read(tmp_path).best.lr == 1e-2


# --- before anything has come of it ---------------------------------------------------------------


def begun(folder, **changes):
    """A ledger that was written down and whose trainings all failed, or were none."""
    with Ledger(folder, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=False)
        ledger.set_meta(Meta(central_lr=1e-4, lrs=[1e-4]))
        if changes:
            train(ledger, cell(0), metrics={}, curve=None, **changes)


@pytest.mark.parametrize("changes", [{}, {"status": "failed", "error": ERROR}])
@pytest.mark.parametrize("asked", [({"optimizer": "sgd"}, PARTS), (SETTINGS, {"train": "4567"})])
def test_where_no_cell_counts_nothing_else_does(tmp_path, changes, asked):
    begun(tmp_path, **changes)
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure(*asked, resume=True)
        assert ledger.records() == []
        assert ledger.meta() == Meta()
        train(ledger, cell(0))
    with Ledger(tmp_path, writing=True) as ledger:
        with pytest.raises(LedgerError):
            ledger.configure(SETTINGS, PARTS, resume=True)
        ledger.configure(*asked, resume=True)


def test_the_same_training_keeps_its_failures_and_not_what_was_measured(tmp_path):
    begun(tmp_path, status="failed", error=ERROR)
    with Ledger(tmp_path, writing=True) as ledger:
        with pytest.raises(LedgerError, match="resume=True"):
            ledger.configure(SETTINGS, PARTS, resume=False)
        assert ledger.meta().central_lr == 1e-4  # what is refused changes nothing
        ledger.configure(SETTINGS, PARTS, resume=True)
        assert ledger.meta() == Meta()
        assert [r["status"] for r in ledger.records()] == ["failed"]


@pytest.mark.parametrize("status", ["done", "pruned"])
def test_what_counts_keeps_all(tmp_path, status):
    begun(tmp_path, status=status)
    with Ledger(tmp_path, writing=True) as ledger:
        with pytest.raises(LedgerError, match="optimizer='sgd': the 1 cells"):
            ledger.configure({"optimizer": "sgd"}, PARTS, resume=True)
        ledger.configure(SETTINGS, PARTS, resume=True)
        assert ledger.meta().central_lr == 1e-4


def test_what_another_driver_has_begun_is_kept(tmp_path):
    begun(tmp_path)
    with Ledger(tmp_path, writing=True) as first:
        first.configure(SETTINGS, PARTS, resume=True)
        first.set_meta(Meta(central_lr=1e-2))
        with Ledger(tmp_path, writing=True) as second:
            with pytest.raises(LedgerError, match="optimizer='sgd': the trainings under way in"):
                second.configure({"optimizer": "sgd"}, PARTS, resume=True)
            second.configure(SETTINGS, PARTS, resume=True)
            assert second.meta().central_lr == 1e-2


def test_a_sweep_that_was_cut_before_its_first_cell_has_the_centre_of_the_next(tmp_path):
    cut = [1]

    def train(trial):
        if cut:
            cut.clear()
            raise KeyboardInterrupt
        return valley(trial.lr, trial.weight_decay, trial.seed)

    options = {"weight_decay": None, "strength": [1e-3], "out": tmp_path, "extend": False}
    with pytest.raises(lab.Interrupted):
        swept(train, lr=[1e-5, 1e-4, 1e-3], **options)
    result = swept(train, lr=[1e-2, 1e-1, 1.0], resume=True, **options)
    assert result.meta.central_lr == 1e-1
    assert result.meta.coefficients == {"decoupled": [0.01]}


# --- addresses ------------------------------------------------------------------------------------


def test_a_folder_for_a_database_is_made_as_that_of_a_journal_is(tmp_path):
    folder = tmp_path / "runs" / "x"
    url = f"sqlite:///{folder}/l.db"
    with pytest.raises(LedgerError, match="reading makes none"):
        Ledger(folder, storage=url)
    assert not folder.exists()
    with Ledger(folder, storage=url, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=False)
    with Ledger(folder, storage=url) as ledger:
        assert ledger.records() == []


def test_the_driver_that_a_database_lacks_is_named(tmp_path):
    pytest.importorskip("sqlalchemy")
    with pytest.raises(LedgerError, match=r"this kind of database needs (MySQLdb|oracledb)"):
        Ledger(tmp_path, storage="mysql://me@127.0.0.1:1/db", writing=True)


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:s3cr3t@h/db", "postgresql://h/db?user=me&password=s3cr3t",
     "postgresql://h/db?sslpassword=s3cr3t"],
)  # fmt: skip
def test_an_address_is_written_down_without_what_is_secret(url):
    assert "s3cr3t" not in written(make_url(url))
