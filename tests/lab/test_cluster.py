"""PostgreSQL and Ray for real: `make test-cluster` installs what these need and runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from ledgers import PARTS, SETTINGS, cell, filled, outcome

from halflife import lab
from halflife.lab.ledger import Ledger

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from services import PASSWORD, free_port, postgres, postgres_programs, ray_node

MISSING = [m for m in ("ray", "psycopg", "optuna_dashboard") if find_spec(m) is None]
pytestmark = [
    pytest.mark.cluster,
    # Not so in make test-cluster, which installs them and imports them first.
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: make test-cluster"),
]

GRID = {
    "lr": [0.005, 0.01, 0.02], "weight_decay": [0.1], "seeds": 2, "confirm": 0, "default": False,
    "extend": False, "progress": False, "resume": True, "command": "the command",
}  # fmt: skip


CELLS = 2 * (3 + 3)


def error_of(lr, weight_decay, seed):
    return abs(lr - 0.01) + abs(weight_decay - 0.1) + 1e-3 * ((seed * 7919) % 13)


def cells_of(records):
    return sorted((r["rule"], r["lr"], r["seed"], r["metrics"]["loss"]) for r in records)


def undisturbed():
    return lab.sweep(error_of, **{**GRID, "executor": lab.InProcess(), "resume": False}).cells()


@pytest.fixture(scope="module")
def server():
    assert postgres_programs(), "PostgreSQL is not installed: apt-get install postgresql"
    with postgres() as running:
        yield running


# --- PostgreSQL ----------------------------------------------------------------------------------


def test_postgresql_holds_the_ledger(server, tmp_path):
    records = filled(tmp_path, storage=server.url)
    with Ledger(tmp_path, storage=server.url) as ledger:
        assert ledger.records() == records
        assert PASSWORD not in ledger.place
        assert "***" in ledger.place
    with (
        Ledger(tmp_path, storage=server.url, writing=True) as first,
        Ledger(tmp_path, storage=server.url, writing=True) as second,
    ):
        for ledger in (first, second):
            ledger.configure(SETTINGS, PARTS, resume=True)
        assert first.claim([cell(2), cell(3)]) == [cell(3)]
        assert second.claim([cell(3), cell(4)]) == [cell(4)]
        second.finish(cell(4), outcome(), 1.0)
        assert first.claim([cell(4)]) == []
    assert not list(tmp_path.iterdir())


def test_a_wrong_password_is_not_told(server, tmp_path):
    wrong = server.url.replace("halflife:", "halflife:s3cr3t")
    with pytest.raises(lab.LedgerError, match="does not answer") as caught:
        Ledger(tmp_path, storage=wrong)
    assert "s3cr3t" not in str(caught.value)


def test_a_server_that_goes_away_ends_the_sweep_which_goes_on_when_it_is_back(server, tmp_path):
    calls = []

    def train(lr, weight_decay, seed):
        calls.append(lr)
        if len(calls) == 5:
            server.stop()
        return error_of(lr, weight_decay, seed)

    module = sys.modules[lab.sweep.__module__]
    options = {**GRID, "out": tmp_path, "storage": server.url, "executor": lab.InProcess()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "parts_of", lambda train: {})
        with pytest.raises(lab.LedgerError) as caught:
            lab.sweep(train, **options)
        message = str(caught.value)
        assert "the database does not answer" in message
        assert message.endswith("Go on with\n\n    the command\n")
        server.start()
        result = lab.sweep(train, **options)
    assert len(calls) == CELLS + 1  # what was in hand is trained again
    assert cells_of(result.cells()) == cells_of(undisturbed())


# --- Ray -----------------------------------------------------------------------------------------


def harmful(lr, weight_decay, seed):
    if weight_decay and seed == 0:
        if lr == 0.005:
            os._exit(3)
        if lr == 0.01:
            raise ValueError("no")
        if lr == 0.02:
            time.sleep(600)
    return error_of(lr, weight_decay, seed)


def test_a_cluster_of_its_own_is_started_and_ended(tmp_path):
    import ray

    result = lab.sweep(harmful, out=tmp_path, executor=lab.Ray(timeout=10, slots=2), **GRID)
    failed = {r["lr"]: r["error"] for r in result.cells() if r["status"] == "failed"}
    assert sorted(failed) == [0.005, 0.01, 0.02]
    assert failed[0.005].startswith("the Ray actor is gone: ")
    assert "ValueError: no" in failed[0.01]
    assert failed[0.02] == "took longer than timeout=10 seconds"
    done = [r for r in result.cells() if r["status"] == "done"]
    assert len(done) == CELLS - 3
    assert set(cells_of(done)) <= set(cells_of(undisturbed()))
    assert not ray.is_initialized()


def test_resources_that_no_node_has_are_refused(tmp_path):
    with pytest.raises(lab.SweepError, match=r"cpus=1000, gpus=0: no node of the Ray cluster"):
        lab.sweep(error_of, out=tmp_path, executor=lab.Ray(cpus=1000), **GRID)


DRIVER = """
import sys, time
sys.path.insert(0, {here!r})
from halflife import lab
from test_cluster import GRID, error_of
from lab_kills import Spoken

