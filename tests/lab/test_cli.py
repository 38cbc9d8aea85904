"""The command line: from options to a report, and every way out of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
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
    assert ledger.meta()["command"] == (
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
        (["--task", "digit"], "task='digit': unknown task, did you mean 'digits'"),
        (["--optimizer", "adamw"], "AdamW is adam with the rule decoupled"),
        (["--rules", "l3"], "decay='l3': unknown rule"),
        (["--lr", "1e-3:x:3"], "lr='1e-3:x:3': must be lo:hi:n"),
        (["--strength", "1"], "strength=1.0: must be above 0 and below 1"),
        (["--schedule", "cosin"], "schedule='cosin': must be one of"),
        (["--epochs", "0"], "epochs=0: must be at least 1"),
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


def test_the_missing_extra_is_named():
    code = (
        "import sys\n"
        "sys.modules['typer'] = None\n"
        "try:\n    import halflife.cli\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install torch-halflife[lab]" in done.stdout, done.stderr


# --- kill -9 -------------------------------------------------------------------------------------

KILLED = [
    *(
        "landscape",
        "--rules",
        "decoupled,stable",
        "--lr",
        "1e-3:1e-1:3",
        "--strength",
        "1e-3:0.1:3",
    ),
    *("--seeds", "8", "--epochs", "3", "--resume"),
]


def start(out, workers):
    command = [sys.executable, "-m", "halflife.cli", *KILLED, "--out", out, "--workers", workers]
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def lines(out):
    path = out / "ledger.journal"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    orphans = []
    for kill in range(3):
        before = lines(tmp_path / "killed")
        process = start(tmp_path / "killed", workers=kill % 2)
        while process.poll() is None and lines(tmp_path / "killed") < before + 10 + 7 * kill:
            time.sleep(0.002)
        if os.path.exists("/proc"):
            orphans += children(process.pid) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finished = len(Ledger(tmp_path / "killed").records())
    process = start(tmp_path / "killed", workers=0)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    invoke(*KILLED, "--out", tmp_path / "whole", "--workers", 0)

    killed, whole = (Ledger(tmp_path / name) for name in ("killed", "whole"))
    timeless = [
        sorted(
            ({**r, "seconds": 0} for r in ledger.records()),
            key=lambda r: (r["rule"], r["lr"], r["strength"], r["seed"]),
        )
        for ledger in (killed, whole)
    ]
    assert finished > 40
    assert timeless[0] == timeless[1]
    # Finished cells were not run again: one trial each, although every start had them to do.
    assert len(killed.records()) == len(killed._study.get_trials(deepcopy=False))
    deadline = time.monotonic() + 20
    while any(map(alive, orphans)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, orphans))
