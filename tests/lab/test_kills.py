"""Workers and drivers that are ended, by the system or by themselves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from halflife import lab

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import lab_kills

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
]

GRID = {
    "lr": [0.005, 0.01, 0.02, 0.04], "weight_decay": [0.1], "seeds": 2, "confirm": 0,
    "default": False, "extend": False, "progress": False, "resume": True, "command": "the command",
}  # fmt: skip


def harmful(lr, weight_decay, seed):
    """Exits at one setting, is killed at one, takes too much memory, and hangs."""
    if weight_decay and seed == 0:
        if lr == 0.005:
            os._exit(3)
        if lr == 0.01:
            os.kill(os.getpid(), signal.SIGKILL)
        if lr == 0.02:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
            bytearray(1 << 30)
        if lr == 0.04:
            time.sleep(600)
    return lr + weight_decay


def test_whatever_a_training_does_to_its_worker_is_its_own_failure(tmp_path):
    executor = lab.Local(2, timeout=3)
    result = lab.sweep(harmful, out=tmp_path, executor=executor, **GRID)
    failed = {r["lr"]: r["error"] for r in result.cells() if r["status"] == "failed"}
    assert sorted(failed) == [0.005, 0.01, 0.02, 0.04]
    assert "exit code 3" in failed[0.005]
    assert "SIGKILL, as the system does when memory runs out" in failed[0.01]
    assert "MemoryError" in failed[0.02]
    assert failed[0.04] == "took longer than timeout=3 seconds"
    assert [r["status"] for r in result.cells()].count("done") == 12


SCRIPT = """
import sys, time
from pathlib import Path
from halflife import lab
from halflife.lab.sweeping.display import Display

class Spoken(Display):
    def progress(self, done, total, what):
        print(done, flush=True)

def train(lr, weight_decay, seed):
    time.sleep(0.5)
    return lr + weight_decay + seed

try:
    lab.sweep(train, lr=[0.01, 0.02, 0.03], weight_decay=[0.1, 0.2, 0.3], seeds=4, confirm=0,
              out={out!r}, executor=lab.Local(2), progress=Spoken(), resume=True, command="go")
except lab.Interrupted as end:
    print("END", str(end).replace(chr(10), " "), flush=True)
"""


@pytest.mark.parametrize(("number", "word"), [("SIGTERM", "Terminated"), ("SIGINT", "Interrupted")])
def test_a_driver_that_is_told_to_end_takes_its_workers_along(tmp_path, number, word):
    out = tmp_path / "out"
    driver = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(out=str(out))], stdout=subprocess.PIPE, text=True
    )
    while int(driver.stdout.readline()) < 3:
        pass
    workers = lab_kills._children(driver.pid)
    assert len(workers) == 2
    driver.send_signal(getattr(signal, number))
    words = driver.communicate(timeout=60)[0]
    assert f"END {word}. " in words
    assert f"trained cells are safe in {out}; go on with" in words
    assert driver.returncode == 0
    assert not set(workers) & set(lab_kills._processes())
    assert len(lab.Result.read(out).cells()) >= 3


def test_random_kills_lose_double_and_change_nothing(tmp_path):
    """A few of those that scripts/lab_kills.py makes a hundred of; this seed has both kinds."""
    told = lab_kills.kills("local", None, 6, seed=3, folder=tmp_path)
    assert told.drivers + told.workers == 6
    assert told.drivers
    assert told.workers
    assert (told.lost, told.doubled, told.different) == (0, 0, 0)


def test_the_comparison_sees_a_difference(tmp_path):
    """Of the run above: a record that is gone, changed or doubled is counted."""
    result = lab_kills.sweep(tmp_path / "out", None, lab.InProcess())
    known = {}
    assert lab_kills._compare(known, tmp_path / "out", None) == 0
    assert len(known) == len(result.cells())
    known[random.choice(list(known))]["seconds"] = -1.0
    known["gone"] = {}
    assert lab_kills._compare(known, tmp_path / "out", None) == 2
    expected = lab_kills.figures(result, tmp_path / "one")
    assert lab_kills.figures(lab.Result.read(tmp_path / "out"), tmp_path / "two") == expected
    other = lab.Result(result.cells()[1:], result.meta)
    assert lab_kills.figures(other, tmp_path / "three") != expected
