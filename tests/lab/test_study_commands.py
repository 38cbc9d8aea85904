"""``halflife study``: what it lists, shows, runs and writes, and every way out of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from study_plans import DESIGN, FAILING, OTHER, UNDERFED, faults, measured, planted
from typer.testing import CliRunner

from halflife.cli import app
from halflife.cli.terminal import console
from halflife.lab.executors import InProcess
from halflife.lab.studies import running
from halflife.lab.studies.design import designs

RUN = ("run", DESIGN.name, "--workers", "0")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HALFLIFE_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(console, "width", 200)
    running.lacking.cache_clear()
    with planted(DESIGN, OTHER, FAILING, UNDERFED):
        yield tmp_path


def study(*words, code=0):
    ended = CliRunner().invoke(app, ["study", *words], env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return plain(ended.stdout), plain(ended.stderr)


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_study_from_the_list_to_the_page(here):
    said, _ = study("list")
    assert "4 studies" in said
    assert "None has been run (in studies-run)." in said
    said, bar = study(*RUN)
    assert "Replicates: 1.0" in said
    assert "Holm's correction over 4 registered primaries" in said
    assert "halflife study report studies-run" in said
    assert "100%" not in said
    assert len(measured) == 10
    said, bar = study(*RUN)
    assert "000/figure-1: goes on from 10 measurements in studies-run/000-figure-1.jsonl." in bar
    assert len(measured) == 10
    said, _ = study("list", "000")
    assert re.search(r"000/figure-1 +1 +The title of 000/figure-1\. +1 replicates +0 s", said)
    said, _ = study("show", DESIGN.name)
    for part in ("ten times as much", "Replicates: 1.0", "Note: chosen: 1", DESIGN.sha256):
        assert part in said
    said, _ = study("report", "studies-run")
    page = here / "studies-run" / "studies.html"
    assert f"Report: {page.as_uri()}" in said
    content = page.read_bytes()
    study("report", "studies-run", "--out", "deep/page.html")
    assert (here / "deep" / "page.html").read_bytes() == content


def test_json_is_all_of_the_output_and_keeps_its_keys(here):
    keys = {
        *("name", "title", "rows", "source", "published", "small", "confounds", "cannot_say"),
        *("minutes", "hours", "recipes", "data", "sha256", "budget", "seconds", "measurements"),
        *("sessions", "ended", "notes", "claims"),
    }
    of_a_claim = {
        *("name", "words", "statement", "kind", "effect", "unit", "published", "matched", "floor"),
        *("exploratory", "null", "planted", "outcome", "reason", "mean", "interval", "seeds"),
        *("p_replicates", "p_contradicts", "power", "needed", "trusted", "scope", "values"),
        "controls",
    }
    before = json.loads(study("list", "--json")[0])
    assert [each["ended"] for each in before] == [False] * 4
    assert before[0]["claims"][0]["mean"] is None
    (ran,) = json.loads(study(*RUN, "--json")[0])
    assert keys <= set(ran)
    assert of_a_claim <= set(ran["claims"][0])
    assert ran == json.loads(study("show", "000", "--json")[0])
    report = json.loads(study("report", "studies-run", "--json")[0])
    assert report["report"] == "studies-run/studies.html"
    assert report["studies"][0] == ran


def test_data_that_is_missing_is_named_and_its_studies_left_out_or_refused(here):
    _, said = study("run", "00", "--workers", "0")
    assert "Left out: 004/figure-5, as its data is not here; imagenet: " in said
    assert {path.stem for path in (here / "studies-run").glob("*.jsonl")} == {
        d.slug for d in (DESIGN, OTHER, FAILING)
    }
    _, said = study("run", "all", UNDERFED.name, code=2)
    assert "NAME 004/figure-5: must have its data here; imagenet: " in said
    del designs()[FAILING.name]
    assert "none of these studies has its data" in study("run", "004", code=2)[1]


def test_the_papers_own_size_is_told_by_commands_and_trains_nothing(here, monkeypatch):
    spent = SimpleNamespace(petaflop=3.6)  # which takes seconds to count
    monkeypatch.setattr("halflife.lab.recipes.cost.cost", lambda each: spent)
    first = "004/resnet20-nobn-cifar10/adamw"
    designs()[DESIGN.name] = replace(DESIGN, recipes=(first, first))
    said, why = study("run", "000", "--budget", "paper")
    assert said.splitlines() == [f"halflife train {first}"]
    assert "Nothing is trained here" in why
    assert "one run each, 4 petaFLOP in all" in " ".join(why.split())
    data = json.loads(study("run", "000", "--budget", "paper", "--json")[0])
    assert data[0]["command"] == f"halflife train {first}"
    assert measured == []
    assert "has no recipe of the paper" in study("run", "001", "--budget", "paper", code=2)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "009"), "NAME 009: is no study, and none begins so; there are 000/figure-1, "),
        (("show", "004"), "NAME 004: must mean one study; it begins 004/figure-3, 004/figure-5."),
        (("run", "000", "--time-limit", "0"), "--time-limit 0: must be a number of minutes > 0."),
        (("report", "nowhere"), "DIRECTORY nowhere: must hold a ledger of a study"),
        (("list", "x"), "is no study"),
    ],
)
def test_mistakes_are_said_in_one_line(words, said):
    out, error = study(*words, code=2)
    assert out == ""
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_ledger_of_another_design_is_refused_with_the_remedy(here):
    study(*RUN)
    path = here / "studies-run" / "000-figure-1.jsonl"
    path.write_text(path.read_text("utf-8").replace(DESIGN.sha256, "9" * 64), "utf-8")
    for words in (RUN, ("list",), ("show", "000"), ("report", "studies-run")):
        assert "begun with another design" in study(*words, code=2)[1]


def test_what_failed_is_said_after_the_rest(here):
    faults[2] = 2
    _, said = study("run", FAILING.name, "--workers", "0", code=2)
    assert "1 measurement failed twice" in said
    assert "no value for seed 2" in said
    assert "begun" in study("list")[0]


@pytest.mark.parametrize("ending", ["Interrupted", "Terminated"])
def test_what_was_interrupted_says_how_to_go_on(here, monkeypatch, ending):
    from halflife.lab.sweeping.signals import Terminated

    wait = InProcess.wait

    def interrupted(self, seconds):
        if len(measured) == 3:
            raise KeyboardInterrupt if ending == "Interrupted" else Terminated
        return wait(self, seconds)

    monkeypatch.setattr(InProcess, "wait", interrupted)
    _, said = study(*RUN, "--out", "else where", code=130)
    command = f"halflife study run {DESIGN.name} --out 'else where' --workers 0"
    assert (
        said.splitlines()[-1] == f"{ending}. What is measured is in else where; {command} goes on."
    )
    monkeypatch.undo()


def test_a_time_limit_says_what_goes_on(here, monkeypatch):
    monkeypatch.setattr(running.time, "monotonic", iter(map(float, range(10_000))).__next__)
    said, _ = study(*RUN, "--time-limit", "0.05")
    assert (
        "000/figure-1 has not ended: halflife study run 000/figure-1 --workers 0 goes on." in said
    )
    assert "Not run to its end" in said


def test_every_example_of_the_help_is_a_command_that_fits():
    for command in ("list", "show", "run", "report"):
        text = study(command, "--help")[0]
        examples = re.findall(r"^ +(halflife study .+?) *$", text, flags=re.M)
        assert len(examples) >= 2
        for example in examples:
            assert len(example) <= 70
            _, _, name, *words = example.split()
            assert name == command
            assert all(w.startswith(("-", "0", "all", "studies", "claims", "hours", "paper", "30"))
                       for w in words)  # fmt: skip
