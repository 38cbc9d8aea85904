"""Values of any size, what is rounding, and equality within a margin."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic import landscape, meta

from halflife.lab.meta import Meta
from halflife.lab.metric import Metric
from halflife.lab.statistics.analysis import analyse
from halflife.lab.statistics.confirmation import compare, floor, judged
from halflife.lab.statistics.intervals import deviation_of, equivalence, holm
from halflife.lab.statistics.selection import Noise, noise_between_seeds
from halflife.lab.statistics.surface import Setting

FRESH = list(range(10_000, 10_008))
SLOPES = {"decoupled": -0.1, "independent": 0.9}
LOSS = Metric("loss")


def plan(rules=("decoupled", "independent"), **more):
    return meta(rules, confirm_seeds=FRESH, default_decay=0.01, **more)


@pytest.fixture(scope="module")
def noisy():
    return landscape(plan(), slopes=SLOPES, noise=0.2)


# --- values of any size, and what is rounding ---------------------------------------------------


@pytest.mark.parametrize("power", [-1040, -600, 600, 1000])
def test_a_power_of_two_changes_no_digit_of_what_is_told(noisy, power):
    """Values whose squares a float cannot hold: everything is the same in the other unit."""
    scale = math.ldexp(1.0, power)
    own = replace(plan(), report=LOSS.as_dict())
    few = [r | {"metrics": {"loss": float(np.float32(r["metrics"]["test_error"]))}} for r in noisy]
    other = [r | {"metrics": {"loss": scale * r["metrics"]["loss"]}} for r in few]
    one, two = analyse(few, own), analyse(other, own)
    assert two.verdict == one.verdict == "helps"
    assert two.confirmed.gain == pytest.approx(scale * one.confirmed.gain, rel=1e-9)
    exact = power > -1000  # below it floats have fewer digits
    for a, b in zip(one.rules, two.rules, strict=True):
        assert b.best.key == a.best.key
        assert b.noise.total == pytest.approx(scale * a.noise.total, rel=0.0 if exact else 1e-6)
        assert (b.within.settings == a.within.settings).all()
        assert (b.ridge.slope == a.ridge.slope) or not exact
    if exact:
        assert two.confirmed.interval == tuple(scale * v for v in one.confirmed.interval)
        assert two.best.best.standard_error == scale * one.best.best.standard_error


@pytest.mark.parametrize("scale", [1e-310, 1e-170, 1e160, 1e300])
def test_a_deviation_of_any_size(scale):
    values = np.array([3.1, 2.7, 3.6, 2.9, 3.3])
    assert deviation_of(scale * values) == pytest.approx(scale * values.std(ddof=1), rel=1e-9)
    assert deviation_of(values) == pytest.approx(values.std(ddof=1), rel=1e-15)
    losses = np.add.outer(np.arange(4.0), values)
    expected = noise_between_seeds(losses)
    found = noise_between_seeds(scale * losses)
    assert found.total == pytest.approx(scale * expected.total, rel=1e-9)


@pytest.mark.parametrize("gap", [1e-3, 0.5])
def test_what_single_precision_rounds_is_no_noise(gap):
    """Equal runs whose metric was computed in float32, its last bits up or down by the seed."""
    ulp = float(np.finfo(np.float32).eps)
    own = plan(("decoupled",))
    records = [
        r | {"metrics": {"test_error": 1.0 + gap * (r["rule"] == "none") + ulp * (r["seed"] % 2)}}
        for r in landscape(own, slopes=SLOPES)
    ]
    result = analyse(records, own)
    assert result.best.noise == Noise(0.0, 0.0, result.best.noise.freedom)
    assert result.verdict == "no difference told"
    assert "all fresh seeds give the same, but for rounding" in result.sentence
    noise = noise_between_seeds(np.array([[1.0, 1.0 + 1e-5], [2.0, 2.0 - 1e-5]]))
    assert noise.total > 0.0  # which is above the rounding


# --- equality -----------------------------------------------------------------------------------


def test_equality_with_several_is_corrected_for_their_number():
    """Two one-sided tests each, then Holm: the definition, and how often one is wrongly equal."""
    rng = np.random.default_rng(1)
    own = Meta(report=LOSS.as_dict(), equivalence=1.0, confirm_seeds=range(10_000, 10_032))
    noise, wrong, count = Noise(1.0, 1.0, 50), 0, 300
    for _ in range(count):
        leader = judged(Setting("a", 0.1, 0.1), rng.normal(0.0, 1.0, 32), LOSS, None)
        others = [  # truly as far apart as the margin, so that equal is wrong
            (str(i), judged(Setting(str(i), 0.1, 0.1), rng.normal(1.0, 1.0, 32), LOSS, None))
            for i in range(7)
        ]
        found = compare(leader, others, own, noise)
        gains = [runs.values - leader.values for _, runs in others]
        least = floor(LOSS, [leader.values, leader.values], math.sqrt(2.0))
        p = holm([equivalence(g, 1.0, least) for g in gains])
        assert [c.equal for c in found] == [v <= 0.05 for v in p]
        wrong += any(c.equal for c in found)
    assert wrong / count <= 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / count)


@pytest.mark.parametrize("margin", [0.0, -0.5, math.nan, math.inf])
def test_a_margin_that_is_none_counts_as_not_stated(margin):
    """As a ledger may hold it from before such margins were refused."""
    assert Meta(equivalence=margin).margin is None
    assert Meta(equivalence=0.349).margin == 0.349


# --- shares of answers --------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["%", "percent", "Percent", " pct"])
def test_percent_is_percent_in_every_spelling(unit):
    one, other = Metric("e", "%", examples=250), Metric("e", unit, examples=250)
    runs = np.array([2.0, 3.0, 2.5])
    assert floor(other, [runs], 0.0) == floor(one, [runs], 0.0)
    assert other.unit_of_differences == "points"
    high = np.array([99.5, 99.9, 99.8])
    assert judged(Setting("none", 0.1, 0.0), high, other, None).interval[1] == 100.0


@pytest.mark.parametrize(("unit", "size"), [("", 7.0), ("%", 107.0), ("%", -3.0)])
def test_values_that_no_share_has_get_an_ordinary_interval(unit, size):
    """As a ledger may hold them from before such values were refused."""
    values = size + np.array([0.1, -0.1, 0.2, 0.0])
    share = Metric("e", unit, examples=500)
    told = judged(Setting("none", 0.1, 0.0), values, share, Noise(0.3, 0.3, 9))
    plain = judged(Setting("none", 0.1, 0.0), values, Metric("e", unit), Noise(0.3, 0.3, 9))
    assert told.interval == plain.interval
    assert told.interval[0] < values.mean() < told.interval[1]
