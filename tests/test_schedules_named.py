"""Schedules by name are the curves that they name, wherever a name is taken."""

from __future__ import annotations

import math
import re

import pytest

from halflife.lab.tasks import Training, find_task
from halflife.schedules import schedule_named
from halflife.schedules.named import stretched
from halflife.units.convert import multipliers_of

STEPS, EPOCH = 1000, 10
HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("constant", {0: 1.0, 999: 1.0}),
        ("cosine", {0: 1.0, 250: 0.5 + 0.5 * HALF, 500: 0.5, 1000: 0.0}),
        (" Cosine ", {500: 0.5}),
        ("linear", {0: 1.0, 250: 0.75, 1000: 0.0}),
        ("wsd", {0: 1.0, 799: 1.0, 800: 1.0, 900: 0.5, 1000: 0.0, 1200: 0.0}),
        ("warmup-cosine", {50: 0.5, 100: 1.0, 550: 0.5, 1000: 0.0}),
        ("warmup-cosine:20", {100: 0.5, 200: 1.0, 600: 0.5}),
        ("warmup-cosine:0.4", {200: 0.5, 400: 1.0, 700: 0.5}),
        ("multistep:40,80", {0: 1.0, 399: 1.0, 400: 0.1, 799: 0.1, 800: 0.01}),
        ("multistep:0.4,0.8", {399: 1.0, 400: 0.1, 800: 0.01}),
        ("multistep:40*0.2", {399: 1.0, 400: 0.2, 999: 0.2}),
        ("step:30", {299: 1.0, 300: 0.1, 600: 0.01, 900: 0.001}),
        ("step:30*0.5", {300: 0.5, 600: 0.25}),
        ("restarts:10*2", {0: 1.0, 50: 0.5, 100: 1.0, 200: 0.5, 300: 1.0, 500: 0.5}),
        ("restarts:0.1*2", {0: 1.0, 50: 0.5, 100: 1.0, 200: 0.5, 300: 1.0, 500: 0.5}),
        ("restarts:10", {50: 0.5, 100: 1.0, 150: 0.5, 200: 1.0}),
    ],
)
def test_a_name_is_its_curve(text, points):
    curve = schedule_named(text, STEPS, EPOCH)
    assert {step: pytest.approx(curve(step), abs=1e-12) for step in points} == points


@pytest.mark.parametrize(
    ("text", "known", "message"),
    [
        (
            "cosin",
            {},
            "schedule='cosin': must be one of constant, cosine, .*; did you mean 'cosine'",
        ),
        ("", {}, "schedule='': must be one of constant"),
        ("cosine:5", {}, "schedule='cosine:5': must be written as cosine."),
        ("multistep", {}, "schedule='multistep': must be written as multistep:80,160."),
        ("multistep:a", {}, "schedule='multistep:a': must be written as multistep:80,160."),
        ("multistep:80,40", {}, "schedule='multistep:80,40': .*increasing"),
        ("multistep:-1", {}, "must be written as multistep:80,160."),
        ("step:0", {}, "schedule='step:0': 0 is no number of epochs"),
        ("restarts:0", {}, "schedule='restarts:0': .*T_0"),
        ("restarts:1.5", {}, "must be written as restarts:10*2."),
        ("step:30", {"steps_per_epoch": None}, "the length of an epoch is not known here"),
        ("cosine", {"steps": None}, "steps must be an integer >= 1, got None"),
        ("cosine", {"steps": 0}, "steps must be an integer >= 1, got 0"),
    ],
)
def test_what_is_no_schedule_is_refused_by_name(text, known, message):
    with pytest.raises(ValueError, match=message.replace("*2", r"\*2")) as caught:
        schedule_named(text, **{"steps": STEPS, "steps_per_epoch": EPOCH, **known})
    assert re.match(r"(schedule=|steps must)", str(caught.value))


@pytest.mark.parametrize(
    "text",
    ["cosine", "multistep:80,160", "multistep:0.5,160*0.2", "step:50", "restarts:25*2",
     "restarts:200", "warmup-cosine:5", "warmup-cosine"],
)  # fmt: skip
def test_a_schedule_of_a_shorter_run_is_the_same_of_its_shares(text):
    """200 epochs of 30 steps, and 3 epochs of 2,000: as many steps, and so the same curve."""
    whole = schedule_named(text, 6000, 30)
    short = schedule_named(stretched(text, 200, 3), 6000, 2000)
    assert [short(step) for step in range(6000)] == pytest.approx([whole(s) for s in range(6000)])


def test_stretched_cycles_end_where_the_run_does():
    """1 + 2 + 4 + 8 cycles of 14 of 210 epochs; in 105 of 390 steps each is half as long."""
    curve = schedule_named(stretched("restarts:14*2", 210, 105), 105 * 390, 390)
    assert curve.snapshot_epochs(105 * 390) == [2730, 8190, 19110, 40950]


def test_restarts_do_not_begin_again_in_the_last_step():
    """1 + 2 + 4 + 8 cycles of a fifteenth: of 421 steps, a last cycle that is cut."""
    curve = schedule_named(stretched("restarts:14*2", 210, 1), 421, 421)
    assert curve.cycle(420).number == 3
    assert curve(420) < 0.02


def test_a_name_means_the_same_in_a_conversion_and_in_a_task():
    found = multipliers_of("multistep:0.5,0.75", 8)
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    training = Training(find_task("digits"), "adamw", 4, 50, "multistep:2,3*0.5")
    assert [training.curve(8 * epoch) for epoch in range(4)] == pytest.approx([1, 1, 0.5, 0.25])
    with pytest.raises(
        ValueError, match=r"schedule='steps:2': must be one of .*did you mean 'step'"
    ):
        Training(find_task("digits"), "adamw", 4, 50, "steps:2")
