"""Every example runs, prints what it promises, and imports nothing that a user would not have."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))
PROMISES = {
    "any_optimizer": ["Independent()", "2,000 steps"],
    "quickstart": ["60 steps = 3 epochs", "test error"],
    "schedules": ["snapshots after epochs", "epoch 13"],
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert all(promise in printed for promise in PROMISES[path.stem])
