"""The report's learning curves, axes and weight sizes."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from synthetic import STEPS, grid, landscape, meta, record

from halflife.lab.report import build
from halflife.lab.report.curves import learning_curves
from halflife.lab.report.scales import LinearAxis, LogAxis, axis_for, tick
from halflife.lab.report.weights import rms_points
from halflife.lab.statistics.analysis import analyse

RULES = ("l2", "decoupled", "independent")
SLOPES = {"l2": 0.0, "decoupled": 0.0, "independent": 1.0}
LRS, STRENGTHS = grid(1e-3, 1e-1, 3), grid(3e-5, 3e-1, 5)


@pytest.fixture(scope="module")
def plan():
    return meta(RULES, lrs=LRS, strengths=STRENGTHS)


@pytest.fixture(scope="module")
def records(plan):
    return landscape(plan, slopes=SLOPES, noise=0.15)


# --- curves -------------------------------------------------------------------------------------


def drawn_curves(plan, records, curve_of, **known):
    own = [{**r, "curve": curve_of(r)} for r in records]
    plan = replace(plan, **known)
    return learning_curves(analyse(own, plan), own, plan)


def test_curves_of_any_metric_with_gaps_where_it_is_not_finite(plan, records):
    def curve(r):
        gone = math.nan if r["seed"] == 0 and r["rule"] == "l2" else -2.0
        return {"step": [1, 2, 3, 4, 5], "reward": [-5.0, -3.0, gone, -1.0, 0.5]}

    curves = drawn_curves(plan, records, curve)
    (svg,) = curves.figures
    assert "log scale" not in svg
    assert curves.notes == ["reward is missing or not finite at times: l2."]
    assert svg.count('stroke-width="2"') == len(RULES) + 2  # one is in two pieces
    assert "NaN" not in svg
    assert "nan" not in svg.replace("nance", "")
    axis = axis_for([-5.0, 0.5], 302.0, 22.0)
    paths = re.findall(r'<path d="M([^"]*)" fill="none"[^>]*stroke-width="2"', svg)
    whole = max(paths, key=len)
    heights = [float(p.split()[1]) for p in whole.split("L")]
    assert heights == pytest.approx([axis(v) for v in (-5.0, -3.0, -2.0, -1.0, 0.5)], abs=0.06)


def test_curves_of_positive_values_far_apart_are_logarithmic(plan, records):
    curves = drawn_curves(plan, records, lambda r: {"step": [0, 1, 2], "a": [100.0, 10.0, 1.0]})
    assert "a, log scale" in curves.figures[0]


def test_curves_missing_in_some_seeds_or_all(plan, records):
    some = drawn_curves(
        plan, records, lambda r: {"step": [0, 1], "a": [1.0, 2.0]} if r["seed"] else None
    )
    assert len(some.figures) == 1
    assert drawn_curves(plan, records, lambda r: None) is None
    assert (
        drawn_curves(plan, records, lambda r: {"step": [1, 2], "a": [math.nan, math.inf]}) is None
    )
    assert drawn_curves(plan, records, lambda r: {"step": [1], "a": [1.0]}) is None


def test_the_reported_metric_comes_first_and_not_all_are_drawn(plan, records):
    many = {name: [1.0, 2.0] for name in ("test_error", "a", "b", "c", "d", "e")}
    curves = drawn_curves(plan, records, lambda r: {"step": [0, 1], **many})
    assert len(curves.figures) == 4
    assert ">test error (%)<" in curves.figures[0]
    assert curves.notes == ["Reported too, and not drawn: d and e."]


def test_what_curves_count_and_of_how_many_examples_they_are(plan, records):
    for known, text in (
        ({"curve_unit": "epoch"}, ">epoch<"),
        ({"curve_unit": "step"}, ">epoch<"),  # of a known number of steps
        ({"curve_unit": "step", "steps_per_epoch": None}, ">step<"),
        ({"curve_unit": "game"}, ">game<"),
        ({}, ">step, as reported<"),
    ):
        assert text in build(records, replace(plan, **known)).html
    known = {"curve_examples": 300, "test_examples": 1397}
    assert (
        "is of the first 300 of 1,397 test examples" in build(records, replace(plan, **known)).html
    )
    assert "test examples" not in build(records, plan).html


def test_long_curves_are_thinned(plan, records):
    long = list(range(5000))
    curves = drawn_curves(plan, records, lambda r: {"step": long, "a": [float(v) for v in long]})
    assert len(curves.figures[0]) < 60_000
    assert re.search(r"[L ]328\.0 ", curves.figures[0])  # the last place is among them


# --- axes and weights ---------------------------------------------------------------------------


def test_a_log_axis_is_logarithmic():
    axis = LogAxis(1e-3, 10.0, 0.0, 100.0)
    assert [axis(v) for v in (1e-3, 1e-1, 10.0)] == pytest.approx([0.0, 50.0, 100.0])
    assert axis.ticks() == pytest.approx([1e-3, 1e-2, 1e-1, 1.0, 10.0])


@pytest.mark.parametrize("high", [7.3, 7.9, 9.0, 20.0, 90.0, 1e4])
def test_a_log_axis_has_labels_however_short_it_is(high):
    labels = LogAxis(7.2, high, 0.0, 1.0).labels()
    assert 3 <= len(labels) <= 9
    assert all(7.2 <= value <= high for value in labels)


@pytest.mark.parametrize(
    ("low", "high"),
    [(-3.0, 1.0), (-1e308, 1e308), (0.0, 0.0), (5.0, 5.0), (-2e-300, 1e-300), (1e6, 1e6 + 1e-3)],
)
def test_an_axis_for_any_values(low, high):
    axis = axis_for([low, high], 100.0, 0.0)
    assert isinstance(axis, LinearAxis)
    assert 0.0 <= axis(high) <= axis(low) <= 100.0
    assert axis(low) - axis(high) == pytest.approx(100.0 / 1.08 if high > low else 0.0, abs=0.1)
    labels = axis.labels()
    assert 1 <= len(labels) <= 7
    apart = labels[1] - labels[0] if len(labels) > 1 else 0.0
    assert len({tick(v, apart) for v in labels}) == len(labels)


def test_weight_rms_settled_by_the_length_of_the_run(plan):
    fast = record("stable", 1e-2, 0.1, 1.0, 0, 5.0, fraction=1.6 / STEPS, predicted=0.1)
    slow = record("stable", 1e-2, 0.1, 2.0, 0, 5.0, fraction=1.4 / STEPS, predicted=0.1)
    l2 = record("l2", 1e-2, 0.1, 2.0, 0, 5.0)
    points = rms_points([fast, slow, l2], plan)
    assert [p.settled for p in points] == [True, False]
    assert [(p.predicted, p.measured) for p in points] == [(0.1, 0.12)] * 2


def test_what_is_logarithmic_is_labelled(plan, records):
    report = build(records, plan)
    for label in ("measured RMS (log scale)", "predicted RMS (log scale)", "lr (log)"):
        assert label in report.html
    assert "weight_decay (log)" in report.html
    uneven = replace(plan, lrs=[*plan.lrs[:-1], 3.0 * plan.lrs[-1]])
    moved = [{**r, "lr": 3.0 * r["lr"]} if r["lr"] == plan.lrs[-1] else r for r in records]
    assert ">lr (log)<" not in build(moved, uneven).html  # cells, but no scale
