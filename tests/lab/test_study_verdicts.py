"""What values say of a claim: on values that hold, that fail, and that tell nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from studies_made import claim, normal

from halflife.lab.studies.verdict import LEVEL, among_all, judged

NAN = math.nan


@pytest.mark.parametrize(
    ("kind", "mean", "deviation", "outcome"),
    [
        ("above", 1.0, 0.3, "replicates"),
        ("above", 0.0, 0.3, "contradicts"),
        ("above", -1.0, 0.3, "contradicts"),  # an effect the other way
        ("above", 0.2, 0.1, "contradicts"),  # there, and too small
        ("above", 0.45, 0.3, "undecided"),  # told from 0, and not from the smallest
        ("above", 0.5, 3.0, "undecided"),
        ("below", -1.0, 0.3, "replicates"),
        ("below", 0.0, 0.3, "contradicts"),
        ("below", 1.0, 0.3, "contradicts"),
        ("below", -0.5, 3.0, "undecided"),
        ("equivalent", 0.0, 0.3, "replicates"),
        ("equivalent", -0.2, 0.1, "replicates"),
        ("equivalent", 1.0, 0.3, "contradicts"),
        ("equivalent", -1.0, 0.3, "contradicts"),
        ("equivalent", 0.0, 3.0, "undecided"),  # "no difference found" shows nothing
    ],
)
def test_every_outcome_of_a_test(kind, mean, deviation, outcome):
    verdict = judged(claim(kind=kind), normal(mean, deviation))
    assert verdict.outcome == outcome
    assert verdict.mean == pytest.approx(mean)
    assert bool(verdict.reason) == (outcome == "undecided" or mean in (0.2,))
    low, high = stats.t.interval(0.95, 11, mean, deviation / math.sqrt(12))
    assert verdict.interval == pytest.approx((low, high))


def test_p_values_are_students():
    above = judged(claim(), values := normal(0.3, 0.6))
    test = stats.ttest_1samp
    assert above.p_replicates == pytest.approx(test(values, 0.0, alternative="greater").pvalue)
    assert above.p_contradicts == pytest.approx(test(values, 0.5, alternative="less").pvalue)
    below = judged(claim(kind="below"), [-v for v in values])
    assert below.p_replicates == pytest.approx(above.p_replicates)
    assert below.p_contradicts == pytest.approx(above.p_contradicts)
    equal = judged(claim(kind="equivalent"), values)
    assert equal.p_replicates == pytest.approx(test(values, 0.5, alternative="less").pvalue)
    assert equal.p_contradicts == pytest.approx(test(values, 0.5, alternative="greater").pvalue)


@pytest.mark.parametrize(
    ("values", "effect", "outcome"),
    [
        ([1e-13, -1e-12], 1e-12, "replicates"),
        ([0.0, 0.0], 0.0, "replicates"),
        ([1e-13, -2e-12], 1e-12, "contradicts"),
        ([1e-13, NAN], 1e-12, "contradicts"),
        ([math.inf], 1e-12, "contradicts"),
        ([], 1e-12, "undecided"),
    ],
)
def test_exact_statements_have_a_worst_case_and_no_test(values, effect, outcome):
    verdict = judged(claim(kind="exact", effect=effect), values)
    assert verdict.outcome == outcome
    assert verdict.p_replicates is verdict.interval is verdict.power is None
    if outcome != "undecided" and np.isfinite(values).all():
        assert verdict.mean == max(values, key=abs)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "nothing was measured"),
        ([1.0, 1.1], "2 values, and a verdict needs 3"),
        ([1.0, NAN, 1.1, math.inf], "2 of 4 values are no numbers"),
    ],
)
def test_what_cannot_be_tested_is_undecided_and_says_why(values, why):
    for kind in ("above", "below", "equivalent"):
        verdict = judged(claim(kind=kind), values)
        assert (verdict.outcome, verdict.reason) == ("undecided", why)
        assert verdict.p_replicates is None


def test_equal_values_tell_what_they_are_and_a_floor_says_how_far_to_trust_them():
    assert judged(claim(), [1.0] * 4).outcome == "replicates"
    assert judged(claim(), [0.0] * 4).outcome == "contradicts"
    assert judged(claim(kind="equivalent"), [0.0] * 4).outcome == "replicates"
    unsure = judged(claim(floor=3.0), [1.0] * 4)
    assert unsure.outcome == "undecided"
    assert unsure.interval == pytest.approx(stats.t.interval(0.95, 3, 1.0, 3.0 / 2.0))
    assert judged(claim(floor=0.1), [1.0] * 4).outcome == "replicates"


# --- all claims together --------------------------------------------------------------------------


def test_holm_is_over_every_registered_primary_from_its_definition():
    """The k-th smallest of m p-values counts m - k + 1 times, and no less than the one before."""
    values = {"a": normal(0.45, 0.5), "b": normal(0.6, 0.9), "c": normal(0.7, 0.9)}
    claims = {name: claim(name) for name in (*values, "not run", "nor this")}
    claims |= {"exact": claim("exact", "exact"), "told": claim("told", exploratory=True)}
    alone = {name: judged(claims[name], own) for name, own in values.items()}
    alone |= {"exact": judged(claims["exact"], [0.0]), "told": judged(claims["told"], values["b"])}
    found = among_all(claims, alone)
    assert set(found) == set(alone)
    for which in ("p_replicates", "p_contradicts"):
        raw = sorted((getattr(alone[name], which), name) for name in values)
        least = 0.0
        for rank, (p, name) in enumerate(raw):
            least = max(least, min((5 - rank) * p, 1.0))
            assert getattr(found[name], which) == pytest.approx(least)
    assert found["exact"] == alone["exact"]
    assert found["told"] == alone["told"]


def test_a_verdict_that_stands_alone_may_fall_among_many():
    alone = {"a": judged(claim(), normal(1.0, 1.5, seed=4))}
    assert alone["a"].outcome == "replicates"
    assert 0.0025 < alone["a"].p_replicates < LEVEL
    some = among_all({"a": claim()}, alone)
    many = among_all({"a": claim(), **{f"{i}": claim() for i in range(20)}}, alone)
    assert some["a"].outcome == "replicates"
    assert many["a"].outcome == "undecided"
    assert many["a"].reason == "neither is told"
    assert 0.0 < many["a"].power < some["a"].power < 1.0  # that of one test of so many
    assert many["a"].needed > some["a"].needed
    exploring = {"a": claim(exploratory=True), **{f"{i}": claim() for i in range(20)}}
    assert among_all(exploring, alone)["a"].outcome == "replicates"


# --- power ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "truth"), [("above", 0.5), ("below", -0.5), ("equivalent", 0.0)])
def test_power_is_how_often_the_effect_is_told(kind, truth):
    stated = judged(claim(kind=kind), normal(0.3, 0.6, count=10)).power
    drawn = np.random.default_rng(0).normal(truth, 0.6, (4000, 10))

    def p(of, side):
        return stats.ttest_1samp(drawn, of, axis=1, alternative=side).pvalue

    told = {
        "above": p(0.0, "greater") <= LEVEL,
        "below": p(0.0, "less") <= LEVEL,
        "equivalent": (p(-0.5, "greater") <= LEVEL) & (p(0.5, "less") <= LEVEL),
    }[kind]
    assert told.mean() == pytest.approx(stated, abs=0.025)  # three standard errors of 4000


def test_the_seeds_that_are_needed_have_a_power_of_80_percent_and_one_fewer_less():
    own = claim()
    verdict = judged(own, normal(0.3, 0.6, count=6))
    assert verdict.power < 0.8
    needed = verdict.needed
    assert judged(own, normal(0.3, 0.6, count=needed)).power >= 0.8
    assert judged(own, normal(0.3, 0.6, count=needed - 1)).power < 0.8
    assert judged(replace(own, effect=0.0), normal(0.3, 0.6)).power is None
    assert judged(replace(own, effect=1e-3), normal(0.3, 0.6)).needed is None  # more than 1,024
