"""The statistics of a sweep, from their definitions: worked examples, scipy, what was put in."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from synthetic import grid, landscape, meta, record

from halflife.lab.meta import Meta
from halflife.lab.metric import Metric
from halflife.lab.statistics.analysis import analyse
from halflife.lab.statistics.closeness import dunnett, worth_extending
from halflife.lab.statistics.confirmation import Fresh, compare, floor, judged
from halflife.lab.statistics.intervals import equivalence, holm, student
from halflife.lab.statistics.selection import (
    Noise,
    finalists,
    noise_between_seeds,
    smoothed,
    surface,
)
from halflife.lab.statistics.surface import Setting

FRESH = tuple(range(10_000, 10_008))
SLOPES = {"decoupled": -0.1, "independent": 0.9}
LOSS = Metric("loss")


def plan(rules=("decoupled", "independent"), **more):
    return meta(rules, confirm_seeds=list(FRESH), default_decay=0.01, **more)


@pytest.fixture(scope="module")
def noisy():
    return landscape(plan(), slopes=SLOPES, noise=0.2)


def runs_of(records, setting, seeds):
    """Values of a setting's runs, by the records alone."""
    own = {
        r["seed"]: r["metrics"]["test_error"]
        for r in records
        if (r["rule"], r["lr"], r["weight_decay"])
        == (setting.rule, setting.lr, setting.weight_decay)
    }
    return np.array([own[s] for s in seeds])


# --- intervals, corrections, floors -------------------------------------------------------------


def test_holm_by_hand():
    """Holm (1979): the k-th of m p-values counts m - k + 1 times, and never less than the last."""
    assert holm([0.01, 0.005, 0.04, 0.03]) == pytest.approx([0.03, 0.02, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_intervals_are_students():
    values = np.array([3.1, 2.7, 3.6, 2.9, 3.3])
    reference = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert student(values, 0.0) == pytest.approx((reference.low, reference.high))
    low, high = student(values, 10.0)  # a floor that is higher than the deviation
    half = stats.t.ppf(0.975, 4) * 10.0 / math.sqrt(5)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))


@pytest.mark.parametrize("values", [[0.3], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0], [1e30, 1e30]])
def test_without_noise_there_is_no_interval(values):
    assert student(np.array(values), 0.0) is None
    assert equivalence(np.array(values), 1.0, 0.0) is None


@pytest.mark.parametrize("mean", [-0.8, 0.0, 0.3])
def test_equivalence_is_two_one_sided_tests(mean):
    values = mean + np.array([0.2, -0.1, 0.3, -0.4, 0.05])
    above = stats.ttest_1samp(values + 1.0, 0.0, alternative="greater").pvalue
    below = stats.ttest_1samp(values - 1.0, 0.0, alternative="less").pvalue
    assert equivalence(values, 1.0, 0.0) == pytest.approx(max(above, below))


def test_floor_is_the_least_likely_deviation_of_the_pooled_noise():
    runs = np.array([1.0, 1.0, 1.0, 1.0])
    q = math.sqrt(stats.chi2.ppf(0.025, 3) / 3)
    assert floor(LOSS, [runs], 2.0) == pytest.approx(2.0 * q)
    assert floor(LOSS, [runs[:1]], 2.0) == 0.0


def test_floor_of_a_share_of_answers_is_binomial():
    """No wrong answer in 4 x 250: two are added, as by Agresti and Coull."""
    percent, share = (Metric("e", unit, examples=250) for unit in ("%", ""))
    none = np.zeros(4)
    assert floor(share, [none], 0.0) == pytest.approx(math.sqrt(2.0 / 1000.0 / 250.0))
    assert floor(percent, [none], 0.0) == pytest.approx(100.0 * floor(share, [none], 0.0))
    q2 = stats.chi2.ppf(0.025, 3) / 3
    half = (q2 * 0.25 + 2.0 / 1000.0) / 250.0
    assert floor(share, [np.full(4, 0.5)], 0.0) == pytest.approx(math.sqrt(half))
    pair = floor(share, [none, np.full(4, 0.5)], 0.0)
    assert pair == pytest.approx(math.sqrt(half + 2.0 / 1000.0 / 250.0))
    told = judged(Setting("none", 0.1, 0.0), none, share, None)
    assert told.interval[0] == 0.0  # no share is below 0
    assert told.interval[1] > 0.0


@pytest.mark.parametrize(
    ("others", "quantile"), [(1, 1.645), (2, 1.92), (3, 2.06), (5, 2.23), (9, 2.42)]
)
def test_dunnetts_published_one_sided_quantiles(others, quantile):
    """Dunnett (1955), table 1a, 95 %, infinitely many degrees of freedom."""
    assert dunnett(others, 10_000_000) == pytest.approx(quantile, abs=0.006)


