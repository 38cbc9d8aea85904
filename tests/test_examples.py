"""Every example runs, prints what it promises, and imports nothing that a user would not have."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))
PROMISES = {
    "audit_training": ["error lost-in-precision", "warning decayed-norm", "nothing found"],
    "any_optimizer": ["independent  0.001", "2,000 steps"],
    "accelerate_digits": ["step 80", "resumed bit for bit: True", "test error"],
    "checkpoints": [
        "warning: AdamW.load_state_dict: parameter group 0 was constructed with HalfLife",
        "torch's number: 0.0001\nthe half-life: 0.0006929\nthe half-life, loaded by a framework: "
        "0.0006929\nan independent number in torch: 1e-07\nconverted: 0.0001\nattached: 0.0001\n",
    ],
    "fabric_digits": ["step 60", "resumed bit for bit: True", "test error"],
    "hf_trainer_text": ["40 steps", "weight_rms/decayed", "1 note", "training loss"],
    "lightning_digits": ["40 steps", "nothing found", "step 60", "test error"],
    "monitor_training": ["settled", "epoch 11.1: weight RMS", "spread", "GradientNorms"],
    "plain_loop": ["nothing found", "step 60", "resumed bit for bit: True", "test error"],
    "schedules": ["snapshots after epochs", "epoch 13"],
    "train": ["half-life 60 epochs   validation error", "chosen: ", "predicted at equilibrium 0.0"],
    "typed": ["wieght_decay=0.1: unknown keyword, did you mean 'weight_decay'?"],
}
NEEDS = {
    "accelerate_digits": ("accelerate", "hf"),
    "fabric_digits": ("lightning", "lightning"),
    "hf_trainer_text": ("transformers", "hf"),
    "lightning_digits": ("lightning", "lightning"),
}


# Where the whole takes minutes: tests/test_readme.py runs that and compares.
SHORT = {"train": ["--choose", "1", "--fresh", "2", "--length", "2"]}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), *SHORT.get(path.stem, [])])
    if path.stem in NEEDS:
        package, extra = NEEDS[path.stem]
        pytest.importorskip(package, reason=f"needs the extra {extra}")
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert [promise for promise in PROMISES[path.stem] if promise not in printed] == []
