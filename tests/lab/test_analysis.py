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
from halflife.lab.surface import surface

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
