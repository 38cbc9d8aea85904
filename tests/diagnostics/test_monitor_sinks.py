"""Where records go, told apart by what it can do; files that a run appends to."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import sys

import pytest
import torch

from halflife.diagnostics import Monitor
from halflife.diagnostics.monitor import read_records
from halflife.diagnostics.monitor.sinks import as_sink


def train(sinks, steps=3, lrs=(0.1, 0.05, 0.02), every=1, preset=("weight_rms", "rotation")):
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.AdamW([("w", w)], lr=0.1, weight_decay=0.1)
    with Monitor(optimizer, every=every, preset=preset, sinks=sinks) as monitor:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lrs[step % 3]
            w.grad = torch.randn(2)
            optimizer.step()
    return monitor


class TensorBoard:
    def __init__(self):
        self.scalars = {}

    def add_scalar(self, tag, value, step):
        self.scalars[tag, step] = value


class MLflow:
    def __init__(self):
        self.calls = []

    def log_metrics(self, metrics, step=None):
        self.calls.append((step, metrics))

    def log(self, *_):
        raise AssertionError("log_metrics is the one that takes numbers")


class WandB:
    def __init__(self):
        self.calls = []

    def log(self, data, step=None):
        self.calls.append((step, data))


def test_loggers_get_every_number_beside_its_prediction():
    board, mlflow, wandb, seen = TensorBoard(), MLflow(), WandB(), []
    monitor = train([board, mlflow, wandb, seen.append])
    assert [len(records) for records in seen] == [3, 3, 3]  # global, decayed, w
    assert [record for records in seen for record in records] == monitor.history
    first = monitor.history[2]
    assert first["name"] == "w"
    assert board.scalars["rotation/w", 1] == first["rotation"]
    assert board.scalars["rotation/w/predicted", 1] == first["rotation_predicted"]
    assert [step for step, _ in mlflow.calls] == [1, 2, 3]
    assert wandb.calls == mlflow.calls
    assert mlflow.calls[0][1]["weight_rms/decayed"] == first["weight_rms"]
    assert board.scalars == {(k, s): v for s, metrics in wandb.calls for k, v in metrics.items()}
    assert {"lr/w", "fraction/w"} <= mlflow.calls[0][1].keys()
    assert not any(tag.startswith(("note", "step", "name")) for tag in mlflow.calls[0][1])


def test_python_logger(caplog):
    with caplog.at_level(logging.INFO, "decay"):
        train([logging.getLogger("decay")], steps=1)
    assert [record.message.split()[:2] for record in caplog.records] == [
        ["step=1", "name=global"],
        ["step=1", "name=decayed"],
        ["step=1", "name=w"],
    ]


def test_jsonl_round_trip_and_resuming(tmp_path):
    path = tmp_path / "new" / "run.jsonl"
    first = train([path], steps=2)
    assert read_records(path) == first.history
    with path.open("a") as file:
        file.write('{"step": 3, "na')  # killed here
    second = train([str(path)], steps=3)
    records = read_records(path)  # steps 1 and 2 were written twice
    assert records == second.history
    assert len(path.read_text().splitlines()) == 6 + 1 + 9


def test_jsonl_holds_json_only(tmp_path):
    sink = as_sink(tmp_path / "run.jsonl")
    sink.write([{"step": 1, "name": "w", "gradient_norm": math.nan, "rotation": math.inf}])
    line = (tmp_path / "run.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail)["gradient_norm"] is None


def test_csv_appends_under_one_head_and_refuses_other_columns(tmp_path):
    path = tmp_path / "run.csv"
    monitor = train([path], steps=2)
    train([path], steps=1)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1"] * 3 + ["2"] * 3 + ["1"] * 3
    assert [float(row["weight_rms"]) for row in rows[:6]] == [
        record["weight_rms"] for record in monitor.history
    ]
    with pytest.raises(ValueError, match=r"its columns are step, name, lr.*another file"):
        train([path], steps=1, preset="economy")


def test_own_sinks_are_written_and_closed():
    class Own:
        records, closed = 0, False

        def write(self, records):
            self.records += len(records)

        def close(self):
            self.closed = True

    own = Own()
    train([own], steps=2)
    assert (own.records, own.closed) == (6, True)


@pytest.mark.parametrize("target", [3, None, io.StringIO()])
def test_what_is_no_sink_is_refused(target):
    with pytest.raises(TypeError, match=r"must be a path, a logger with add_scalar"):
        as_sink(target)


def test_table_shows_measured_beside_predicted():
    monitor = train([], steps=1)
    head, columns, *rows = monitor.table(["rotation"]).splitlines()
    assert head == "step 1: measured (predicted at equilibrium)"
    assert columns.split() == ["rotation"]
    record = monitor.history[-1]
    shown = f"{record['rotation']:.3g} ({record['rotation_predicted']:.3g})"
    assert rows[-1].split(maxsplit=1) == ["w", shown]
    w = torch.nn.Parameter(torch.ones(1))
    assert Monitor(torch.optim.SGD([w], lr=0.1)).table() == "no step has been sampled yet"


def test_live_table():
    rich = pytest.importorskip("rich.console", reason="the live table needs rich")
    from halflife.diagnostics.monitor import LiveTable

    console = rich.Console(file=io.StringIO(), width=120, force_terminal=True)
    monitor = train([LiveTable(console=console)], steps=2)
    shown = console.file.getvalue()
    assert "step 2" in shown
    assert f"{monitor.history[-1]['weight_rms']:.3g}" in shown


def test_figure_draws_what_was_recorded():
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    monitor = train([], steps=3)
    drawn = monitor.figure(["w"])
    panels = {axes.get_title(): axes for axes in drawn.axes}
    measured, predicted = panels["weight RMS"].lines
    mine = [record for record in monitor.history if record["name"] == "w"]
    assert measured.get_ydata().tolist() == [record["weight_rms"] for record in mine]
    assert predicted.get_ydata().tolist() == [record["weight_rms_predicted"] for record in mine]
    assert len(set(predicted.get_ydata())) == 3  # it follows the learning rate
    with pytest.raises(ValueError, match=r"names=\['b'\]: must be among"):
        monitor.figure(["b"])


@pytest.mark.parametrize(
    ("package", "extra"), [("matplotlib.figure", "plot"), ("rich.live", "cli")]
)
def test_missing_packages_name_their_extra(package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monitor = train([], steps=1)
    from halflife.diagnostics.monitor import LiveTable

    with pytest.raises(ImportError, match=rf"torch-halflife\[{extra}\]"):
        monitor.figure() if extra == "plot" else LiveTable()
