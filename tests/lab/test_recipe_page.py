"""Every command of docs/recipes.md and of the help of ``halflife train`` runs, on little."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_runs import text_in
from typer.testing import CliRunner

from halflife.cli import app
from halflife.lab.recipes import recipe
from halflife.lab.recipes.building import small
from halflife.lab.recipes.runs import departures

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "recipes.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ halflife (.+)$", PAGE, flags=re.M)
HELP = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "80"}).output
EXAMPLES = re.findall(r"^ +halflife (train .+?) *$", HELP, flags=re.M)
TRAININGS = [words for words in COMMANDS if words.startswith("train ")]
OF_THEIR_OWN = ("--devices", "--compile")  # these start processes: `make test-recipes` runs them


def shortened(command: str, folder: Path, until: int) -> list[str]:
    """The same command on the CPU, for some steps of digits or a short text."""
    text = "text" in command or "lstm" in command
    words = [*command.split(), "--accelerator", "cpu", "--batch-size", "8", "--epochs", "1"]
    words += ["--data-root", text_in(folder)] if text else ["--data", "digits"]
    return [*words, "--until", str(until), "--out", str(folder / "run")]


def ran(words: list[str]) -> str:
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_there_are_commands_to_try() -> None:
    assert len(TRAININGS) >= 12
    assert len(EXAMPLES) >= 3
    assert "$ halflife" not in "".join(re.findall(r"```(?!console)\w+\n.*?```", PAGE, flags=re.S))


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            words, marks=[pytest.mark.recipes] if any(s in words for s in OF_THEIR_OWN) else []
        )
        for words in dict.fromkeys([*TRAININGS, *EXAMPLES])
    ],
)
def test_a_training_of_the_page_runs(command: str, tmp_path: Path) -> None:
    pytest.importorskip("lightning.fabric")
    if "--resume" in command:  # of a run that is there
        ran(shortened(command.replace(" --resume", ""), tmp_path, 1))
    words = shortened(command, tmp_path, 2)
    if any(option in command for option in OF_THEIR_OWN):
        # What the compiler makes of a model is tested with one that it compiles in less time.
        environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1"}
        process = [sys.executable, "-m", "halflife", *words]
        done = subprocess.run(process, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    else:
        ran(words)
    assert (tmp_path / "run" / "latest").read_text() == "checkpoint-000000002"
    assert (tmp_path / "run" / "monitor.jsonl").exists() == ("--monitor-every" in command)


@pytest.mark.parametrize("command", [words for words in COMMANDS if words not in TRAININGS])
def test_another_command_of_the_page_runs(command: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.startswith("recipes ")
    assert "run here" in ran(command.split())


def test_commands_of_the_page_do_not_meet_in_one_folder() -> None:
    """Whoever tries them one after the other is not told that there is a run already."""
    folders = [
        match[1] if (match := re.search(r"--out (\S+)", words)) else words.split()[1]
        for words in TRAININGS
        if "--resume" not in words
    ]
    assert len(folders) == len(set(folders))


def test_what_is_said_to_be_changed_is_what_is() -> None:
    told = ", ".join(departures(small(recipe("000/resnet18-cifar10/adams"))))
    assert f"\nNot as published: {told}.\n" in PAGE


def test_what_a_run_leaves_is_what_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("lightning.fabric")
    words = shortened("train 004/resnet20-nobn-cifar10/adamw --monitor-every 1", tmp_path, 99)
    ran([*words, "--batch-size", "512"])  # of which the digits have two
    left = {re.sub(r"-\d+$", "-...", path.name) for path in (tmp_path / "run").iterdir()}
    table = re.findall(r"^\| `([a-z.-]+)` \|", PAGE, flags=re.M)
    assert left == {*table, "latest", "lock"}
    assert "which `latest` names" in PAGE
