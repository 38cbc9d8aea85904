"""The command line as a user meets it: what it needs, its help, its JSON, its tables."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import halflife
from halflife.cli import app, terminal

ROOT = Path(__file__).resolve().parent.parent
OF_THE_LAB = ("optuna", "scipy", "sklearn", "jinja2", "safetensors")
COMMANDS = (
    *("audit", "describe", "convert", "transfer", "recommend", "probe"),
    *("landscape", "sweep", "report", "recipes", "train"),
)

TRAIN = """
import torch
import halflife

torch.manual_seed(0)

def build():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    groups = halflife.param_groups(model)
    return model, torch.optim.AdamW(groups, lr=3e-4, weight_decay=0.1)

def with_long_names():
    model = torch.nn.Module()
    deep = model
    for name in ("transformer", "layers", "self_attention", "query_key_value_projection"):
        deep.add_module(name, torch.nn.Module())
        deep = getattr(deep, name)
    deep.weight = torch.nn.Parameter(torch.randn(4, 4))
    deep.extra = torch.nn.Parameter(torch.randn(4, 4))
    groups = [{"params": [p], "lr": 10.0**-i} for i, p in enumerate(model.parameters(), 2)]
    return model, torch.optim.AdamW(groups, weight_decay=0.1)
"""

# One call of each command that needs no lab.
CALLS: dict[str, list[str]] = {
    "audit": ["train:build", "--steps-per-epoch", "23105"],
    "describe": ["--lr", "3e-4", "--weight-decay", "0.1", "--steps-per-epoch", "23105"],
    "convert": ["0.1", "--from", "decoupled", "--lr", "3e-4"],
    "transfer": ["0.1", "--lr", "3e-4", "--new-lr", "6e-5", "--optimizer", "adamw", "lion"],
    "recommend": [
        *("--parameters", "1e8", "--lr", "3e-4", "--batch", "10", "--data", "1e6"),
        *("--weight-decay", "0.1"),
    ],
    "probe": ["SGD", "AdamW"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "train", raising=False)
    return tmp_path


def run(*arguments: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    sys.modules.pop("train", None)
    return result.stdout


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# --- what it needs -------------------------------------------------------------------------------


def test_the_extra_is_typer_and_rich_and_the_lab_has_it_too() -> None:
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {
        extra: {re.split(r"[<>=~! ]", package)[0] for package in packages}
        for extra, packages in extras["optional-dependencies"].items()
    }
    assert names["cli"] == {"typer", "rich"}
    assert names["cli"] < names["lab"]
    assert extras["scripts"] == {"halflife": "halflife.cli:main"}


def blocked(packages: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter in which importing the packages raises."""
    block = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
    command = [sys.executable, "-W", "error", "-c", block + code]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("start", "package"),
    [
        (
            "from halflife.cli import main; main()",
            "typer",
        ),  # the `halflife` of an environment's bin
        ("import runpy; runpy.run_module('halflife', run_name='__main__')", "rich"),
    ],
)
def test_without_the_extra_one_sentence_says_what_to_install(package: str, start: str) -> None:
    done = blocked((package,), start)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"halflife: the command line needs {package}, which is not installed: "
        'pip install "torch-halflife[cli]"\n'
    )


def test_from_python_the_extra_is_named_too() -> None:
    done = blocked(("typer",), "from halflife.cli import app")
    assert 'pip install "torch-halflife[cli]"' in done.stderr.splitlines()[-1]
    assert "During handling" not in done.stderr


def test_all_but_landscapes_run_without_the_lab(here: Path) -> None:
    code = f"""
import json
from typer.testing import CliRunner
from halflife.cli import app
seen = {{}}
for name, words in {CALLS!r}.items():
    seen[name] = CliRunner().invoke(app, [name, *words]).exit_code
for words in (["landscape", "--help"], ["landscape"], ["report", "out"]):
    done = CliRunner().invoke(app, words)
    seen[" ".join(words)] = [done.exit_code, done.stderr]
print(json.dumps(seen))
"""
    done = blocked(OF_THE_LAB, code)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert all(seen[name] == 0 for name in CALLS)
    assert seen["landscape --help"] == [0, ""]
    for words in ("landscape", "report out"):
        code, said = seen[words]
        assert code == 2
        assert re.fullmatch(
            rf"Error: halflife {words.split()[0]} needs \w+, which is not installed: pip install "
            r'"torch-halflife\[lab\]"\n',
            said,
        )


def test_no_command_imports_the_lab_before_it_needs_it() -> None:
    code = "import json, halflife.cli.commands; print(json.dumps(list(sys.modules)))"
    assert not {*OF_THE_LAB} & {*json.loads(blocked((), code).stdout)}


