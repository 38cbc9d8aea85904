"""Every example runs, prints what it promises, and imports nothing that a user would not have."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))
PROMISES = {
    "any_optimizer": ["Independent()", "2,000 steps"],
    "hf_trainer_text": ["200 steps", "training loss"],
    "quickstart": ["60 steps = 3 epochs", "test error"],
    "schedules": ["snapshots after epochs", "epoch 13"],
}
NEEDS = {"hf_trainer_text": ("transformers", "hf")}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if path.stem in NEEDS:
        package, extra = NEEDS[path.stem]
        pytest.importorskip(package, reason=f"needs the extra {extra}")
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert all(promise in printed for promise in PROMISES[path.stem])
