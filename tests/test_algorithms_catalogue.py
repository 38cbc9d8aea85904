"""The catalogue's names, settings and prints, and the page that is made of them."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import pytest
import torch

import halflife
from halflife.algorithms import AMBIGUOUS, Algorithms, algorithm, algorithms, create
from halflife.rules.contract import DecayRule

ENTRIES = {entry.name: entry for entry in algorithms()}
ROOT = Path(__file__).resolve().parent.parent

# (lr, weight decay) without overrides: a change of these is a change of results.
SETTINGS = {
    "sgd_l2": (0.1, 5e-4),
    "sgd_l2_paper": (0.1, 5e-4),
    "sgd_hanson_pratt": (0.1, 5e-5),
    "sgdw": (0.05, 3e-5),
    "sgdw_paper": (0.05, 3e-5),
    "sgdwr": (0.05, 0.025),
    "sgdr": (0.05, 5e-4),
    "sgds": (0.1, 5e-4),
    "adamw": (1e-3, 1e-2),
    "adamw_paper": (1e-3, 3e-5),
    "adamwr": (1e-3, 0.025),
    "adais": (1.0, 5e-4),
    "adamprox": (1e-3, 1e-4),
    "proxadam": (1e-3, 1e-4),
    "adamproxl1": (1e-3, 1e-5),
    "adamproxl1_preconditioned": (1e-3, 1e-5),
    "adamproxl2": (1e-3, 1e-4),
    "adamw_003": (1e-3, 0.5),
    "adamw_d": (1e-3, 5e-2),
    "yogi": (1e-2, 5e-4),
    "padam": (0.1, 5e-4),
    "adai": (1.0, 5e-4),
    "nadam": (2e-3, 5e-4),
    "rmsprop": (1e-2, 5e-4),
    "adagrad": (1e-2, 5e-4),
    "awd": (0.1, 0.02),
    "adamc": (1e-3, 1e-2),
    "cautious_adamw": (1e-3, 1e-2),
    "lion": (1e-4, 1.0),
    "muon": (1e-3, 0.1),
}
# The others are no torch optimizer, or have no weight decay.
NOT_CREATED = {"stagewise_adamw", "adagrad_004", "adagrad_restarts_004"}
CREATED = sorted(set(ENTRIES) - NOT_CREATED)


def make_params() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(3, 3))]


@pytest.mark.parametrize("name", CREATED)
def test_settings_without_overrides(name: str) -> None:
    group = create(name, make_params()).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == SETTINGS.get(name, (1e-3, 5e-4))
    assert group["decay"] == ENTRIES[name].rule


@pytest.mark.parametrize("name", ["adabound", "amsbound"])
def test_settings_that_bind_after_many_steps_only(name: str) -> None:
    group = create(name, make_params()).param_groups[0]
    assert (group["final_lr"], group["gamma"]) == (0.1, 1e-3)


@pytest.mark.parametrize("name", CREATED)
def test_overrides_win(name: str) -> None:
    group = create(name, make_params(), lr=0.03, weight_decay=0.0).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.03, 0.0)
    other = create(name, make_params(), weight_decay=0.5, decay="constant").param_groups[0]
    assert other["decay"] == halflife.Constant()


def test_strengths_are_weight_decays_too() -> None:
    strength = halflife.HalfLife(steps=100)
    optimizer = create("adamw_paper", make_params(), weight_decay=strength)
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(1 - 0.5**0.01)


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_are_complete_and_print(name: str) -> None:
    entry = ENTRIES[name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert entry.equation
    assert "\n" not in entry.equation
    assert re.match(r"[^,]+ \d{4}, \w", entry.paper)
    assert entry.source
    assert entry.rule is None or isinstance(entry.rule, DecayRule)
    text = str(entry)
    assert text.startswith(f"{name}: {entry.equation}")
    assert all(alias in text for alias in entry.aliases)
    if entry.optimizer is not None:
        known = inspect.signature(entry.optimizer).parameters
        assert set(entry.defaults) <= set(known)


def test_names_mean_one_thing() -> None:
    names = [key for entry in algorithms() for key in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert not set(names) & set(AMBIGUOUS)
    for message in AMBIGUOUS.values():
        for key in re.findall(r"\('(\w+)'", message):
            assert key in ENTRIES


def test_the_table_prints_a_line_each_and_is_plain_data() -> None:
    table = algorithms()
    assert isinstance(table, Algorithms)
    lines = str(table).splitlines()
    assert len(lines) == len(table) + 1
    assert lines[0].split() == ["name", "optimizer", "rule", "paper", "equation"]
    row = next(row for row in table.as_dicts() if row["name"] == "adamwr")
    assert row["schedule"] == "restarts_with_normalized_decay"
    assert (row["optimizer"], row["rule"]) == ("AdamW", "Independent()")
    table.clear()  # a copy: the catalogue stays
    assert len(algorithms()) == len(ENTRIES)


@pytest.mark.parametrize("name", ["AdamW", "ADAMW_PT", " adamw-torch "])
def test_names_as_people_write_them(name: str) -> None:
    assert algorithm(name) is ENTRIES["adamw"]


BAD_NAMES = {
    "adamp": r"name='adamp' has several meanings: of Schaipp 2023.*'adamp_blog'.*Heo et al. 2021",
    "SWD": r"name='SWD' has several meanings: .*'adams'.*'sgds'.*'adais'",
    "CAdamW": r"has several meanings: .*'cautious_adamw'.*Liang",
    "adam": r"has several meanings: .*'adam_l2'",
    "adampro": r"name='adampro': unknown algorithm; did you mean 'adamprox'",
    "zzz": r"name='zzz': unknown algorithm; see algorithms\(\)\.",
    "stagewise_adamw": r"is no torch optimizer; .*halflife\.theory\.stagewise\.stagewise_adamw",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_make_no_optimizer(name: str) -> None:
    with pytest.raises(ValueError, match=BAD_NAMES[name]):
        create(name, make_params())


def test_a_name_is_a_string() -> None:
    with pytest.raises(TypeError, match="must be the name of an algorithm"):
        create(torch.optim.AdamW, make_params())  # type: ignore[arg-type]


def test_the_page_is_current() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "algorithms_page.py"))["page"]()
    written = (ROOT / "docs" / "algorithms.md").read_text()
    assert written == page, "run python scripts/algorithms_page.py"


def test_what_transcribes_code_is_named() -> None:
    """By their sources, and so in the README and on the page."""
    code = ["sgdw", "sgds", "adais", "yogi", "adabound", "amsbound", "padam", "adai"]
    torchs = ["sgd_l2", "adamw", "amsgrad", "radam", "nadam", "rmsprop", "adagrad", "muon"]
    assert [entry.name for entry in algorithms() if "code" in entry.source] == code
    assert [entry.name for entry in algorithms() if "torch" in entry.source] == torchs
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    for names in (code, torchs):
        assert f"{', '.join(names[:-1])} and {names[-1]}" in readme