def test_version_and_module(here: Path) -> None:
    assert run("--version").startswith(f"halflife {halflife.__version__} (torch ")
    command = [sys.executable, "-m", "halflife", "audit", "train:build"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert "nothing found" in done.stdout


# --- help ----------------------------------------------------------------------------------------


def examples(command: str) -> list[str]:
    """What the help shows on 80 columns, line by line: a command that is broken is found out."""
    text = plain(run(command, "--help"))
    return [line.strip() for line in text.splitlines() if line.strip().startswith("halflife ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str) -> None:
    assert len(examples(command)) >= 2


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c not in ("landscape", "sweep", "report", "train")]
)
def test_every_example_of_the_help_runs(command: str, here: Path) -> None:
    if command == "audit":  # the file is in the help as well
        shown = plain(run("audit", "--help"))
        code = shown[shown.index("import torch") : shown.index("and then")]
        (here / "train.py").write_text("\n".join(line[5:] for line in f"     {code}".splitlines()))
    for example in examples(command):
        result = CliRunner().invoke(app, example.split()[1:])
        sys.modules.pop("train", None)
        assert result.exit_code in ((0, 1) if command == "audit" else (0,)), result.output


@pytest.mark.slow
def test_every_example_of_the_landscapes_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same tasks, but with little training; the first one as it stands, by processes."""
    from halflife.lab.tasks import Digits, task

    short = {"images": 60, "batch_size": 20, "epochs": 1}
    tasks = [Digits("digits", **short), Digits("digits-bn", batch_norm=True, **short)]
    monkeypatch.setattr(task, "_TASKS", {t.name: t for t in tasks})
    first, *others = examples("landscape")
    for example in (first, *(f"{o} --workers 0" for o in others), *examples("report")):
        result = CliRunner().invoke(app, example.split()[1:])
        assert result.exit_code == 0, f"{example}\n{result.output}"


SWEPT = """
import math

def train(lr, weight_decay, seed):
    return math.log(lr / 1e-2) ** 2 + 0.1 * math.sin(1e4 * (seed + lr + weight_decay))
"""
SWEPT_BY_TRIAL = """
import torch

def train(trial):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = trial.optimizer([weight])
    for step in range(3):
        optimizer.zero_grad()
        (weight - torch.randn(3)).square().sum().backward()
        optimizer.step()
    error = float(weight.detach().square().sum())
    return {"val": error, "test": error}
"""


@pytest.mark.slow
def test_every_example_of_sweep_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = examples("sweep")
    assert len(found) == 2
    for number, (example, code) in enumerate(zip(found, (SWEPT, SWEPT_BY_TRIAL), strict=True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "train.py").write_text(code)
        command = [sys.executable, "-m", *example.split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{example}\n{done.stderr}"
        optimizer = " with adamw" if code is SWEPT_BY_TRIAL else ""  # where the trial makes it
        assert f"On train:train{optimizer}, " in " ".join(done.stdout.split())


def test_help_of_all_says_what_exit_codes_mean() -> None:
    shown = " ".join(plain(run("--help")).split())
    assert "Exit codes: 0 done; 1 an audit found errors; 2 it could not be done" in shown
    assert all(f" {command} " in shown for command in COMMANDS)


# --- JSON ----------------------------------------------------------------------------------------

# The format is stable: keys may be added, none may go.
GROUP = {
    *("group", "tensors", "elements", "rule", "lr", "peak_lr", "weight_decay", "fraction"),
    *("half_life", "timescale", "half_life_epochs", "timescale_epochs", "rms", "rotation"),
    *("note", "strength", "peak"),
}
KEYS: dict[str, set[str]] = {
    "audit": {"optimizer", "steps", "steps_per_epoch", "exit_code", "findings", "parameters"},
    "describe": {*GROUP, "same_as"},
    "transfer": {
        *("name", "value", "lr", "fraction", "timescale", "source", "validity", "note", "verified"),
        "silent",
    },
    "recommend": {"options", "steps", "steps_per_epoch", "notes", "code", "start"},
    "probe": {
        *("name", "behaviour", "reason", "weight_decay", "lrs", "rates", "errors", "peak_lr"),
        *("scale_free", "scale_free_decayed", "lr_multiplies", "zero_gradient", "no_gradient"),
        "bfloat16",
    },
}


@pytest.mark.parametrize("command", KEYS)
def test_json_is_all_of_the_output_and_keeps_its_keys(command: str, here: Path) -> None:
    data = json.loads(run(command, *CALLS[command], "--json"))
    for entry in data if isinstance(data, list) else [data]:
        assert KEYS[command] <= set(entry)


def test_json_of_convert_is_one_conversion_or_all_by_name() -> None:
    keys = {
        *("value", "unit", "lr", "changes_lr", "source", "target", "given", "fraction"),
        *("exactness", "deviation", "formula", "note"),
    }
    one = json.loads(run("convert", *CALLS["convert"], "--to", "independent", "--json"))
    every = json.loads(run("convert", *CALLS["convert"], "--json"))
    assert keys <= set(one)
    assert every["independent"] == one
    assert every["total"].startswith("--schedule: ")  # why there is none


@pytest.mark.slow
def test_json_of_a_landscape_and_of_its_report_are_the_same(here: Path) -> None:
    words = ["--rules", "decoupled", "--lr", "0.01", "--strength", "1e-3", "--seeds", "1"]
    out = ["--epochs", "1", "--workers", "0", "--out", "out"]
    data = json.loads(run("landscape", *words, *out, "--json"))
    assert {"report", "meta", "sentence", "verdict", "rules"} <= set(data)
    assert data == json.loads(run("report", "out", "--json"))
    assert data["meta"]["optimizer"] == "adamw"


# --- one vocabulary, one way to write numbers ----------------------------------------------------


@pytest.mark.parametrize("command", CALLS)
def test_names_are_spelled_one_way(command: str, here: Path) -> None:
    arguments = CALLS[command]
    for text in (run(command, *arguments), run(command, "--help")):
        text = plain(text)
        assert not re.search(r"\badam\b|Decoupled\(\)|decay_after\b", text), text
    for given, meant in (("adam", "adamw"), ("AdamW", "adamw"), ("torch", "decoupled")):
        if meant in arguments:
            other = [given if word == meant else word for word in arguments]
            both = [json.loads(run(command, *words, "--json")) for words in (arguments, other)]
            assert both[0] == both[1]


@pytest.mark.parametrize(
    ("command", "texts"),
    [
        ("audit", ["23,105 steps = 1 epoch", "33,333 steps = 1.44 epochs"]),
        ("describe", ["23,105 steps = 1 epoch", "33,333 steps = 1.44 epochs"]),
        ("convert", ["23,105", "33,333"]),
        ("transfer", ["33,333 steps"]),
        ("recommend", ["33,333 steps", "100,000 steps = 1 epoch"]),
    ],
)
def test_durations_are_written_one_way(command: str, texts: list[str], here: Path) -> None:
    shown = " ".join(run(command, *CALLS[command]).split())
    for text in texts:
        assert text in shown, shown
    assert not re.search(r"\b1 (steps|epochs)\b|\de\+0", shown), shown


def test_a_probe_ends_with_what_it_comes_to() -> None:
    sentence = "AdamW: decoupled, (1 - lr wd) w, then the step."
    assert run("probe", "AdamW").strip().splitlines()[-1] == sentence
    assert run("probe", "SGD", "AdamW").strip().splitlines()[-2:] == [
        "SGD: l2, g + wd w in place of the gradient g.",
        sentence,
    ]


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("command", [*CALLS, "long names"])
def test_tables_fit_and_lose_nothing(
    command: str, width: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["audit", "train:with_long_names"] if command == "long names" else [command]
    words += CALLS.get(command, [])
    monkeypatch.setattr(terminal.console, "_width", 1000)
    wide = run(*words)
    monkeypatch.setattr(terminal.console, "_width", width)
    narrow = run(*words)
    body, _, code = narrow.partition("import halflife")  # what is to be copied stays as it is
    longest = max(body.splitlines(), key=len)
    assert len(longest) <= width or " " not in longest.strip(), longest
    squeezed = re.sub(r"\s", "", body + code)
    what = {"rule", "optimizer", "convention", "parameter", "group"}  # of the rows: heads them
    words = wide.replace("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "").split()
    for word in (word for word in words if word not in what):
        assert word in squeezed or word.rstrip(":") in squeezed


def test_a_table_that_does_not_fit_is_turned_or_told_row_by_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal.console, "_width", 30)
    rows = [["name", *(f"column {i}" for i in range(5))], ["x", *"abcde"]]
    terminal.show(rows)
    assert capsys.readouterr().out.splitlines()[0].split() == ["name", "x"]
    terminal.show([["name", "one", "two"], *([n, "a" * 12, "b" * 12] for n in ("x", "y"))])
    row = f"  one: {'a' * 12}\n  two: {'b' * 12}\n"
    assert capsys.readouterr().out == f"x\n{row}y\n{row}"
