"""The command line: from options to a report, and every way out of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import halflife.lab.landscape as landscape_module
from halflife.cli import app
from halflife.lab.ledger import Ledger

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
    *("--seeds", "2", "--epochs", "1", "--no-extend"),
]


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], terminal_width=200)
    return result.exit_code, result.output


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_landscape_writes_ledger_report_and_summary(tmp_path):
    code, output = invoke(*SMALL, "--workers", 0, "--out", tmp_path)
    assert code == 0, output
    page = Path(re.search(r"Report: (.*)", output).group(1))
    assert page.parent == tmp_path
    assert page.stat().st_size > 1000
    assert "decoupled" in output
    assert "8 steps" in output
    ledger = Ledger(tmp_path)
    assert len(ledger.records()) == 2 * (3 + 6 + 6)
    assert ledger.meta().command == (
        "halflife landscape --rules decoupled,stable --lr 1e-3:1e-1:3 --strength 0.001,0.01 "
        f"--seeds 2 --no-extend --epochs 1 --out {tmp_path} --workers 0"
    )


def test_report_is_written_again_from_the_ledger_alone(tmp_path):
    invoke(*SMALL, "--workers", 0, "--out", tmp_path)
    for path in tmp_path.iterdir():
        if not path.name.startswith("ledger"):
            path.unlink()
    code, output = invoke("report", tmp_path)
    assert code == 0, output
    assert Path(re.search(r"Report: (.*)", output).group(1)).exists()


def test_ctrl_c_says_how_to_resume_and_resuming_finishes(tmp_path, monkeypatch):
    train, chunks = landscape_module.train_ensemble, []

    def interrupted(training, members):
        chunks.append(len(members))
        if len(chunks) == 3:  # after the probe for stable and one chunk
            raise KeyboardInterrupt
        return train(training, members)

    monkeypatch.setattr(landscape_module, "train_ensemble", interrupted)
    code, output = invoke(*SMALL, "--workers", 0, "--out", tmp_path)
    assert code == 130
    assert "15 finished cells are safe" in output
    (command,) = re.findall(r"^    halflife (.* --resume)$", output, re.M)
    code, output = invoke(*command.split())
    assert code == 0, output
    assert chunks == [1, 15, 15, 15]


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
        (["--optimizer", "adamv"], "--optimizer adamv: must be one of adamw, sgd"),
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
    assert (code, "cannot be used" in output) == (2, True)
    code, output = invoke("report", tmp_path / "empty")
    assert (code, "holds no ledger.journal" in output) == (2, True)
