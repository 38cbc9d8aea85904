"""The README shows what commands print now, and leads somewhere on a package index too."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

import halflife
from halflife import DecayRule

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "readme.py"))


def test_it_shows_what_the_audit_finds_and_what_was_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "train", raising=False)
    own = {n: r for n, r in DecayRule._registry.items() if r.__module__.startswith("halflife.")}
    monkeypatch.setattr(DecayRule, "_registry", own)
    assert SCRIPT["written"](README) == README, "run python scripts/readme.py"


def test_its_code_is_that_of_the_example_and_predicts_what_it_says(tmp_path, monkeypatch, capsys):
    """As a reader would copy it, who has only the README."""
    example = runpy.run_path(str(ROOT / "examples" / "train.py"))
    training, choice = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    (tmp_path / "train.py").write_text(training, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "train", raising=False)
    scope = {}
    exec(choice, scope)
    printed = capsys.readouterr().out
    for shown, run in zip(scope["build"](), example["build"](), strict=True):
        assert type(shown) is type(run)
        if isinstance(shown, torch.optim.lr_scheduler.LRScheduler):
            assert shown.T_max == run.T_max
        else:
            assert str(shown) == str(run)
    same = example["chosen"](scope["model"], 20)
    first, second = (halflife.describe(o, steps_per_epoch=10) for o in (scope["optimizer"], same))
    assert str(first) == str(second)
    assert "20 epochs" in printed
    assert f"a weight RMS of {first.groups[0].rms:.4f}" in README


def test_the_finding_is_right():
    """The sum of the fractions of torch's default under the cosine, from their definition."""
    _, optimizer, schedule = runpy.run_path(str(ROOT / "examples" / "train.py"))["build"]()
    (group,) = optimizer.param_groups
    total = 0.0
    for _ in range(600):
        total += group["lr"] * group["weight_decay"]
        optimizer.step()
        schedule.step()
    assert group["weight_decay"] == torch.optim.AdamW([torch.ones(1)]).defaults["weight_decay"]
    assert f"{100 * total:.1f} % is all that it removes" in " ".join(README.split())


def test_its_table_is_that_of_the_trainings_that_are_kept():
    """Of all that the example asks for; who wins is not up to rounding."""
    found = SCRIPT["measured"](SCRIPT["remembered"]())
    assert SCRIPT["with_table"](README, found) == README, "run python scripts/readme.py"
    better, width = map(float, found["wrong difference"].split(" ± "))
    assert better + width < 0
    text = " ".join(README.split())
    assert f"the cosine leaves {found['left']} % of the initial weights" in text
    assert f"it ends at {found['noise']})" in text


KEPT = json.loads(SCRIPT["TRAININGS"].read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kept",
    # Every half-life and every kind of training once: all 116 take two minutes.
    [row for row in KEPT if row["seed"] in (0, 1000)],
    ids=lambda row: f"{row['seed']}-{row['half_life']}-{row['wrong']}-{row['noise']}",
)
def test_a_training_comes_to_what_is_kept_of_it(kept):
    """Up to what another processor's rounding does in 600 steps."""
    told = (kept["seed"], kept["half_life"], kept["wrong"], kept["noise"])
    fresh = SCRIPT["trained"](*told)
    assert fresh["rms"] == pytest.approx(kept["rms"], rel=0.01), "python scripts/readme.py --train"
    for part in ("validation", "test"):
        assert fresh[part] == pytest.approx(kept[part], abs=1.0)


def test_links_of_the_checkout_lead_to_files():
    paths = re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", README)
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("repository", ["https://host.invalid/owner/halflife", ""])
def test_an_index_is_given_absolute_links_or_none(repository):
    pytest.importorskip("hatchling", reason="in the extra dev")
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))
    text = hook["absolute"](README, repository)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all(link.startswith("https://") for link in links)
    assert bool(links) == bool(repository) == bool(hook["urls"](repository))
    assert ("![" in text) == bool(repository)
    if repository:
        assert f"({repository}/blob/HEAD/CONTRIBUTING.md)" in text
        assert f"({repository}/raw/HEAD/docs/images/landscape.svg)" in text
    else:
        assert "CONTRIBUTING has the layout" in text


def test_the_documentation_says_what_killing_the_lab_came_to():
    docs = Path(__file__).parent.parent / "docs"
    rows = json.loads((docs / "assets" / "lab_kills.json").read_text("utf-8"))["rows"]
    counts = {
        name: sum(row[name] for row in rows)
        for name in rows[0]
        if name not in ("executor", "ledger")
    }
    text = " ".join((docs / "lab.md").read_text("utf-8").split())
    kills = counts["drivers"] + counts["workers"]
    assert f"[{kills} kills]" in text
    assert f"{counts['drivers']} of drivers and {counts['workers']} of workers" in text
    assert f"{counts['lost']} trainings lost, {counts['doubled']} doubled, " in text
    assert f"{counts['different']} with other figures" in text
