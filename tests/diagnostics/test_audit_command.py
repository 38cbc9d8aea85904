"""``halflife audit``: exit codes, JSON, what is said of mistakes; and the page about it."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from halflife.cli import app
from halflife.diagnostics.auditing import CODES

ROOT = Path(__file__).resolve().parent.parent.parent

MODULE = """
import torch
from torch import nn
import halflife

model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

def groups(**kwargs):
    return halflife.param_groups(model, **kwargs)

def clean():
    print("building")
    return model, torch.optim.AdamW(groups(), lr=1e-3, weight_decay=0.1)

def warned():
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

def one_cycle():
    optimizer = halflife.AdamW(groups(), lr=1e-3, weight_decay=halflife.HalfLife(steps=1000))
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=2000)

def wrong():
    optimizer = torch.optim.AdamW(groups(), lr=0.1, weight_decay=10.5)
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)

def as_dict():
    optimizer = torch.optim.AdamW(groups(), lr=1e-3, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "steps": 12,
            "steps_per_epoch": 3, "interval": "epoch"}

def unknown_key():
    return {"model": model, "optimizer": None, "sheduler": None}

def nothing():
    return None

def no_optimizer():
    return model, model

def raises():
    raise RuntimeError("no data here")
"""


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    (tmp_path / "planted_training.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def run(*arguments):
        return CliRunner().invoke(app, ["audit", *arguments], terminal_width=200)

    yield run
    sys.modules.pop("planted_training", None)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["planted_training:clean"], 0),
        (["planted_training:one_cycle"], 0),
        (["planted_training:one_cycle", "--strict"], 1),
        (["planted_training:clean", "--strict"], 0),
        (["planted_training:warned"], 0),
        (["planted_training:warned", "--strict"], 1),
        (["planted_training:warned", "--strict", "--ignore", "decayed-norm"], 1),
        (
            [
                *("planted_training:warned", "--strict"),
                *("--ignore", "decayed-norm", "--ignore", "decayed-bias"),
            ],
            0,
        ),
        (["planted_training:wrong"], 1),
        (["planted_training:wrong", "--ignore", "sign-flip"], 0),
        (["planted_training:as_dict"], 0),
    ],
)
def test_exit_code(invoke, arguments, code):
    result = invoke(*arguments)
    assert result.exit_code == code, result.output


def test_findings_and_numbers_are_printed(invoke):
    result = invoke("planted_training:wrong")
    assert "sign-flip" in result.stdout
    assert "0.weight" in result.stdout
    assert "1 error" in result.stdout
    assert "6,931 steps = 69.3 epochs" in " ".join(
        invoke("planted_training:clean", "--steps-per-epoch", "100").stdout.split()
    )


def test_json_is_all_of_stdout_and_options_win(invoke):
    result = invoke("planted_training:as_dict", "--json", "--steps", "6")
    data = json.loads(result.stdout)
    assert data["steps"] == 6
    weight = data["parameters"][0]
    assert weight["total_decay"] == pytest.approx(0.1 * 1e-3 * 3 * 1.5)  # 3 steps, 3 at half the lr
    assert json.loads(invoke("planted_training:clean", "--json").stdout)["exit_code"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["planted_training"], "must name a module and its function"),
        (["no_such_module_here:build"], "No module named 'no_such_module_here'"),
        (["planted_training:absent"], "has no attribute 'absent'"),
        (["planted_training:raises"], "RuntimeError: no data here"),
        (["planted_training:unknown_key"], "got the key 'sheduler'"),
        (["planted_training:nothing"], "got NoneType"),
        (["planted_training:no_optimizer"], "must be a torch Optimizer"),
        (["planted_training:clean", "--ignore", "decayed-biases"], "nearest is 'decayed-bias'"),
        (["planted_training:clean", "--steps", "0"], "--steps 0 must be a positive number"),
    ],
)
def test_what_cannot_be_run_is_explained_with_exit_code_two(invoke, arguments, words):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_page_lists_every_code_and_shows_what_the_example_prints(capsys):
    page = (ROOT / "docs/is_it_doing_anything.md").read_text("utf-8")
    for code, (severity, meaning) in CODES.items():
        assert f"| `{code}` | {severity} | {meaning} |" in page
    runpy.run_path(str(ROOT / "examples/audit_training.py"), run_name="__main__")
    usual, right = capsys.readouterr().out.split("right\n\n")
    assert usual.removeprefix("usual\n\n").strip() in page
    assert right.strip().endswith("nothing found")
