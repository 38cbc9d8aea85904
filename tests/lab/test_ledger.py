"""The ledger: round trips, states, claims, configurations, old formats, databases."""

from __future__ import annotations

import gc
import json
import math
import shutil
import sqlite3
import sys
from pathlib import Path

import optuna
import pytest
from ledgers import ERROR, PARTS, SETTINGS, cell, filled, outcome, train

from halflife.lab.ledger import Ledger, LedgerError
from halflife.lab.meta import Meta
from halflife.lab.trials.cell import Cell, params_of


def sqlite_url(folder):
    return f"sqlite:///{folder}/study.db"


@pytest.fixture(params=["journal", pytest.param("sqlite", marks=pytest.mark.slow)])
def storage(request, tmp_path):
    return None if request.param == "journal" else sqlite_url(tmp_path)


def test_records_and_meta_come_back_exactly(tmp_path, storage):
    records = filled(tmp_path, storage=storage)
    meta = Meta(lrs=[0.1, 1 / 3], strengths={"decoupled": [1e-300]})
    with Ledger(tmp_path, storage=storage, writing=True) as ledger:
        ledger.set_meta(meta)
    with Ledger(tmp_path, storage=storage) as again:
        assert again.records() == records
        assert (again.meta().lrs, again.meta().strengths) == (meta.lrs, meta.strengths)
        assert again.status(cell(0)) == "done"
        assert again.status(cell(0, seed=8)) is None


def test_all_states_come_back_and_can_be_trained_again(tmp_path, storage):
    failed, pruned = cell(0), cell(1)
    with Ledger(tmp_path, storage=storage, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=False)
        train(ledger, failed, status="failed", error=ERROR, metrics={}, curve=None)
        train(ledger, pruned, status="pruned", progress=0.4)
    with Ledger(tmp_path, storage=storage, writing=True) as ledger:
        first, second = ledger.records()
        assert (first["status"], first["error"], first["metrics"]) == ("failed", ERROR, {})
        assert (second["status"], second["progress"]) == ("pruned", 0.4)
        assert ledger.claim([failed, pruned]) == []
        assert ledger.claim([failed, pruned], ["pruned"]) == [pruned]
        ledger.release()
        assert ledger.claim([failed, pruned], ["failed"]) == [failed]
        ledger.finish(failed, outcome(), 1.0)
    with Ledger(tmp_path, storage=storage) as ledger:
        assert {r["lr"]: r["status"] for r in ledger.records()} == {
            failed.lr: "done",
            pruned.lr: "pruned",
        }


def test_what_is_done_is_not_trained_again(tmp_path, storage):
    filled(tmp_path, storage=storage)
    with Ledger(tmp_path, storage=storage, writing=True) as ledger:
        assert ledger.claim([cell(0), cell(1)], ["failed", "pruned"]) == []
        assert ledger.claim([cell(2), cell(3)]) == [cell(3)]
        assert ledger.claim([cell(3)]) == []  # it is in hand


def test_numbers_and_names_that_json_does_not_tell_apart(tmp_path):
    odd = cell(0, params=params_of({"norm": "inf", "other": math.inf, "flag": True, "n": 1}))
    metrics = {"val": math.nan, "test": -math.inf}
    with Ledger(tmp_path, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=False)
        train(ledger, odd, metrics=metrics, curve={"val": [math.inf, 0.5]})
    with Ledger(tmp_path) as ledger:
        (back,) = ledger.records()
    assert Cell.of(back).key == odd.key
    assert back["params"] == {"norm": "inf", "other": math.inf, "flag": True, "n": 1}
    assert math.isnan(back["metrics"]["val"])
    assert back["metrics"]["test"] == -math.inf
    assert back["curve"] == {"val": [math.inf, 0.5]}

    def refuse(constant):
        raise AssertionError(constant)

    records = [
        operation["user_attr"]["cell"]
        for line in (tmp_path / "ledger.journal").read_text().splitlines()
        if "cell" in (operation := json.loads(line)).get("user_attr", {})
    ]
    json.loads(json.dumps(records), parse_constant=refuse)
    assert records