@pytest.mark.parametrize("freedom", [1, 3, 12])
def test_dunnetts_quantile_of_one_comparison_is_students(freedom):
    assert dunnett(1, freedom) == pytest.approx(stats.t.ppf(0.95, freedom), rel=0.01)


def fresh_runs(rule, values):
    return judged(Setting(rule, 0.1, 0.1), np.array(values), LOSS, None)


def test_comparisons_are_paired_and_their_intervals_follow_holm():
    rng = np.random.default_rng(3)
    shift = 5.0 * rng.standard_normal(8)  # a seed's own, that pairing takes out
    at = {"a": 0.0, "b": 3.0, "c": 1.2, "d": 0.9, "e": 0.1}
    runs = {k: fresh_runs(k, v + shift + rng.standard_normal(8)) for k, v in at.items()}
    own = Meta(report=LOSS.as_dict(), confirm_seeds=FRESH)
    found = compare(runs["a"], [(k, runs[k]) for k in "bcde"], own, None)
    p = [stats.ttest_rel(runs[k].values, runs["a"].values).pvalue for k in "bcde"]
    assert [c.p for c in found] == pytest.approx(p)
    assert [c.corrected for c in found] == pytest.approx(holm(p))
    for c in found:
        assert c.clear == (c.corrected <= 0.05)
        assert c.gain == pytest.approx((runs[c.other].values - runs["a"].values).mean())
    assert {c.clear for c in found} == {True, False}
    (alone,) = compare(runs["a"], [("c", runs["c"])], own, None)
    reference = stats.ttest_rel(runs["c"].values, runs["a"].values).confidence_interval(0.95)
    assert alone.interval == pytest.approx((reference.low, reference.high))
    assert alone.corrected == alone.p


@pytest.mark.parametrize("noise", [None, Noise(2.0, 0.0, 50), Noise(2.0, 1e-3, 50)])
@pytest.mark.parametrize(("gain", "clear"), [(0.0, False), (0.1, False), (50.0, True)])
def test_a_difference_that_is_the_same_on_all_seeds_is_judged_by_their_noise(noise, gain, clear):
    """Where a seed shifts both alike: a large difference is told, one below the noise is not."""
    values = np.arange(8.0)
    own = Meta(report=LOSS.as_dict(), confirm_seeds=FRESH)
    leader, other = fresh_runs("a", values), fresh_runs("b", values + gain)
    (found,) = compare(leader, [("b", other)], own, noise)
    assert found.gain == pytest.approx(gain)
    assert (found.clear, found.worse) == (clear, False)
    deviation = values.std(ddof=1)  # above the 2.0 that the selection seeds have
    least = math.sqrt(stats.chi2.ppf(0.025, 7) / 7 * 2.0) * deviation
    half = stats.t.ppf(0.975, 7) * least / math.sqrt(8)
    assert found.interval == pytest.approx((gain - half, gain + half))
    (turned,) = compare(other, [("a", leader)], own, noise)
    assert turned.worse == clear


def test_ties_have_an_interval_only_if_something_bounds_the_noise():
    tie = fresh_runs("a", np.full(8, 3.0)), fresh_runs("b", np.full(8, 3.0))
    own = Meta(report=LOSS.as_dict(), confirm_seeds=FRESH)
    (bare,) = compare(tie[0], [("b", tie[1])], own, None)
    assert (bare.gain, bare.interval, bare.clear, bare.equal) == (0.0, None, False, None)
    (known,) = compare(tie[0], [("b", tie[1])], own, Noise(1.0, 1.0, 50))
    assert known.interval[0] < 0.0 < known.interval[1]
    assert known.equal
    apart = fresh_runs("a", np.full(8, 3.0)), fresh_runs("b", np.full(8, 3.1))
    assert compare(apart[0], [("b", apart[1])], own, None)[0].interval is None


# --- choosing -----------------------------------------------------------------------------------


def test_noise_is_the_pooled_deviation_and_leaves_out_what_seeds_share():
    rng = np.random.default_rng(0)
    shared = 3.0 * rng.standard_normal(5)
    losses = shared + 0.7 * rng.standard_normal((400, 5))
    noise = noise_between_seeds(losses)
    assert noise.residual == pytest.approx(0.7, rel=0.03)
    assert noise.freedom == 400 * 4 - 4
    assert noise.total == pytest.approx(math.sqrt(losses.var(axis=-1, ddof=1).mean()))
    assert noise_between_seeds(losses[:, :1]) is None