def train(lr, weight_decay, seed):
    time.sleep(2.0)
    return error_of(lr, weight_decay, seed)

executor = lab.Ray({address!r}, slots=4)
lab.sweep(train, out={out!r}, executor=executor, **dict(GRID, progress=Spoken()))
"""


def test_a_node_that_dies_takes_no_cell_along(tmp_path):
    """A cluster of two nodes, one of which is ended while its actors train."""
    with ray_node() as head, ray_node(joins=head) as other:
        code = DRIVER.format(
            here=str(Path(__file__).parent), out=str(tmp_path / "out"), address=head.address
        )
        driver = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **head.environment},
        )
        while int(driver.stdout.readline()) < 2:
            pass
        os.killpg(other.pid, signal.SIGKILL)
        driver.communicate(timeout=240)
        assert driver.returncode == 0
    result = lab.Result.read(tmp_path / "out")
    assert cells_of(result.cells()) == cells_of(undisturbed())


def test_two_sweeps_share_a_cluster_that_cannot_hold_both(tmp_path):
    """Each wants four actors of a cluster of two cores, and the other's cells."""
    with ray_node() as head:
        code = DRIVER.format(
            here=str(Path(__file__).parent), out=str(tmp_path / "out"), address=head.address
        )
        drivers = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdout=subprocess.DEVNULL,
                env={**os.environ, **head.environment},
            )
            for _ in range(2)
        ]
        try:
            assert [d.wait(timeout=150) for d in drivers] == [0, 0]
        finally:
            for driver in drivers:
                driver.kill()
                driver.wait()
    result = lab.Result.read(tmp_path / "out")
    assert cells_of(result.cells()) == cells_of(undisturbed())


# --- optuna-dashboard ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_optuna_dashboard_opens_on_it(tmp_path, kind):
    url = None if kind == "journal" else f"sqlite:///{tmp_path}/study.db"
    filled(tmp_path, storage=url)
    port = free_port()
    program = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()"]
    storage = url or str(tmp_path / "ledger.journal")
    dashboard = subprocess.Popen([*program, storage, "--port", str(port), "--host", "127.0.0.1"])
    try:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as answer:
                    (study,) = json.load(answer)["study_summaries"]
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.3)
        address = f"http://127.0.0.1:{port}/api/studies/{study['study_id']}"
        with urllib.request.urlopen(address) as answer:
            trials = json.load(answer)["trials"]
    finally:
        dashboard.terminate()
        dashboard.wait()
    assert study["study_name"].startswith("halflife")
    assert [t["state"] for t in trials] == ["Complete"] * 3
    assert float(trials[0]["values"][0]) == pytest.approx(100 / 3)
