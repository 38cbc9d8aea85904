"""The command line: from options to a report, and every way out of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from halflife.cli import app
from halflife.lab.ledger import Ledger
from halflife.lab.tasks import TaskTraining

SMALL = [
    *(
        "landscape",
        "--rules",
        "decoupled,stable",
        "--lr",
        "1e-3:1e-1:3",
        "--strength",
        "0.001,0.01",
    ),
    *("--seeds", "2", "--confirm", "2", "--epochs", "1", "--no-extend", "--no-default"),
]


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], terminal_width=200)
    return result.exit_code, result.output


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_landscape_writes_ledger_report_and_summary(tmp_path):
    code, output = invoke(*SMALL, "--workers", 0, "--out", tmp_path)
    assert code == 0, output
    page = Path(re.search(r"Report: file://(.*)", output).group(1))
    assert page.parent == tmp_path
    assert page.stat().st_size > 1000
    assert "decoupled" in output
    assert "8 steps" in output
    ledger = Ledger(tmp_path)
    assert len(ledger.records()) == 2 * (3 + 6 + 6) + 2 * 3
    assert ledger.meta().command == (
        "halflife landscape --rules decoupled,stable --lr 1e-3:1e-1:3 --strength 0.001,0.01 "
        f"--seeds 2 --confirm 2 --no-default --no-extend --epochs 1 --out {tmp_path} --workers 0 "
        "--resume"
    )


def test_report_is_written_again_from_the_ledger_alone(tmp_path):
    invoke(*SMALL, "--workers", 0, "--out", tmp_path)
    for path in tmp_path.iterdir():
        if not path.name.startswith("ledger"):
            path.unlink()
    code, output = invoke("report", tmp_path)
    assert code == 0, output
    assert Path(re.search(r"Report: file://(.*)", output).group(1)).exists()


def test_ctrl_c_says_how_to_resume_and_resuming_finishes(tmp_path, monkeypatch):
    train, chunks = TaskTraining.stacked, []

    def interrupted(self, cells, until=1.0):
        chunks.append(len(cells))
        if len(chunks) == 3:  # after the probe for stable and one chunk
            raise KeyboardInterrupt
        return train(self, cells, until)

    monkeypatch.setattr(TaskTraining, "stacked", interrupted)
    monkeypatch.setattr(TaskTraining, "speeds", lambda self, chunk: (2.0, 1.0))
    code, output = invoke(*SMALL, "--workers", 0, "--out", tmp_path)
    assert code == 130
    assert "Interrupted. 15 trained cells are safe" in output
    (command,) = re.findall(r"^    halflife (.* --resume)$", output, re.M)
    code, output = invoke(*command.split())
    assert code == 0, output
    assert chunks == [1, 15, 15, 15, 3, 3]


SWEEP = """
import math

def train(lr, weight_decay, seed):
    loss = math.log10(lr / 1e-2) ** 2 + math.log10(max(weight_decay, 1e-6) / 1e-2) ** 2
    return {"val": 9 - loss, "test": loss + 0.1 * math.sin(1e4 * (seed + lr))}

def broken(lr, weight_decay, seed):
    raise KeyError("no data")

def talking(lr, weight_decay, seed):
    import os
    print("epoch 1")
    os.write(1, b"from C\\n")
    return lr
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield ["sweep", "mine:train", "--executor", "in-process", "--lr", "1e-3:1e-1:3"]
    sys.modules.pop("mine", None)


def test_sweep_of_a_training_of_ones_own(mine):
    options = ["--weight-decay", "1e-3:1e-1:3", "--choose", "val::max", "--report", "test:nats"]
    code, output = invoke(*mine, *options, "--confirm", 3, "--seeds", 2)
    assert code == 0, output
    text = " ".join(output.split())
    assert "On mine:train, weight decay helps: lr 1e-2 and weight_decay" in text
    assert "nats" in text
    code, output = invoke("report", "out/sweep", "--json")
    data = json.loads(output)
    assert data["verdict"] == "helps"
    assert data["sentence"] in text
    code, output = invoke(*mine, *options, "--confirm", 3, "--seeds", 2)
    assert code == 2
    assert "pass --resume to go on from them" in " ".join(output.split())
    assert invoke(*mine, *options, "--confirm", 3, "--seeds", 3, "--resume")[0] == 0


