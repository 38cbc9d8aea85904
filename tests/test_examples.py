"""Every example runs, prints what it promises, and imports nothing that a user would not have."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from halflife.lab import Result

FOLDER = Path(__file__).resolve().parent.parent / "examples"
SWEEPS = sorted(FOLDER.glob("sweep_*.py"))
# It takes a minute: tests/test_guide_pages.py, as slow, compares its whole table.
EXAMPLES = sorted({*FOLDER.glob("*.py")} - {*SWEEPS, FOLDER / "bf16_decay.py"})
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
    "lora": ["lora_A", "alpha 64: left of B A after 500 steps: 0.500"],
    "monday_morning": ["1.667, 5, 16.67"],
    "monitor_training": ["settled", "epoch 11.1: weight RMS", "spread", "GradientNorms"],
    "plain_loop": ["nothing found", "step 60", "resumed bit for bit: True", "test error"],
    "schedules": ["snapshots after epochs", "epoch 13"],
    "train_a_recipe": [
        "not as published: data digits instead",
        "step 44: test error",
        "drawn: runs",
    ],
    "train": ["half-life 60 epochs   validation error", "chosen: ", "predicted at equilibrium 0.0"],
    "typed": ["wieght_decay=0.1: unknown keyword, did you mean 'weight_decay'?"],
}
NEEDS = {
    "accelerate_digits": ("accelerate", "hf"),
    "fabric_digits": ("lightning", "lightning"),
    "hf_trainer_text": ("transformers", "hf"),
    "lightning_digits": ("lightning", "lightning"),
    "sweep_hf_trainer": ("transformers", "hf"),
    "sweep_lightning": ("lightning", "lightning"),
    "train_a_recipe": ("lightning", "lightning"),
}


# Where the whole takes minutes: tests/test_readme.py repeats trainings of it and compares.
SHORT = {"train": ["--choose", "1", "--fresh", "2", "--length", "2"]}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # what it writes is not left here
    monkeypatch.setattr(sys, "argv", [str(path), *SHORT.get(path.stem, [])])
    if path.stem in NEEDS:
        package, extra = NEEDS[path.stem]
        pytest.importorskip(package, reason=f"needs the extra {extra}")
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert [promise for promise in PROMISES[path.stem] if promise not in printed] == []


LABELS = {
    "sweep_estimator": "On make, decay",
    "sweep_hf_trainer": "On model_init with adamw, decay",
    "sweep_lightning": "On Classifier with adamw, decay",
    "sweep_plain_loop": "On train with adamw, decay",
}


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_says_its_sentence_and_goes_on(path: Path, tmp_path: Path) -> None:
    """As a plain script: its workers are started without `if __name__ == "__main__"`."""
    if path.stem in NEEDS:
        package, extra = NEEDS[path.stem]
        pytest.importorskip(package, reason=f"needs the extra {extra}")
    printed = []
    # Going on is the same in each; twice where a training is one's own, and where a framework's.
    for _ in range(2 if path.stem in ("sweep_plain_loop", "sweep_lightning") else 1):
        ended = subprocess.run(
            [sys.executable, str(path), str(tmp_path)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONUTF8": "1"},
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert "failed:" not in ended.stderr
        records = Result.read(tmp_path).cells()
        printed.append((ended.stdout, records))
    sentence, page = printed[0][0].splitlines()
    assert sentence.startswith(LABELS[path.stem])
    assert Path(page) == tmp_path / "report.html"
    assert Path(page).stat().st_size > 10_000
    assert {r["status"] for r in printed[0][1]} == {"done"}
    assert printed[0] == printed[-1]  # nothing was trained again


def test_a_training_in_the_examples_has_at_most_20_lines() -> None:
    """Of what a user has: the model, the data, the loop; not of the sweep."""
    assert len(SWEEPS) == 4
    for path in SWEEPS:
        text = path.read_text("utf-8")
        own = [n for n in ast.parse(text).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        lines = [line for n in own for line in text.splitlines()[n.lineno - 1 : n.end_lineno]]
        assert 0 < sum(bool(line.strip()) for line in lines) <= 20, path.stem