def test_it_is_an_optuna_study_with_one_trial_per_cell(tmp_path, storage):
    filled(tmp_path, storage=storage)
    with Ledger(tmp_path, storage=storage, writing=True) as ledger:
        train(ledger, cell(3), status="failed", error=ERROR, metrics={})
    if storage is None:
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "ledger.journal"))
        opened = optuna.storages.JournalStorage(backend)
    else:
        opened = optuna.storages.RDBStorage(storage)
    study = optuna.load_study(study_name=None, storage=opened)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE"] * 3 + ["FAIL"]
    assert study.trials[1].params == {"lr": 2e-3 / 3, "weight_decay": 0.1 / 3, "seed": 7}
    assert study.trials[1].user_attrs["rule"] == "decoupled"
    assert study.best_value == 100 / 3
    if storage is not None:
        opened.remove_session()
        opened.engine.dispose()


def test_the_worst_value_stands_in_for_nan_in_the_direction_of_the_metric(tmp_path):
    for goal, worst in (("min", math.inf), ("max", -math.inf)):
        with Ledger(tmp_path / goal, writing=True, goal=goal) as ledger:
            ledger.configure(SETTINGS, PARTS, resume=False)
            assert ledger.claim([cell(0)])
            ledger.finish(cell(0), outcome(metrics={"val": math.nan}), math.nan)
        backend = optuna.storages.journal.JournalFileBackend(
            str(tmp_path / goal / "ledger.journal")
        )
        study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
        assert study.trials[0].value == worst


@pytest.mark.parametrize("closed", [True, False])
def test_a_database_is_let_go(tmp_path, monkeypatch, closed):
    """Closed or forgotten; else Python 3.13 warns of a database that is still open."""
    open_connections = []
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        def close(self):
            if self in open_connections:
                open_connections.remove(self)
            super().close()

    def counted(*args, **kwargs):
        open_connections.append(connect(*args, **kwargs, factory=Connection))
        return open_connections[-1]

    monkeypatch.setattr(sqlite3, "connect", counted)
    monkeypatch.setattr(sqlite3.dbapi2, "connect", counted)
    url = sqlite_url(tmp_path)
    records = filled(tmp_path / "out", storage=url)
    assert not open_connections
    reader = Ledger(tmp_path / "out", storage=url)
    assert reader.records() == records
    assert open_connections
    if closed:
        reader.close()
        assert reader.records() == records
    else:
        del reader
        gc.collect()
    assert not open_connections


# --- one training --------------------------------------------------------------------------------


def test_other_settings_are_refused_by_name(tmp_path, storage):
    filled(tmp_path, storage=storage)
    with (
        Ledger(tmp_path, storage=storage, writing=True) as ledger,
        pytest.raises(LedgerError, match=r"optimizer='sgd': the 3 cells in .* optimizer='adamw'"),
    ):
        ledger.configure({"optimizer": "sgd"}, PARTS, resume=True)


def test_an_edited_training_is_refused_by_the_name_of_the_part(tmp_path):
    filled(tmp_path)
    with Ledger(tmp_path, writing=True) as ledger:
        for parts in ({"train": "4567"}, {}, {**PARTS, "model": "89"}):
            named = "model" if "model" in parts else "train"
            with pytest.raises(LedgerError, match=rf"^{named}: not as it was when the 3 cells"):
                ledger.configure(SETTINGS, parts, resume=True)
        ledger.configure(SETTINGS, PARTS, resume=True)


def test_failures_of_a_training_that_was_mended_are_not_read_again(tmp_path, storage):
    """Also not by who comes after a process that was ended before it trained them anew."""
    with Ledger(tmp_path, storage=storage, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=False)
        train(ledger, cell(0), status="failed", error=ERROR, metrics={}, curve=None)
    mended = {"train": "4567"}
    with Ledger(tmp_path, storage=storage, writing=True) as ledger:
        assert len(ledger.records()) == 1
        ledger.configure(SETTINGS, mended, resume=True)
        assert ledger.records() == []
    with Ledger(tmp_path, storage=storage) as reader:
        assert reader.records() == []
    with Ledger(tmp_path, storage=storage, writing=True) as ledger:
        assert ledger.records() == []
        ledger.configure(SETTINGS, mended, resume=True)
        assert ledger.claim([cell(0)]) == [cell(0)]
        ledger.finish(cell(0), outcome(), 1.0)
        train(ledger, cell(1), status="failed", error=ERROR, metrics={}, curve=None)
    with Ledger(tmp_path, storage=storage) as reader:
        assert [r["status"] for r in reader.records()] == ["done", "failed"]