def test_smoothing_leaves_exact_means_alone_and_needs_a_noise():
    mean = np.add.outer(np.arange(5.0) ** 2, np.arange(7.0))
    valid = np.ones(mean.shape, dtype=bool)
    for variance in (None, 0.0, 1e-12):
        assert (smoothed(mean, valid, variance) == mean).all()
    valid[0, 0] = False
    assert smoothed(mean, valid, 1.0)[0, 0] == math.inf
    assert np.isfinite(smoothed(mean, valid, 1.0)[valid]).all()


def test_smoothing_finds_the_bottom_of_a_noisy_valley_more_often_than_the_lowest_mean():
    rng = np.random.default_rng(1)
    true = 0.05 * np.add.outer(np.arange(-6.0, 7.0) ** 2, np.arange(-4.0, 9.0) ** 2)
    lost = {"lowest": 0.0, "smoothed": 0.0}
    for _ in range(100):
        mean = true + 0.6 * rng.standard_normal(true.shape)
        lost["lowest"] += true.flat[mean.argmin()]
        lost["smoothed"] += true.flat[smoothed(mean, mean < np.inf, 0.36).argmin()]
    assert lost["smoothed"] < 0.5 * lost["lowest"]


def test_finalists_are_each_rules_best_no_decay_and_torchs_default(noisy):
    own = plan()
    found = finalists(noisy, own)
    assert [f.role for f in found] == ["rule", "rule", "none", "default"]
    assert [f.setting.rule for f in found] == [*own.rules, "none", "decoupled"]
    assert found[3].setting.weight_decay == 0.01
    assert all(f.setting.seeds == 3 for f in found)
    for f in found:
        assert f.setting.value == pytest.approx(runs_of(noisy, f.setting, own.seeds).mean())


def test_fresh_seeds_choose_nothing(noisy):
    worse = [
        r if r["seed"] in (0, 1, 2) else r | {"metrics": {"test_error": 50.0 * r["lr"]}}
        for r in noisy
    ]
    assert finalists(worse, plan()) == finalists(noisy, plan())
    assert finalists(noisy[::-1], plan()) == finalists(noisy, plan())


def test_settings_are_chosen_by_one_metric_and_told_by_another(noisy):
    """Validation says that 10 times the lr is best; the test error is told all the same."""
    own = replace(plan(), choose=Metric("val", goal="max").as_dict())
    peak = own.lrs[7]
    both = [
        r | {"metrics": r["metrics"] | {"val": -abs(math.log(r["lr"] / peak)) - r["weight_decay"]}}
        for r in noisy
    ]
    result = analyse(both, own)
    assert {f.setting.lr for f in result.finalists} == {peak}
    chosen = result.best.best
    assert chosen.value == pytest.approx(runs_of(noisy, chosen, own.seeds).mean())
    assert result.confirmed.value == pytest.approx(runs_of(noisy, chosen, FRESH).mean())


def test_ties_go_to_less_decay_and_the_lower_lr():
    own = plan()
    flat = [r | {"metrics": {"test_error": 5.0}} for r in landscape(own, slopes=SLOPES)]
    first = finalists(flat, own)[0].setting
    assert (first.lr, first.weight_decay) == (own.lrs[0], own.coefficients["decoupled"][0])


def joint(momenta, best):
    """Records of a sweep over lr, decay and momentum, lowest at ``best``."""
    own = Meta(
        rules=["decoupled"], lrs=grid(1e-3, 1e-1, 3), seeds=[0, 1],
        coefficients={"decoupled": grid(1e-2, 1.0, 3)}, params={"momentum": list(momenta)},
    )  # fmt: skip
    places = itertools.product(own.lrs, own.coefficients["decoupled"], momenta, own.seeds)
    records = [
        record("decoupled", lr, None, wd, seed, 0.0)
        | {"params": {"momentum": m}, "metrics": {"value": _away((lr, wd, m), best)}}
        for lr, wd, m, seed in places
    ]
    return own, records


def _away(place, best):
    return sum(math.log(a / b) ** 2 for a, b in zip(place, best, strict=True))


def test_a_joint_sweep_is_drawn_for_two_of_what_was_swept():
    best = (1e-2, 1.0, 0.9)
    own, records = joint((0.8, 0.9, 0.95), best)
    (chosen, *_) = finalists(records, own)
    assert (chosen.setting.lr, chosen.setting.weight_decay) == best[:2]
    assert chosen.setting.params == {"momentum": 0.9}
    by_decay = surface(records, own, "decoupled", own.reported)
    assert by_decay.fixed == {"momentum": 0.9}
    across = surface(records, own, "decoupled", own.reported, axes=("momentum", "lr"))
    assert across.rows == (0.8, 0.9, 0.95)
    assert across.fixed == {"weight_decay": 1.0}
    assert across.missing == 0
    expected = [[_away((lr, 1.0, m), best) for lr in own.lrs] for m in across.rows]
    np.testing.assert_allclose(across.mean, expected)
    other = surface(records, own, "decoupled", own.reported, {"momentum": 0.8})
    assert other.setting(1, 2).params == {"momentum": 0.8}
    assert other.index_of(chosen.setting) is None
    with pytest.raises(ValueError, match="axes must be two of what is swept"):
        surface(records, own, "decoupled", own.reported, axes=("lr", "width"))
    with pytest.raises(ValueError, match="params must be a value of momentum"):
        surface(records, own, "decoupled", own.reported, {})


