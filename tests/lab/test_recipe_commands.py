"""What ``halflife train`` and ``halflife recipes`` say of runs, and of how they end."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, replace

import pytest
from recipe_runs import tiny
from typer.testing import CliRunner

from halflife.cli import app
from halflife.cli.terminal import console
from halflife.lab.recipes import RECIPES, recipe
from halflife.lab.recipes.building import changed, small
from halflife.lab.recipes.folder import RunFolder
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.runs import departures, runs_of

NAME = "004/resnet20-nobn-cifar10/adamw"
TINY = [
    *("train", NAME, "--accelerator", "cpu", "--data", "digits", "--epochs", "1"),
    *("--batch-size", "512"),
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 200)  # that of whoever used it first in this process
    return tmp_path


def run(*words, code=0):
    ended = CliRunner().invoke(app, [*words], env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout + ended.stderr)


# --- how a recipe differs from what was published ------------------------------------------------


@pytest.mark.parametrize("each", RECIPES.values(), ids=RECIPES)
def test_a_published_recipe_differs_in_nothing_and_a_small_one_does(each):
    assert departures(each) == []
    told = ", ".join(departures(small(each)))
    assert f"epochs 1 instead of {each.epochs}" in told
    assert "schedule" not in told  # it is the same, in one epoch
    assert departures(tiny(each))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"data": "cifar100"}, "data cifar100 instead of cifar10"),
        ({"lr": 0.5}, "lr 0.5 instead of 0.001"),
        ({"augment": ""}, "augment none instead of crop-flip"),
        ({"clip": 1.0}, "clip 1.0 instead of none"),
        ({"schedule": "cosine"}, "schedule cosine instead of multistep:80,160"),
        ({"settings": {"betas": (0.9, 0.98)}}, "optimizer with betas=[0.9, 0.98]"),
        ({"model_settings": {"width": 32}}, "resnet18 with width=32"),
    ],
    ids=str,
)
def test_each_change_is_told(fields, told):
    assert departures(replace(recipe("000/resnet18-cifar10/adams"), **fields)) == [told]


def test_what_options_change_is_told_and_how_it_is_computed_is_not():
    chosen = recipe("000/resnet18-cifar10/adams")
    options = Options(model={"width": 8}, validation=0.1, devices=4, precision="bf16-mixed", seed=3)
    assert departures(chosen, options) == [
        "resnet18 with width=8",
        "validation 0.1 held out of the training set",
    ]
    assert departures(replace(chosen, name="own/mine/adams", lr=0.5)) == []  # there is no other


def test_settings_that_are_left_out_are_told():
    published = next(each for each in RECIPES.values() if each.model_settings)
    told = departures(replace(published, model_settings={}))
    assert told == [f"{published.model} with {n} as by default" for n in published.model_settings]


# --- what halflife recipes says ------------------------------------------------------------------


def kept(folder, recipe, result=None, step=7):
    """A run's folder, as if it had been trained."""
    options = {**Options(seed=5).binding(), "device": "cpu"}
    run = {"recipe": asdict(recipe), "options": options}
    place = RunFolder(folder)
    place.begin({**run, "steps": 90, "machine": {"device": "cpu: mine"}})
    place.open(f"checkpoint-{step:09d}").mkdir()
    place.close(f"checkpoint-{step:09d}")
    place.keep(f"checkpoint-{step:09d}")
    if result is not None:
        place.finish(result)


RESULT = {"step": 90, "test_error": 5.125, "test_loss": 0.25, "seconds": 61.2}


@pytest.mark.parametrize(
    ("make", "result", "word"),
    [
        (lambda each: each, RESULT, "yes"),
        (lambda each: each, None, "begun"),
        (lambda each: replace(each, lr=0.5), RESULT, "changed"),
        (small, RESULT, "changed"),
        (small, None, "changed"),
    ],
    ids=["as published", "cut", "another lr", "small", "small and cut"],
)
def test_the_list_never_takes_a_changed_run_for_the_papers(make, result, word, here):
    assert "None has been run here (in runs)" in run("recipes", "004/resnet20-nobn")
    kept(here / "runs" / "a", make(recipe(NAME)), result)
    listed = run("recipes", "004/resnet20-nobn")
    rows = {words[0]: words[-1] for line in listed.splitlines() if (words := line.split())}
    assert NAME in rows, repr(listed)
    assert rows[NAME] == word
    assert rows[NAME.replace("adamw", "adam-l2")] == "-"
    (found,) = runs_of("runs")[NAME]
    assert found.as_published == (word == "yes")