def test_a_training_that_never_works_is_shown_with_its_own_lines(mine):
    code, output = invoke("sweep", "mine:broken", *mine[2:])
    assert code == 2
    assert "Error: mine:broken: KeyError: 'no data'" in output
    assert "mine.py, line 9, in broken" in output
    assert "The first 3 trainings all failed" in output
    assert "--out out/sweep --resume" in output or "in-process" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--param", "momentum"], "--param momentum: must be name=v1,v2,..."),
        (["--choose", "val:%:up"], "--choose val:%:up: must be name, name:unit"),
        (["--executor", "slurm"], "--executor slurm: must be local, in-process or ray"),
        (["--workers", "2"], "--executor in-process: trains one at a time"),
        (["--rules", "decoupled,stable"], "does not see the rule"),
        (["--strength", "0.1", "--weight-decay", "0.1"], "exactly one is needed"),
        (
            ["--trials", "5"],
            "--trials 5: counts what --sampler optuna asks for, and --sampler is g",
        ),
        (["--time-limit", "0"], "--time-limit must be a number of seconds > 0, got 0.0; leave it"),
        (["--equivalence", "-1"], "--equivalence must be a finite number > 0, got -1.0; give it"),
        (["--param", "m=1,1"], "--param: m=[1, 1] must be a list of different values"),
        (["--param", "lr=1,2"], "--param: 'lr' must be a name"),
        (["--seeds", "20000"], "--seeds 19999: must be below 10000"),
        (["--rules", "decopled"], "--rules decopled: unknown rule, did you mean 'decoupled'"),
    ],
)
def test_bad_options_of_a_sweep(mine, options, message):
    code, output = invoke(*mine, *options)
    assert code == 2
    assert message in " ".join(output.split())
    assert not Path("out").exists()


def test_numbers_are_printed_apart_from_what_the_training_prints(mine, capfd):
    arguments = ["sweep", "mine:talking", *mine[2:], "--confirm", "0", "--no-extend", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "report" in json.loads(result.stdout)
    assert "epoch 1" in result.stderr
    apart = capfd.readouterr()  # what was written past Python's streams
    assert ("from C" in apart.out, "from C" in apart.err) == (False, True)


def test_a_metric_that_was_mistyped_is_named_as_it_is_written(mine):
    options = ["--confirm", 0, "--seeds", 1, "--no-extend", "--choose", "val::max"]
    assert invoke(*mine, *options, "--report", "test")[0] == 0
    for option, shown in (("--choose", "vall::max"), ("--report", "tets")):
        code, output = invoke(*mine, *options, option, shown, "--resume")
        assert code == 2
        assert f"{option} {shown.partition(':')[0]}: must be one that" in " ".join(output.split())


def test_optuna_is_told_how_many_settings(mine):
    options = ["--confirm", 0, "--seeds", 1, "--no-default", "--choose", "test"]
    code, output = invoke(*mine, *options, "--sampler", "optuna", "--trials", 4)
    assert code == 0, output
    (command,) = {Ledger(Path("out/sweep")).meta().command}
    assert "--sampler optuna --trials 4" in command
    rules = [r["rule"] for r in Ledger(Path("out/sweep")).records()]
    assert rules.count("decoupled") == 4


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cr3t@h/db", "postgresql://h/db?user=me&password=s3cr3t", "s3cr3t"]
)
def test_no_command_that_goes_on_has_a_password(url):
    from halflife.cli.sweeping import command_of

    seen = []

    def command(context: typer.Context, storage: str = "") -> None:
        seen.append(command_of(context))

    own = typer.Typer()
    own.command()(command)
    CliRunner().invoke(own, ["--storage", url])
    assert "--storage" in seen[0]
    assert "s3cr3t" not in seen[0]


def test_help_teaches():
    code, output = invoke("landscape", "--help")
    text = " ".join(plain(output).replace("│", " ").split())
    assert code == 0
    for words in ["halves a weight in 693 steps", "module:attribute", "Examples", "The grid"]:
        assert words in text


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "digit"], "--task digit: unknown task, did you mean 'digits'"),
        (["--optimizer", "adamv"], "--optimizer adamv: must be one of asgd, sgd"),
        (["--rules", "l3"], "--rules l3: unknown rule"),
        (["--lr", "1e-3:x:3"], "--lr 1e-3:x:3: must be lo:hi:n"),
        (["--strength", "1"], "--strength 1.0: must be above 0 and below 1"),
        (["--schedule", "cosin"], "--schedule cosin: must be one of"),
        (["--epochs", "0"], "--epochs 0: must be at least 1"),
    ],
)
def test_bad_options_are_explained_in_one_line(tmp_path, options, message):
    code, output = invoke("landscape", *options, "--out", tmp_path / "out")
    assert code == 2
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "out").exists()


def test_bad_directories(tmp_path):
    (tmp_path / "file").write_text("")
    code, output = invoke(*SMALL, "--out", tmp_path / "file")
    assert (code, "file" in output, "Traceback" in output) == (2, True, False)
    code, output = invoke("report", tmp_path / "empty")
    assert (code, "holds no ledger.journal" in output) == (2, True)