# --- what is within the noise, and where to grow ------------------------------------------------


def flat_plan(**more):
    return plan(("decoupled",), **more)


def test_a_flat_grid_is_all_within_the_noise_and_does_not_grow():
    own = flat_plan(seeds=5)
    included, share = 0, []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        records = landscape(own, slopes={"decoupled": 0.0})
        records = [r | {"metrics": {"test_error": 8.0 + rng.standard_normal()}} for r in records]
        within = analyse(records, own).rules[0].within
        share.append(within.share)
        included += bool(within.includes_none)
        if within.everything:
            assert not any(b.worth for b in worth_extending(records, own, "decoupled"))
    assert np.mean(share) > 0.85
    assert included >= 4  # each with a probability of 0.95 or more


def test_a_grid_grows_where_it_improves_and_not_towards_no_decay():
    """A best setting at the highest decay is followed; one at the lowest, equal to none, is not."""
    own = flat_plan()
    up = landscape(own, slopes={"decoupled": 0.0}, bottom=1e3, noise=0.05, baseline=30.0)
    (border,) = worth_extending(up, own, "decoupled")
    assert (border.axis, border.side, border.worth) == ("weight_decay", "high", True)
    down = landscape(own, slopes={"decoupled": 0.0}, bottom=1e-9, noise=0.05, baseline=0.0)
    (border,) = worth_extending(down, own, "decoupled")
    assert (border.axis, border.side, border.worth) == ("weight_decay", "low", False)
    assert "cannot be told from no decay" in border.reason
    helps = [  # the same, but any decay is far better than none
        r | {"metrics": {"test_error": 60.0}} if r["rule"] == "none" else r for r in down
    ]
    assert worth_extending(helps, own, "decoupled")[0].worth
    inside = landscape(own, slopes={"decoupled": 0.0}, noise=0.05)
    assert worth_extending(inside, own, "decoupled") == ()
    assert worth_extending([], own, "decoupled") == ()


def test_one_seed_knows_no_noise():
    own = flat_plan(seeds=1)
    records = landscape(own, slopes={"decoupled": 0.0}, noise=0.2, bottom=1e-9)
    result = analyse(records, own)
    rule = result.rules[0]
    assert (rule.noise, rule.within.count, rule.within.threshold) == (None, 1, None)
    assert rule.within.includes_none is None
    low = [b for b in worth_extending(records, own, "decoupled") if b.axis == "weight_decay"]
    assert [b.worth for b in low] == [False]
    assert result.confirmed.interval[0] < result.confirmed.value  # eight fresh seeds do


# --- plain data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_plain_data_of_any_unfinished_ledger_holds_no_nan(noisy, share):
    rng = np.random.default_rng(3)
    some = [dict(r) for r in noisy if rng.random() < share]
    for r in some[::7]:
        r["diverged"], r["metrics"] = True, {"test_error": math.nan}
    for r in some[::11]:
        r["status"], r["metrics"], r["error"] = "failed", {}, "Traceback"
    text = json.dumps(analyse(some, plan()).as_dict(), allow_nan=False)
    assert json.loads(text)["rules"][0]["rule"] == "decoupled"


def test_records_may_come_in_any_order(noisy):
    assert analyse(noisy, plan()).as_dict() == analyse(noisy[::-1], plan()).as_dict()


def test_fresh_counts_what_is_lost():
    own = flat_plan()
    records = landscape(own, slopes={"decoupled": 0.0}, noise=0.1)
    found = [f.setting for f in finalists(records, own)]
    first = [r for r in records if r["seed"] in FRESH and r["lr"] == found[0].lr]
    first = [r for r in first if r["weight_decay"] == found[0].weight_decay]
    records.remove(first[0])
    first[1]["status"], first[1]["metrics"] = "failed", {}
    first[2]["metrics"] = {"test_error": math.inf}
    runs: Fresh = analyse(records, own).rules[0].fresh
    assert (runs.missing, runs.failed, runs.diverged, runs.seeds) == (1, 1, 1, 5)
    assert (runs.value, runs.interval) == (None, None)
