"""Designs as they are registered: what a file must say, and what all of them agree on."""

from __future__ import annotations

import re

import pytest

from halflife.lab.data import DATASETS
from halflife.lab.recipes import RECIPES
from halflife.lab.studies.calls import studies
from halflife.lab.studies.design import DesignError, designs, read_design
from halflife.lab.studies.words import PAPERS

TEXT = """
name = "000/figure-9"
title = "A title"
rows = [5]
source = "A source"
published = "A figure"
small = "Small"
confounds = "Many"
cannot_say = "Much"
recipes = []

[minutes]
seeds = 4
lr = 0.1

[hours]
seeds = 40

[[claims]]
name = "error"
words = "It is better."
statement = "The difference is above 0."
kind = "above"
effect = 0.5
unit = "points"
null = "itself"
planted = "ten times"
"""


def test_a_design_is_read_and_known_by_its_digest():
    read = read_design(TEXT)
    assert (read.name, read.paper, read.slug) == ("000/figure-9", "000", "000-figure-9")
    assert read.settings("minutes") == {"seeds": 4, "lr": 0.1}
    assert read.settings("hours") == {"seeds": 40, "lr": 0.1}
    assert read.claims[0].effect == 0.5
    assert not read.exact
    assert read.sha256 != read_design(TEXT.replace("0.5", "0.4")).sha256
    exact = TEXT.replace('"above"', '"exact"').replace('planted = "ten times"', "")
    assert read_design(exact).exact


def test_the_papers_budget_has_no_settings():
    with pytest.raises(ValueError, match="budget='paper': must be minutes or hours"):
        read_design(TEXT).settings("paper")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name = ", "name ", "is no TOML"),
        ('title = "A title"', "", "says nothing of title"),
        ('small = "Small"', 'small = " "', "says nothing of small"),
        ("[[claims]]", "[[other]]", r"has no \[\[claims\]\]"),
        ('unit = "points"', "", "claim 'error' says nothing of unit"),
        ('null = "itself"', "", "says nothing of null"),
        ('planted = "ten times"', "", "says nothing of planted"),
        ('"above"', '"abov"', "kind='abov': must be one of above, below.*did you mean 'above'"),
        ("effect = 0.5", "effect = -0.5", "error: effect"),
        ("effect = 0.5", "effect = nan", "error: effect"),
        ("effect = 0.5", "floor = -1.0", "error: floor"),
        ("effect = 0.5", "efect = 0.5", "a claim: .*efect"),
        ("rows = [5]", "row = [5]", "row"),
        (
            "[[claims]]",
            TEXT[TEXT.index("[[claims]]") :] + "[[claims]]",
            "has two claims named error",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused(old, new, said):
    assert old in TEXT
    with pytest.raises(DesignError, match=said):
        read_design(TEXT.replace(old, new, 1), "a file")


# --- those that are registered --------------------------------------------------------------------


def test_every_design_has_a_plan_and_every_plan_a_design():
    assert set(studies()) == set(designs())


def test_designs_come_by_paper_and_number():
    numbers = [
        [int(part) if part.isdigit() else part for part in re.split(r"[-/]", name)]
        for name in designs()
        if re.fullmatch(r"\d+/figure-\d+", name)
    ]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("design", designs().values(), ids=designs())
def test_what_a_design_names_exists(design):
    assert design.paper in PAPERS
    assert all(type(row) is int for row in design.rows)
    assert [name for name in design.recipes if name not in RECIPES] == []
    assert not design.data or design.data in DATASETS
    for claim in design.claims:
        assert claim.kind != "equivalent" or claim.effect > 0.0, claim.name
