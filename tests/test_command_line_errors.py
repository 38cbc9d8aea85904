"""What a user can get wrong on the command line: one line in its own language, and no frames of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import halflife
from halflife.cli import app
from halflife.cli.mistakes import flags_of, in_flags

OURS = str(Path(halflife.__file__).parent)
ARGUMENTS = [
    "lr",
    "weight_decay",
    "steps",
    "steps_per_epoch",
    "batch",
    "data",
    "epochs",
    "momentum",
    "dampening",
    "schedule",
    "optimizer",
    "rule",
    "decay",
    "rules",
    "task",
    "strength",
    "source",
    "target",
    "value",
    "model",
    "parameters",
    "width",
    "unit",
    "out",
    "ignore",
    "interval",
    "reference",
    "effective_rate",
    "batch_size",
    "dataset_size",
    "lr_scaling",
]

FILES = {
    "train.py": """
import torch
import halflife
from helpers import deep

model = torch.nn.Linear(4, 4)
optimizer = torch.optim.AdamW(model.parameters())

def build():
    return model, optimizer

def raises():
    deep()

def raises_a_value_error():
    raise ValueError("batch=3: mine")

def many_lines():
    raise RuntimeError("first\\nsecond")

def ends():
    raise SystemExit(3)

def wrong_rule():
    return model, halflife.AdamW(model.parameters(), decay="indpendent")

def needs(config):
    return model, optimizer

def falling():
    def curve(step):
        return {}["lr"]
    return model, optimizer, curve

def nothing():
    return None

def swapped():
    return optimizer, model

def another_key():
    return {"model": model, "optimizer": optimizer, "sheduler": None}
""",
    "helpers.py": "def deep():\n    raise KeyError('no data here')\n",
    "broken.py": "import torch\n\ndef build(:\n    pass\n",
    "raising.py": "import torch\ntorch.zeros(2) @ torch.zeros(3)\n",
    "needing.py": "import a_package_that_is_missing\n",
    "program.py": "import argparse, sys\nsys.exit(0)\n",
    "tasks.py": """
from dataclasses import dataclass
from halflife.lab.tasks import Digits

@dataclass(frozen=True)
class Bad(Digits):
    def model(self):
        raise RuntimeError("no layers")

@dataclass(frozen=True)
class Worse(Digits):
    def data(self, seed):
        raise OSError("no such file")