def test_trained_cells_need_resume(tmp_path):
    filled(tmp_path)
    with Ledger(tmp_path, writing=True) as ledger:
        with pytest.raises(LedgerError, match=r"holds 3 trained cells; pass resume=True"):
            ledger.configure(SETTINGS, PARTS, resume=False)
        ledger.configure(SETTINGS, PARTS, resume=True)


# --- formats -------------------------------------------------------------------------------------


def test_a_ledger_of_format_1_is_read_and_not_gone_on_with(tmp_path):
    """It was written by `halflife landscape` before lab.sweep: 2 seeds, 3x3 cells, no decay too."""
    path = tmp_path / "ledger.journal"
    shutil.copy(Path(__file__).parent / "format_1.journal", path)
    before = path.read_bytes()
    with Ledger(tmp_path) as ledger:
        records, meta = ledger.records(), ledger.meta()
    assert len(records) == 24
    assert {r["rule"] for r in records} == {"none", "decoupled"}
    assert {r["status"] for r in records} == {"done"}
    assert records[3]["metrics"]["test_error"] == 76.7358627319336
    assert "test_error" not in records[3]
    assert (meta.name, meta.reported.name, meta.reported.unit) == ("digits", "test_error", "%")
    with pytest.raises(LedgerError, match=r"written by an earlier version; it can be read"):
        Ledger(tmp_path, writing=True)
    assert path.read_bytes() == before


def test_a_format_to_come_is_refused_by_version(tmp_path):
    filled(tmp_path)
    path = tmp_path / "ledger.journal"
    path.write_text(path.read_text().replace('"format":2', '"format":3'))
    for writing in (True, False):
        with pytest.raises(
            LedgerError, match=r"another format \(\{'format': 3\}\).*reads format 2"
        ):
            Ledger(tmp_path, writing=writing)


# --- addresses -----------------------------------------------------------------------------------

SECRETS = [
    ("postgresql://me:s3cr3t@127.0.0.1:1/db", "does not answer"),
    ("postgresql://127.0.0.1:1/db?user=me&password=s3cr3t", "does not answer"),
    ("postgresql://me:s3cr3t@host:port/db", "must be a database URL"),
    ("s3cr3t", "must be a database URL"),
    ("nosuch://me:s3cr3t@host/db", "nosuch"),
]


@pytest.mark.parametrize(("url", "says"), SECRETS)
@pytest.mark.parametrize("writing", [True, False])
def test_no_message_has_a_password(tmp_path, url, says, writing, monkeypatch):
    if says == "does not answer":
        pytest.importorskip("psycopg", reason="PostgreSQL needs the extra postgres")
        monkeypatch.setattr("halflife.lab.ledger.stored._TRIES", 1)
    with pytest.raises(LedgerError, match=says) as caught:
        Ledger(tmp_path, storage=url, writing=writing)
    error = caught.value
    while error is not None:
        assert "s3cr3t" not in str(error)
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__


def test_a_missing_driver_is_said_with_its_extra(tmp_path, monkeypatch):
    for module in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LedgerError, match=r'pip install "torch-halflife\[postgres\]"'):
        Ledger(tmp_path, storage="postgresql://me@host/db")


def test_a_database_in_memory_is_none(tmp_path):
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(LedgerError, match="names no file"):
            Ledger(tmp_path, storage=url, writing=True)


def test_reading_makes_no_database_and_no_table(tmp_path):
    url = sqlite_url(tmp_path)
    with pytest.raises(LedgerError, match="there is no such file, and reading makes none"):
        Ledger(tmp_path, storage=url)
    assert not list(tmp_path.iterdir())
    sqlite3.connect(tmp_path / "study.db").close()  # an empty one
    (tmp_path / "study.db").touch()
    with pytest.raises(LedgerError, match="holds no sweep"):
        Ledger(tmp_path, storage=url)
    assert (tmp_path / "study.db").stat().st_size == 0
    (tmp_path / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError, match="is not a database"):
        Ledger(tmp_path, storage=url)
