"""The analysis finds the optimum, the slope and the noise a synthetic landscape was made of."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from synthetic import grid, landscape, meta

from halflife.lab.analysis import analyse
from halflife.lab.comparison import compare
from halflife.lab.ridge import fit_ridge
from halflife.lab.surface import surface

LRS = np.geomspace(1e-4, 1e-1, 9)
WDS = np.geomspace(1e-5, 1.0, 13)


def valley(slope, lrs=LRS, wds=WDS, center=-5.0, curvature=0.3):
    """A parabolic valley over log wd; its bottom is on a line of this slope, its floor a bowl."""
    y = np.log(lrs) - np.log(lrs).mean()
    z = np.log(wds)[None, :] - center - slope * y[:, None]
    return 7.0 + 0.1 * y[:, None] ** 2 + curvature * z**2


# --- the ridge ----------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [-1.0, -0.3, 0.0, 0.2, 1.0])
@pytest.mark.parametrize("offset", [0.0, 0.31, -0.48])
def test_slope_of_an_exact_valley_is_exact(slope, offset):
    ridge = fit_ridge(LRS, WDS, valley(slope, center=-5.0 + offset)[..., None])
    assert ridge.slope == pytest.approx(slope, abs=1e-9)
    assert ridge.coefficient_at(ridge.lrs[0]) == pytest.approx(ridge.coefficients[0])


def test_slope_in_the_papers_coefficient_is_the_slope_in_torchs_plus_one():
    """The same cells, named by lambda (fraction) or by lambda / lr: d = lr wd."""
    step = 2.0
    lrs = 1e-3 * step ** np.arange(-4.0, 5.0)
    fractions = 1e-3 * step ** np.arange(-9.0, 10.0)
    error = valley(0.4, lrs, fractions, center=math.log(1.3e-3))
    # torch's grid holds the same cells, one column further left per row up
    torch_wds = fractions[4:-4] / 1e-3
    cells = np.array([error[r, 8 - (8 - r) : 8 - (8 - r) + len(torch_wds)] for r in range(9)])
    assert lrs[0] * torch_wds[0] == pytest.approx(fractions[0])
    published = fit_ridge(lrs, fractions, error[..., None])
    torchs = fit_ridge(lrs, torch_wds, cells[..., None])
    assert published.slope == pytest.approx(0.4, abs=1e-9)
    assert published.slope == pytest.approx(torchs.slope + 1.0, abs=1e-9)


def test_only_rows_close_to_the_best_count():
    error = valley(0.0)
    error[0] += 100.0
    ridge = fit_ridge(LRS, WDS, error[..., None])
    assert LRS[0] not in ridge.lrs
    floor = 7.0 + 0.1 * (np.log(LRS) - np.log(LRS).mean()) ** 2  # within 10 %: |dy| < 2.6
    assert ridge.lrs == pytest.approx(tuple(LRS[floor < 7.7]))


def test_noise_admits_more_rows():
    """Rows count that noise cannot tell from the best: two standard errors of the difference."""
    rng = np.random.default_rng(0)
    exact = valley(0.0)[..., None]
    noisy = exact + 1.2 * rng.standard_normal((9, 13, 3))
    assert len(fit_ridge(LRS, WDS, noisy).lrs) > len(fit_ridge(LRS, WDS, exact).lrs)


@pytest.mark.parametrize("height", [10.0, 80.0])
def test_a_cliff_beside_the_valley_does_not_tilt_the_ridge(height):
    """Where too much decay ruins training; the height of the ruin says nothing about the bottom."""
    error = valley(0.3, center=-7.0)
    z = np.log(WDS)[None, :] + 7.0 - 0.3 * (np.log(LRS) - np.log(LRS).mean())[:, None]
    ridge = fit_ridge(LRS, WDS, np.where(z > 1.5, error + height, error)[..., None])
    assert ridge.slope == pytest.approx(0.3, abs=0.12)


def test_a_valley_on_the_border_is_not_told():
    ridge = fit_ridge(LRS, WDS, valley(0.0, center=math.log(WDS[0]) - 3.0)[..., None])
    assert (ridge.verdict, ridge.slope) == ("undecided", None)
    assert ridge.unbounded_rows >= 3
    assert "on the border" in ridge.reason


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_learning_rates_are_not_told(rows):
    ridge = fit_ridge(LRS[:rows], WDS, valley(0.0)[:rows, :, None])
    assert ridge.verdict == "undecided"
    assert "three" in ridge.reason


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_too_few_weight_decays_are_not_told(columns):
    ridge = fit_ridge(LRS, WDS[:columns], valley(0.0)[:, :columns, None])
    assert ridge.verdict == "undecided"


def test_one_seed_gives_a_slope_and_no_interval():
    ridge = fit_ridge(LRS, WDS, valley(0.2)[..., None])
    assert ridge.slope == pytest.approx(0.2)
    assert (ridge.low, ridge.high, ridge.verdict) == (None, None, "undecided")
    assert "one seed" in ridge.reason


@pytest.mark.parametrize(
    ("slope", "verdict"), [(0.0, "separable"), (-1.0, "coupled"), (1.0, "coupled")]
)
def test_verdict_of_a_clear_landscape(slope, verdict):
    rng = np.random.default_rng(0)
    runs = valley(slope)[..., None] + 0.1 * rng.standard_normal((9, 13, 3))
    ridge = fit_ridge(LRS, WDS, runs)
    assert ridge.verdict == verdict
    assert ridge.low <= slope <= ridge.high


def test_noise_that_buries_the_valley_is_undecided():
    rng = np.random.default_rng(0)
    flat = 7.0 + 0.3 * rng.standard_normal((9, 13, 3))
    ridge = fit_ridge(LRS, WDS, flat)
    assert ridge.verdict == "undecided"
    assert ridge.reason


def test_a_shift_per_seed_changes_nothing():
    """Seeds that are better everywhere say nothing about where the valley lies."""
    rng = np.random.default_rng(0)
    runs = valley(0.2)[..., None] + 0.2 * rng.standard_normal((9, 13, 3))
    shifted = runs + np.array([0.5, -0.2, -0.3])
    a, b = fit_ridge(LRS, WDS, runs), fit_ridge(LRS, WDS, shifted)
    assert a.slope == pytest.approx(b.slope, abs=1e-12)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("seeds", [2, 3])
def test_interval_covers_the_true_slope(seeds, correlated):
    """Whether or not neighbours err together; 0.88 of 100: 0.95 falls below it once in 300."""
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(100):
        slope, offset = rng.choice([0.0, 0.4, -0.8]), rng.uniform(-0.5, 0.5)
        noise = 0.3 * rng.standard_normal((9, 13, seeds))
        if correlated:
            pad = np.pad(noise, ((0, 0), (1, 1), (0, 0)), mode="edge")
            noise = (0.5 * pad[:, :-2] + pad[:, 1:-1] + 0.5 * pad[:, 2:]) / math.sqrt(1.5)
        ridge = fit_ridge(LRS, WDS, valley(slope, center=-5.0 + offset)[..., None] + noise)
        if ridge.low is not None:
            hits.append(ridge.low <= slope <= ridge.high)
    assert len(hits) > 80
    assert np.mean(hits) >= 0.88


def test_cells_without_a_value_are_passed_over():
    error = valley(0.0)
    runs = error[..., None] + np.zeros(3)
    runs[0, 0] = np.nan  # far from the valley
    runs[8, 12, 1] = np.nan
    assert fit_ridge(LRS, WDS, runs).slope == pytest.approx(0.0, abs=1e-9)
    runs[4, int(error[4].argmin()) + 1] = np.nan  # beside the bottom: this row has no bracket
    ridge = fit_ridge(LRS, WDS, runs)
    assert LRS[4] not in ridge.lrs
    assert ridge.unbounded_rows == 1
    assert fit_ridge(LRS, WDS, np.full((9, 13, 3), np.nan)).verdict == "undecided"


# --- surfaces, cells, comparisons ---------------------------------------------------------------


@pytest.fixture(scope="module")
def plan():
    return meta()


@pytest.fixture(scope="module")
def noisy(plan):
    return landscape(plan, slopes={"decoupled": -0.1, "independent": 0.9}, noise=0.2)


def test_best_cell_mean_and_standard_error(plan, noisy):
    decoupled = analyse(noisy, plan).rules[0]
    means = {}
    for r in noisy:
        if r["rule"] == "decoupled":
            means.setdefault((r["lr"], r["weight_decay"]), []).append(r["test_error"])
    lr, wd = min(means, key=lambda cell: np.mean(means[cell]))
    runs = means[lr, wd]
    assert (decoupled.best.lr, decoupled.best.weight_decay) == (lr, wd)
    assert decoupled.best.error == pytest.approx(np.mean(runs))
    assert decoupled.best.standard_error == pytest.approx(stats.sem(runs))
    assert decoupled.best.fraction == pytest.approx(lr * wd)
    assert decoupled.best.half_life == pytest.approx(math.log(2) / -math.log1p(-lr * wd))
    assert decoupled.best.timescale == pytest.approx(1 / (lr * wd))
    assert decoupled.border == ()
    near = [cell for cell, e in means.items() if np.mean(e) <= np.mean(runs) + 1.0]
    assert decoupled.area_cells == len(near)
    assert decoupled.area_share == pytest.approx(len(near) / len(means))
    pooled = math.sqrt(np.mean([np.var(means[cell], ddof=1) for cell in near]))
    assert decoupled.seed_noise == pytest.approx(pooled)


def test_separable_and_coupled_rules_are_told_apart(plan, noisy):
    decoupled, independent = analyse(noisy, plan).rules
    assert decoupled.ridge.verdict == "separable"
    assert independent.ridge.verdict == "coupled"
    assert independent.ridge.low <= 0.9 <= independent.ridge.high


def test_against_no_decay_is_a_paired_t_interval(plan, noisy):
    result = analyse(noisy, plan)
    against = result.rules[0].against_none
    best, none = result.rules[0].best, result.baseline.best
    runs = [
        [
            r["test_error"]
            for r in sorted(noisy, key=lambda r: r["seed"])
            if (r["rule"], r["lr"], r["weight_decay"]) == (c.rule, c.lr, c.weight_decay)
        ]
        for c in (best, none)
    ]
    reference = stats.ttest_rel(runs[1], runs[0]).confidence_interval(0.95)
    assert against.difference == pytest.approx(np.mean(runs[1]) - np.mean(runs[0]))
    assert (against.low, against.high) == pytest.approx((reference.low, reference.high))
    assert against.seeds == 3
    assert against.clear


def test_held_out_difference_is_free_of_the_winners_curse():
    """Two flat surfaces of pure noise, 99 cells against 9: the lowest of 99 looks better."""
    lrs, seeds = grid(1e-4, 1e-1, 9), 3
    naive, held_out, clear = [], [], 0
    for trial in range(40):
        plan = meta(("decoupled",), lrs=lrs, seeds=seeds)
        rng = np.random.default_rng(trial)
        records = landscape(plan, slopes={"decoupled": 0.0})
        for r in records:
            r["test_error"] = 8.0 + 0.5 * rng.standard_normal()
        c = compare(surface(records, plan, "decoupled"), surface(records, plan, "none"))
        naive.append(c.difference)
        held_out.append(c.held_out)
        clear += c.clear
    assert np.mean(naive) > 0.2  # about 0.3 points of pure luck
    assert abs(np.mean(held_out)) < 3.0 * stats.sem(held_out) + 1e-12
    assert clear <= 4  # two-sided 5 % twice, of 40


@pytest.mark.parametrize(
    ("bottom", "side"), [(1e-9, "lowest weight decay"), (1e3, "highest weight decay")]
)
def test_best_cell_on_the_border_is_named(bottom, side):
    plan = meta(("decoupled",))
    result = analyse(landscape(plan, slopes={"decoupled": 0.0}, bottom=bottom), plan)
    assert side in result.rules[0].border


def test_diverged_and_missing_cells_are_counted_and_never_best(plan):
    records = landscape(plan, slopes={"decoupled": 0.0, "independent": 0.0}, noise=0.1)
    best = analyse(records, plan).rules[0].best
    at = [
        r
        for r in records
        if (r["rule"], r["lr"], r["weight_decay"]) == ("decoupled", best.lr, best.weight_decay)
    ]
    at[0]["diverged"], at[0]["test_error"] = True, math.nan
    lost = next(r for r in records if r["rule"] == "decoupled" and r["lr"] == plan.lrs[0])
    records.remove(lost)
    decoupled = analyse(records, plan).rules[0]
    assert (decoupled.diverged, decoupled.missing) == (1, 1)
    assert (decoupled.best.lr, decoupled.best.weight_decay) != (best.lr, best.weight_decay)


def test_cells_never_planned_are_not_missing(plan):
    """Where lr and weight decay are both high, a step would remove whole weights."""
    records = landscape(plan, slopes={"decoupled": 0.0, "independent": 0.0})
    corner = {(plan.lrs[r], plan.coefficients["decoupled"][c]) for r, c in ((8, 10), (7, 10))}
    kept = [r for r in records if (r["lr"], r["weight_decay"]) not in corner]
    decoupled = analyse(kept, replace(plan, omitted={"decoupled": 2})).rules[0]
    assert decoupled.missing == 0
    assert decoupled.surface.omitted.sum() == 2
    assert decoupled.surface.omitted[[8, 7], [10, 10]].all()
    assert analyse(kept, plan).rules[0].missing == 6


def test_an_extended_ragged_grid(plan, noisy):
    extra = [dict(r, lr=0.5, test_error=50.0) for r in noisy if r["lr"] == plan.lrs[-1]]
    result = analyse([*noisy, *(r for r in extra if r["rule"] == "decoupled")], plan)
    assert [len(r.surface.lrs) for r in result.rules] == [10, 9]
    assert [r.missing for r in result.rules] == [0, 0]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_plain_data_of_any_unfinished_ledger_holds_no_nan(plan, noisy, share):
    rng = np.random.default_rng(3)
    some = [dict(r) for r in noisy if rng.random() < share]
    for r in some[::7]:
        r["diverged"], r["test_error"], r["weight_rms"] = True, math.nan, math.inf
    text = json.dumps(analyse(some, plan).as_dict(), allow_nan=False)
    assert json.loads(text)["rules"][0]["rule"] == "decoupled"


def test_records_may_come_in_any_order(plan, noisy):
    assert analyse(noisy, plan).as_dict() == analyse(noisy[::-1], plan).as_dict()


def test_the_best_rule_is_compared_with_every_other(plan, noisy):
    result = analyse(noisy, plan)
    assert {c.better for c in result.comparisons} == {result.best.rule}
    pairs = itertools.chain((result.best.rule,), (c.worse for c in result.comparisons))
    assert sorted(pairs) == sorted(plan.rules)