bad, worse = Bad("bad"), Worse("worse")
""",
}

DESCRIBE = ["describe", "--lr", "0.1", "--weight-decay", "0.1"]
CONVERT = ["convert", "0.1", "--from", "decoupled", "--lr", "0.1"]
TRANSFER = ["transfer", "0.1", "--lr", "3e-4"]
PAIR = [*TRANSFER, "--new-lr", "1e-4", "--optimizer"]
RECOMMEND = ["recommend", "--parameters", "1e6", "--lr", "1e-3", "--batch", "10", "--data", "1e4"]
TRAIN = ["train", "004/resnet20-nobn-cifar10/adamw", "--accelerator", "cpu"]
DIGITS = [*TRAIN, "--data", "digits"]
GPT = ["train", "own/gpt-text/adamw", "--accelerator", "cpu"]
LANDSCAPE = ["landscape", "--workers", "0", "--out", "out"]

# What was typed, and what is said of it.
MISTAKES: list[tuple[list[str], str]] = [
    # the command, its options
    (["descirbe"], "No such command 'descirbe'"),
    (["describe", "--lr", "0.1"], "Missing option '--weight-decay'"),
    ([*DESCRIBE, "--momentun", "0.9"], "--momentum"),
    ([*CONVERT, "--steps", "many"], "Invalid value for '--steps'"),
    ([*TRANSFER, "--batch", "256"], "'--batch' requires 2 arguments"),
    # numbers
    (["describe", "--lr", "-1", "--wd", "0.1"], "--lr must be a finite number > 0, got -1.0"),
    (["describe", "--lr", "0.1", "--wd", "-1"], "--weight-decay must be a finite number >= 0"),
    (["describe", "--lr", "0.1", "--wd", "nan"], "--weight-decay must be a finite number >= 0"),
    ([*DESCRIBE, "--momentum", "1.5"], "--momentum must be a number in [0, 1), got 1.5"),
    ([*DESCRIBE, "--steps-per-epoch", "0"], "--steps-per-epoch 0.0: must be a positive number"),
    (["describe", "--lr", "2", "--wd", "0.9"], "2.0"),
    (["convert", "--from", "decoupled", "--lr", "0.1", "--", "-1"], "VALUE -1.0: must be a number"),
    (["convert", "0.1", "--from", "decoupled", "--lr", "0"], "--lr 0.0: must be a finite number > 0"),
    (["convert", "100", "--from", "decoupled", "--lr", "1"], "VALUE 100.0 as 'decoupled' at --lr 1.0"),
    ([*CONVERT, "--momentum", "1"], "--momentum 1.0: must be a number in [0, 1)"),
    ([*CONVERT, "--schedule", "cosine"], "--steps must be an integer >= 1"),
    ([*TRANSFER, "--batch", "0", "4"], "--batch 0.0 4.0: must be a pair (old, new)"),
    (["transfer", "--lr", "3e-4", "--batch", "1", "2", "--", "-1"], "WEIGHT_DECAY -1.0: must be"),
    ([*TRANSFER], "for example --batch 256 1024, --lr 1e-3 --new-lr 3e-4 or --width 512 2048"),
    ([*RECOMMEND, "--epochs", "0"], "--epochs 0.0: must be a positive number"),
    ([*RECOMMEND, "--epochs", "2", "--steps", "9"], "--steps 9, --epochs 2.0: either says how long"),
    ([*RECOMMEND, "--weight-decay", "-1"], "--weight-decay -1.0: must be a number >= 0"),
    (["recommend", "--parameters", "0", *RECOMMEND[3:]], "--parameters 0.0: must be"),
    (["audit", "train:build", "--steps", "0"], "--steps 0 must be a positive number"),
    (["audit", "train:build", "--interval", "epoch"], "--interval epoch needs to know"),
    ([*LANDSCAPE, "--epochs", "0"], "--epochs 0: must be at least 1"),
    ([*LANDSCAPE, "--batch-size", "9999"], "--batch-size 9999: must be between 1 and the 400"),
    ([*LANDSCAPE, "--lr", "1e-3:x:3"], "--lr 1e-3:x:3: must be lo:hi:n"),
    ([*LANDSCAPE, "--strength", "2"], "--strength 2.0: must be above 0 and below 1"),
    # names, and the nearest
    ([*DESCRIBE, "--optimizer", "sdg"], "--optimizer sdg: must be one of adamw, sgd; did you mean 'sgd'"),
    ([*DESCRIBE, "--rule", "decuopled"], "--rule decuopled: unknown rule, did you mean 'decoupled'"),
    ([*DESCRIBE, "--rule", "l2"], "--rule l2 on adamw: "),
    (["convert", "1", "--from", "half-live", "--lr", "1"], "--from half-live: unknown convention"),
    ([*CONVERT, "--to", "timescal"], "--to timescal: unknown convention; did you mean 'timescale'"),
    ([*CONVERT, "--to", "total"], "--schedule: 'total' sums over the whole run; pass --schedule, a"),
    ([*CONVERT, "--to", "l2"], "pass --momentum (0 for plain SGD)"),
    ([*CONVERT, "--to", "stable"], "pass --effective-rate as measured"),
    ([*CONVERT, "--to", "normalized"], "pass --batch-size, --dataset-size, --epochs"),
    ([*CONVERT, "--to", "adam"], "--to adam has no conversion: an L2 term"),
    ([*CONVERT, "--schedule", "cosin", "--steps", "9"], "--schedule cosin: must be one of"),
    ([*CONVERT, "--reference", "end"], "--reference end: must be 'peak' or 'mean'"),
    ([*PAIR, "adamw", "lyon"], "--optimizer lyon: must be one of adamw, lion, sgd; did you mean 'lion'"),
    ([*TRANSFER, "--optimizer", "adamw", "lion"], "--lr 0.0003: learning rates of different"),
    ([*TRANSFER, "--width", "1", "2", "--lr-scaling", "sqr"], "--lr-scaling sqr: must be one of"),
    (
        [*PAIR, "sgd", "adamw", "--rule", "l2"],
        "run halflife transfer 1 --rule decoupled --lr 0.0003 --new-lr 0.0001 --optimizer sgd adamw",
    ),
    ([*RECOMMEND, "--decay", "decoupld"], "--decay decoupld: must be one of"),
    ([*RECOMMEND, "--unit", "words"], "--unit words: must be 'samples' or 'tokens'"),
    ([*RECOMMEND, "--schedule", "cosin"], "did you mean 'cosine'"),
    (["probe", "Addam"], "did you mean torch.optim.Adam"),
    (["probe", "no_such_package.Adam"], "no_such_package cannot be imported"),
    (["probe", "SGD", "--arg", "nestrov=True"], "--arg nestrov=True: SGD has no such argument"),
    (["probe", "SGD", "--arg", "nesterov"], "--arg 'nesterov': must be name=value"),
    (["probe", "SGD", "--arg", "lr=1"], "--arg lr=1: the probe sets lr itself"),
    (["audit", "train:build", "--ignore", "decayed-biases"], "the nearest is 'decayed-bias'"),
    ([*LANDSCAPE, "--task", "digit"], "--task digit: unknown task, did you mean 'digits'"),
    ([*LANDSCAPE, "--optimizer", "adma"], "--optimizer adma: must be one of asgd, sgd,"),
    ([*LANDSCAPE, "--rules", "l3"], "--rules l3: unknown rule"),
    ([*LANDSCAPE, "--schedule", "cosin"], "--schedule cosin: must be one of"),
    (["report", "nowhere"], "holds no ledger.journal; run a sweep there first"),
    # recipes
    (["recipes", "000/resnet18-cifar10/adms"], "did you mean '000/resnet18-cifar10/adams'"),
    (["recipes", "--runs", "nowhere"], "--runs nowhere: there is no such folder"),
    (["train", "004/resnet20"], "RECIPE 004/resnet20: there is none of that name"),
    ([*TRAIN, "--scale", "big"], "Invalid value for '--scale'"),
    ([*TRAIN, "--algorithm", "adamv"], "--algorithm adamv: unknown algorithm; did you mean 'adam'"),
    ([*TRAIN, "--data", "digit"], "--data digit: must be one of cifar10, cifar100, digits,"),
    ([*TRAIN, "--data", "text"], "--data text: resnet20-nobn reads images; name such data"),
    ([*TRAIN, "--data-root", "nowhere"], "cifar10: not found in "),
    ([*GPT], "--data-root: the data set 'text' must be a file; name it"),
    ([*GPT, "--data-root", "nowhere.txt"], "nowhere.txt: missing, expected a text in UTF-8; put it there"),
    ([*DIGITS, "--batch-size", "5000"], "--batch-size 5000: the training set of digits has 1437 rows"),
    ([*DIGITS, "--accumulate", "200"], "--accumulate 200: a process has 128 rows of a batch"),
    ([*DIGITS, "--precision", "16-mixed"], "--precision 16-mixed: needs a GPU; pass --precision bf16"),
    ([*DIGITS, "--strategy", "fsdp2", "--ema", "0.9"], "which --strategy fsdp2 shards; leave it out"),
    ([*DIGITS, "--accelerator", "gpuu"], "--accelerator gpuu, --devices 1: Fabric cannot have them"),
    ([*DIGITS, "--epochs", "0"], "epochs must be an integer >= 1, got 0"),
    # code of the user's
    (["audit", "train"], "'train': must name a module and its function, as train:build does"),
    (["audit", "train.py:build"], "must name a module, not a file; write train:build"),
    (["audit", "./sub/train.py:build"], "write sub.train:build"),
    (["audit", "foo:bar"], "foo:bar: No module named 'foo' in this folder or installed"),
    (["audit", "trian:build"], "did you mean 'train'"),
    (["audit", "train:biuld"], "module train has no attribute 'biuld'; did you mean 'build'"),
    (["audit", "train:model"], "train:model: must be a function, got Linear"),
    (["audit", "train:needs"], "must be a function without arguments: missing a required argument"),
    (["audit", "os:sep"], "os:sep: must be a function, got str"),
    (["audit", "train:nothing"], "train:nothing: must return (model, optimizer)"),
    (["audit", "train:another_key"], "got the key 'sheduler'"),
    (["audit", "train:swapped"], "train:swapped: "),
    (["audit", "train:raises"], "train:raises: KeyError: 'no data here'"),
    (["audit", "train:raises_a_value_error"], "ValueError: batch=3: mine"),
    (["audit", "train:many_lines"], "train:many_lines: RuntimeError: first"),
    (["audit", "train:ends"], "train:ends: ended the program (exit 3)"),
    (["audit", "train:wrong_rule"], "unknown rule, did you mean 'independent'"),
    (["audit", "train:falling", "--steps", "9"], "KeyError: 'lr'"),
    (["audit", "broken:build"], "broken:build: SyntaxError: invalid syntax"),
    (["audit", "raising:build"], "raising:build: RuntimeError: "),
    (["audit", "needing:build"], "No module named 'a_package_that_is_missing'"),
    (["audit", "program:build"], "ended the program when it was imported (exit 0); put what runs"),
    (["probe", "broken.Optimizer"], "SyntaxError: invalid syntax"),
    (["probe", "raising.Optimizer"], "RuntimeError: "),
    ([*LANDSCAPE, "--task", "os:path"], "--task os:path: must be a Task (see halflife.lab.tasks)"),
    ([*LANDSCAPE, "--task", "foo:bar"], "--task foo:bar: No module named 'foo'"),
    ([*LANDSCAPE, "--task", "train:"], "must name a module and its task, as my_tasks:spirals does"),
    ([*LANDSCAPE, "--task", "tasks:Bad"], "--task tasks:Bad: must be a Task"),
    ([*LANDSCAPE, "--task", "tasks:bda"], "module tasks has no attribute 'bda'; did you mean 'bad'"),
    ([*LANDSCAPE, "--task", "broken:task"], "broken:task: SyntaxError: invalid syntax"),
    ([*LANDSCAPE, "--task", "tasks:worse"], "OSError: no such file"),
    ([*LANDSCAPE, "--task", "tasks:bad"], "--task tasks:bad: RuntimeError: no layers"),
]  # fmt: skip

# Where the user's own code raised, these are its lines, and nothing else.
FRAMES: dict[str, list[str]] = {
    "audit train:raises": ["train.py, line 13, in raises", "helpers.py, line 2, in deep"],
    "audit train:raises_a_value_error": ["train.py, line 16, in raises_a_value_error"],
    "audit train:wrong_rule": ["train.py, line 25, in wrong_rule"],
    "audit train:falling --steps 9": ["train.py, line 32, in curve"],
    "audit broken:build": ["broken.py, line 3"],
    "audit raising:build": ["raising.py, line 2, in <module>"],
    "probe broken.Optimizer": ["broken.py, line 3"],
    "probe raising.Optimizer": ["raising.py, line 2, in <module>"],
    "landscape --workers 0 --out out --task tasks:worse": ["tasks.py, line 13, in data"],
    "landscape --workers 0 --out out --task tasks:bad": ["tasks.py, line 8, in model"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in FILES:
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    return tmp_path


def said(words: list[str]) -> str:
    result = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2, result.output
    assert result.stdout == ""  # of a pipe, or of --json
    return re.sub(r"\x1b\[[0-9;]*m", "", result.stderr)


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_a_mistake_is_said_in_the_language_of_the_command_line(
    words: list[str], message: str, here: Path
) -> None:
    shown = said(words)
    assert message in " ".join(shown.split()), shown
    assert "Traceback" not in shown
    assert OURS not in shown
    assert "site-packages" not in shown
    frames = re.findall(r"^  (\S+, line \d+(?:, in \S+)?)$", shown, flags=re.M)
    assert frames == FRAMES.get(" ".join(words), frames)
    # What the user's function returns has Python's names, and so has what it raises.
    theirs = {"model", "optimizer", "schedule"} if words[0] == "audit" else set()
    names = "|".join(name for name in ARGUMENTS if name not in theirs)
    ours = re.sub(r"--arg \S+", "", shown.splitlines()[0])
    assert words[-1] in ("train:raises_a_value_error", "train:wrong_rule") or not re.search(
        rf"(?<![\w-])({names})=", ours
    )


def test_every_place_of_the_table_of_frames_is_tried() -> None:
    assert FRAMES.keys() <= {" ".join(words) for words, _ in MISTAKES}


@pytest.mark.slow
def test_what_a_task_raises_in_a_worker_is_told_alike(here: Path) -> None:
    command = [sys.executable, "-m", "halflife", "landscape", "--task", "tasks:bad"]
    command += ["--rules", "decoupled", "--workers", "1", "--out", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    assert done.returncode == 2
    assert "Error: --task tasks:bad: RuntimeError: no layers" in done.stderr
    assert "tasks.py, line 8, in model" in done.stderr
    assert "Traceback" not in done.stderr
    assert OURS not in done.stderr


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("halflife.units.transfer.transfer", broken)
    result = CliRunner().invoke(app, [*TRANSFER, "--batch", "1", "2"])
    # This file stands for the user's: what it raises is told as theirs, with the place.
    assert "in broken" in result.stderr
    monkeypatch.setattr("halflife.units.transfer.transfer", None)
    result = CliRunner().invoke(app, [*TRANSFER, "--batch", "1", "2"])
    assert isinstance(result.exception, TypeError)


def test_flags_are_read_from_the_command() -> None:
    from halflife.cli.describe import describe
    from halflife.cli.landscape import landscape

    flags = flags_of(describe)
    assert flags["weight_decay"] == "--weight-decay {}"
    assert flags["decay"] == "--rule {}"
    assert flags_of(landscape)["extend"] == "--extend {}"
    text = "weight_decay=-1: must be positive, as decay=None with steps_per_epoch= is"
    assert in_flags(text, flags) == (
        "--weight-decay -1: must be positive, as --rule with --steps-per-epoch is"
    )
