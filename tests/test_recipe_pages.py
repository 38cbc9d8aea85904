"""Pages that show what commands print: every command runs and prints that."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

import halflife
from halflife import DecayRule

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "recipe_pages.py"))


@pytest.mark.parametrize("path", SCRIPT["PAGES"], ids=lambda path: path.stem)
def test_page_shows_what_the_commands_print(path, monkeypatch):
    monkeypatch.chdir(SCRIPT["FOLDER"])
    monkeypatch.delitem(sys.modules, "monday_morning", raising=False)
    rules = DecayRule._registry  # without those that other tests have defined
    own = {name: rule for name, rule in rules.items() if rule.__module__.startswith("halflife.")}
    monkeypatch.setattr(DecayRule, "_registry", own)
    page = path.read_text("utf-8")
    assert SCRIPT["written"](page) == page, "run python scripts/recipe_pages.py"


@pytest.mark.parametrize("path", SCRIPT["PAGES"], ids=lambda path: path.stem)
def test_pages_have_commands_and_no_failures_but_the_one_they_mean(path):
    page = path.read_text("utf-8")
    assert re.search(r"^\$ halflife ", page, flags=re.M)
    errors = re.findall(r"^Error: .*", page, flags=re.M)
    assert all("has no conversion" in error for error in errors)


def test_python_on_the_page_runs():
    import torch

    page = (ROOT / "docs" / "moving_a_recipe.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    scope = {"params": [torch.nn.Parameter(torch.ones(2))]}
    exec(code, scope)
    assert halflife.describe(scope["optimizer"]).groups[0].fraction == pytest.approx(3e-5)
