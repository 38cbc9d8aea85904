"""What a group takes by itself on a GPU is held to what was measured on one."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import choice
from benchmarks.__main__ import main

from halflife.mechanism.compiled import calls

ROOT = Path(__file__).resolve().parent.parent
# Of the other way's time, at most, is what the chosen one takes: two rules decide for all models,
# and GPT-2 with Cautious in float32 lies where the two ways cross.
WORST = 1.15


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("choice_section")


def test_no_other_choice_would_have_been_much_faster(section: Any) -> None:
    assert choice.SMALLS[0] == calls.SMALL
    rows = json.loads(section.RESULTS.read_text("utf-8"))["choice"]["rows"]
    assert {row["rule"] for row in rows} <= {*choice.RULES}
    for row in rows:
        ways = {way: row[way]["whole"] for way in ("native", f"compiled {calls.SMALL}")}
        assert ways[section.chosen(row)] <= WORST * min(ways.values()), row


def test_the_section_marks_what_is_chosen(section: Any) -> None:
    rows = [line.split(" | ") for line in section.section() if line.startswith("| ")][1:]
    for dtype, _, rule, *cells in rows:
        compiled = rule not in ("Decoupled", "Stable") and (
            "bfloat16" in dtype or rule == "Preconditioned"
        )
        marked = [i for i, cell in enumerate(cells) if "**" in cell]
        assert marked == [int(compiled)]  # native, or at the package's own number
    assert rows


def test_the_benchmark_rehearsed_on_the_cpu(
    tmp_path: Path, uncompiled: None, section: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the package's number as it was, and its rows are those of the section."""
    file, small = tmp_path / "choice.json", calls.SMALL
    monkeypatch.setattr(choice, "RULES", {"Cautious": choice.RULES["Cautious"]})
    monkeypatch.setattr(choice, "DTYPES", {"float32": torch.float32})
    command = ["choice", "--device", "cpu", "--models", "tiny", "--rounds", "2"]
    assert main([*command, "--json", str(file)]) == 0
    assert small == calls.SMALL
    (row,) = json.loads(file.read_text("utf-8"))["choice"]["rows"]
    monkeypatch.setattr(section, "RESULTS", file)
    assert section.section()[-1].startswith("| float32 | tiny (5) | Cautious | **")
    for way in ("native", *(f"compiled {small}" for small in choice.SMALLS)):
        assert 0 < row[way]["host"] <= row[way]["whole"]
