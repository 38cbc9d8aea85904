"""The tests of `tests/gpu` run: on the CPU, in an accelerator's place, so that they do not rot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent


@pytest.mark.slow
def test_what_runs_on_a_device_runs_on_the_cpu() -> None:
    """A part that ends in a minute or two; with ``--device cpu`` alone all of it does."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / "gpu")]
    quick = "not resuming and not mean_decays and not AdamW-True and not float64"
    chosen = ["--device", "cpu", "-m", "not slow", "-k", quick]
    done = subprocess.run(
        [sys.executable, *command, *chosen], capture_output=True, text=True, cwd=TESTS.parent
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 70


def test_without_a_device_they_are_skipped_and_say_why() -> None:
    """Unless there is one; the mark comes by the place."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "gpu"),
            *("--device", "cuda:99", str(TESTS / "gpu" / "test_looking_on.py")),
        ],
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"9 skipped", done.stdout)
    assert "needs a device cuda:99, and there is none" in done.stdout