def test_one_recipe_tells_all_of_its_runs(here):
    kept(here / "elsewhere" / "a", recipe(NAME), RESULT)
    kept(here / "elsewhere" / "b", changed(recipe(NAME), data="digits"))
    assert re.search(r"run here +not in runs", run("recipes", NAME))
    told = run("recipes", NAME, "--runs", "elsewhere")
    whole, _, cut = told.partition("Run in elsewhere/b")
    rows = {"recipe": "as published", "options": "seed 5", "device": "cpu: mine"}
    for name, value in {**rows, "steps": "90 of 90"}.items():
        assert re.search(rf"^{name} +{value}$", whole, re.M), name
    assert re.search(r"test error +5\.1[23] %, loss 0\.25\nseconds +61\n", whole)
    assert re.search(r"recipe +changed: data digits instead of cifar10\n", cut)
    assert re.search(r"steps +7 of 90\n", cut)
    assert "halflife train --resume goes on" in cut
    data = json.loads(run("recipes", NAME, "--runs", "elsewhere", "--json"))
    assert [each["folder"] for each in data["runs"]] == ["elsewhere/a", "elsewhere/b"]
    assert [each["changed"] for each in data["runs"]] == [[], ["data digits instead of cifar10"]]
    assert [each["result"] for each in data["runs"]] == [RESULT, None]


def test_what_is_no_run_of_a_recipe_is_passed_over(here):
    kept(here / "runs" / "mine", replace(recipe(NAME), name="own/mine/adamw"), RESULT)
    for number, text in enumerate(("[]", '{"recipe": 1}', "null", '{"recipe": {}, "options": 1}')):
        (here / "runs" / str(number)).mkdir()
        (here / "runs" / str(number) / "run.json").write_text(text)
    assert runs_of("runs") == {}


# --- what halflife train says ---------------------------------------------------------------------


def test_a_run_says_what_is_changed_and_its_json_too():
    pytest.importorskip("lightning.fabric")
    told = run(*TINY, "--until", "1")
    assert "Not as published: data digits instead of cifar10, epochs 1 instead of 300" in told
    assert f"In runs/{NAME}; --resume goes on with it." in told
    assert re.search(r"steps +1 of 2\n", run("recipes", NAME))
    ended = CliRunner().invoke(app, [*TINY, "--resume", "--json"])
    data = json.loads(ended.stdout)
    assert {"folder", "changed", "step", "test_loss", "test_error", "seconds"} <= set(data)
    assert data["changed"][0] == "data digits instead of cifar10"
    assert data["step"] == 2


def test_a_run_that_cannot_begin_or_go_on_is_one_line():
    pytest.importorskip("lightning.fabric")
    run(*TINY, "--until", "1")
    error = run(*TINY, code=2)
    assert error.startswith(f"Error: --out runs/{NAME}: holds a run already; go on with it by ")
    assert error.count("\n") == 1
    error = run(*TINY, "--resume", "--lr", "0.5", code=2)
    assert error.startswith("Error: --lr 0.5: the run in ")
    assert "was begun with --lr 0.001" in error
    error = run(*TINY, "--lr", "1e30", "--algorithm", "sgd_l2", "--out", "worse", code=2)
    assert re.search(r"^Error: loss: is no number any more from step \d on, at --lr", error, re.M)
    assert "Traceback" not in error


def test_without_lightning_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    error = run(*TINY, code=2)
    assert error.startswith("Error: a recipe is trained through Lightning's Fabric (")
    assert error.endswith("pip install torch-halflife[lightning]\n")


@pytest.mark.parametrize("step", [1, 2])
def test_ctrl_c_says_from_which_step_it_goes_on(step, monkeypatch):
    pytest.importorskip("lightning.fabric")
    from halflife.lab.sweeping.display import Bar

    def interrupted(self, done, total, what):
        if done == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "progress", interrupted)
    told = run(*TINY, "--checkpoint-every", "2", code=130)
    words = {
        1: f"Interrupted. There is no checkpoint in runs/{NAME} yet: --resume begins at step 0.",
        2: f"Interrupted. --resume goes on from step 2 in runs/{NAME}.",
    }
    assert told.splitlines()[-1] == words[step]


def test_memory_that_is_not_known_is_left_out(monkeypatch):
    monkeypatch.setattr("halflife.lab.recipes.running.peak_mib", lambda device: None)
    told = run(*TINY)
    assert "test_error" in told
    assert "peak_mib" not in told
