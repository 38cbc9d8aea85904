"""The verdicts hold in sweeps whose truth is known, and the page says what was simulated.

The bounds are those of a correct method at three standard errors of a proportion; the full
simulation is ``python scripts/lab_simulation.py``.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import lab_simulation
import lab_statistics_page
from lab_simulation import Sweep, repetitions

COUNT = 150


def above(p, count=COUNT):
    """What a share of so many seldom exceeds if its probability is p."""
    return p + 3.0 * math.sqrt(p * (1.0 - p) / count)


def means(sweep):
    rows = repetitions(sweep, COUNT, 7)
    return {key: sum(row[key] for row in rows) / COUNT for key in rows[0]}


@pytest.mark.parametrize("noise", ["normal", "heavy", "uneven", "binomial"])
def test_intervals_cover_and_the_headline_is_not_biased(noise):
    found = means(Sweep(2, size=7, noise=noise))
    one = 0.1 if noise == "binomial" else 1.0  # standard deviation of a fresh mean, at most
    for name in ("value covered", "gain covered"):
        assert 1.0 - found[name] <= above(0.05)
    assert abs(found["bias"]) < 3.0 * one / math.sqrt(8 * COUNT)
    assert found["bias of lowest"] < -0.15  # what fresh seeds are for
    assert 1.0 - found["best within noise"] <= above(0.05)


@pytest.mark.parametrize("rules", [1, 4])
def test_where_nothing_helps_little_is_said_to(rules):
    found = means(Sweep(rules, size=5, gain=0.0))
    assert found["helps"] <= above(0.025)
    assert found["hurts"] <= above(0.025)
    assert found["rules told wrongly"] <= above(0.025)


def test_a_gain_of_1_6_noises_is_mostly_seen():
    found = means(Sweep(1, size=9, seeds=5))
    assert found["helps"] >= 0.7 - 3.0 * math.sqrt(0.7 * 0.3 / COUNT)
    assert found["lost"] < found["lost by lowest"]


def test_the_page_says_what_was_simulated():
    results = json.loads(lab_statistics_page.RESULTS.read_text(encoding="utf-8"))
    written = lab_statistics_page.PAGE.read_text(encoding="utf-8")
    assert written == lab_statistics_page.page(results)
    planned = {table: len(rows) for table, rows in lab_simulation.sweeps().items()}
    assert {table: len(results[table]) for table in planned} == planned


def test_what_was_simulated_is_what_is_promised():
    """Coverage of 0.95, no bias, few false verdicts and the power that eight fresh seeds have."""
    results = json.loads(lab_statistics_page.RESULTS.read_text(encoding="utf-8"))
    for row in [*results["verdicts"], *results["noise"], *results["fresh"]]:
        count = row["repetitions"]
        error = 3.0 * math.sqrt(0.05 * 0.95 / count)
        for name in ("value covered", "gain covered"):
            assert row[name] >= 0.95 - max(error, 0.02), row
        if row["noise"] in ("normal", "uneven", "shared"):
            assert row["value covered"] <= 0.95 + max(error, 0.02), row
        assert abs(row["bias"]) < 0.05, row
        if row["gain"] == 0.0:
            assert max(row["helps"], row["hurts"]) <= above(0.025, count), row
            assert row["rules told wrongly"] <= above(0.025, count), row
    for row in results["verdicts"]:
        assert row["gain"] == 0.0 or row["helps"] >= 0.7 - 3.0 * math.sqrt(
            0.21 / row["repetitions"]
        ), row
