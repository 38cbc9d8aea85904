"""The settings within the noise, and the seeds that settings are compared on."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from synthetic import grid, landscape, meta, record

from halflife.lab.meta import Meta
from halflife.lab.report.maps import maps_of
from halflife.lab.statistics.analysis import analyse
from halflife.lab.statistics.closeness import dunnett
from halflife.lab.statistics.seeds import shared
from halflife.lab.statistics.selection import finalists

FRESH = list(range(10_000, 10_008))
SLOPES = {"decoupled": 0.0}


def plan(**more):
    return meta(("decoupled",), confirm_seeds=FRESH, **more)


# --- of all that was swept ----------------------------------------------------------------------


def joint(values, truth, rng, seeds=3, noise=1.0):
    """A sweep of lr, decay and another parameter, with what it is truly worth and its noise."""
    lrs, decays = grid(1e-3, 1e-1, 3), grid(1e-2, 1.0, 3)
    own = Meta(
        rules=["decoupled"], lrs=lrs, coefficients={"decoupled": decays},
        seeds=list(range(seeds)), params={"p": list(values)},
    )  # fmt: skip
    records = [
        record("decoupled", lr, None, wd, seed, 0.0)
        | {"params": {"p": p}}
        | {"metrics": {"value": truth(i, j, p) + noise * rng.standard_normal()}}
        for (i, lr), (j, wd), p in itertools.product(enumerate(lrs), enumerate(decays), values)
        for seed in own.seeds
    ]
    return own, records


def test_the_set_holds_the_truly_best_of_all_that_was_swept():
    """With the probability of 0.95 that is promised, where another parameter hardly matters."""
    rng, count, hits = np.random.default_rng(0), 60, 0
    for _ in range(count):
        own, records = joint(
            range(8),
            lambda i, j, p: 5.0 * (i - 1) ** 2 + 5.0 * (j - 1) ** 2 + 0.3 * abs(p - 3),
            rng,
        )
        within = analyse(records, own).rules[0].within
        best = ("decoupled", own.lrs[1], own.coefficients["decoupled"][1], (("p", 3),))
        hits += best in within.keys
    assert hits / count >= 0.95 - 3.0 * math.sqrt(0.05 * 0.95 / count)


def test_its_threshold_is_dunnetts_for_all_settings():
    own, records = joint((1, 2, 3), lambda i, j, p: 9.0 * (i + j) + p, np.random.default_rng(1))
    rule = analyse(records, own).rules[0]
    means: dict[tuple[float, float, int], list[float]] = {}
    for r in records:
        place = (r["lr"], r["weight_decay"], r["params"]["p"])
        means.setdefault(place, []).append(r["metrics"]["value"])
    mean = {place: float(np.mean(runs)) for place, runs in means.items()}
    lowest = min(mean.values())
    near = {place for place, value in mean.items() if value <= lowest + rule.within.threshold}
    assert {(lr, wd, dict(p)["p"]) for _, lr, wd, p in rule.within.keys} == near
    assert (rule.within.count, rule.within.share) == (len(near), len(near) / 27)
    ratio = rule.within.threshold / math.sqrt(2.0 / 3.0)
    assert dunnett(26, 1000) * 0.5 < ratio < dunnett(26, 4) * 2.0  # the noise is 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.5, 0.8, 0.95), "p 0.5 to 0.95"),
        (("gelu", "relu"), "p gelu and relu"),
        ((True, False), "p True and False"),
    ],
)
def test_a_parameter_that_changes_nothing_is_all_within_the_noise(values, said):
    own, records = joint(
        values, lambda i, j, p: 9.0 * ((i - 1) ** 2 + (j - 1) ** 2), np.random.default_rng(2),
        noise=0.1,
    )  # fmt: skip
    result = analyse(records, own)
    within = result.rules[0].within
    assert sorted(map(str, within.params["p"])) == sorted(map(str, values))
    assert (within.count, within.settings.sum()) == (len(values), 1)
    assert f"{len(values)} settings of decoupled: lr 1e-2, weight_decay 0.1 and {said}" in (
        result.sentence
    )
    assert "No other setting" not in result.sentence
    stored = result.as_dict()["rules"][0]["within_noise"]
    assert stored["params"] == {"p": list(within.params["p"])}
    ((_, (across,)),) = maps_of(result, records, own).beside
    drawn = "".join(across.draw("m"))
    (outline,) = re.findall(r"<path[^>]*bright within[^>]*>", drawn)
    assert outline.count("M") == 2 * len(values) + 2  # edges around one column of them all


def test_no_decay_is_compared_on_the_same_seeds():
    """A seed that only the runs without decay have may be a lucky one."""
    own = replace(plan(), default_decay=None)
    records = landscape(own, slopes=SLOPES, noise=0.1)
    more = replace(own, seeds=[0, 1, 2, 3])
    lucky = [
        r | {"seed": 3, "metrics": {"test_error": 0.0}}
        for r in records
        if r["rule"] == "none" and r["seed"] == 0
    ]
    before, after = analyse(records, own), analyse([*records, *lucky], more)
    assert before.rules[0].within.includes_none is False
    assert after.rules[0].within.includes_none is False


# --- on which seeds settings are compared -------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        (["1110", "1110", "1111"], "1110"),  # a seed was added and begun
        (["1111", "1111", "1111"], "1111"),
        (["10", "10", "10", "11"], "10"),  # the second seed was begun
        (["11", "11", "11", "10"], "11"),  # it is nearly done: one seed would know no noise
        (["111", "111", "111", "100", "100"], "111"),  # settings were added and begun
        (["111", "011", "111"], "011"),  # one run is missing
        (["100", "010", "001"], "100"),
        (["000"], "000"),
    ],
)
def test_compared_are_the_seeds_that_the_most_settings_share(has, expected):
    table = np.array([[c == "1" for c in row] for row in has])
    assert "".join("01"[int(c)] for c in shared(table)) == expected


def test_where_most_settings_have_one_seed_by_intent_the_others_are_compared():
    table = np.array([[True, False, False]] * 20 + [[True, True, True]] * 4)
    assert shared(table).tolist() == [True, False, False]
    assert shared(table, 0.0).tolist() == [True, True, True]


@pytest.mark.parametrize("runs", range(1, 12, 3))
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_seed_that_was_begun_changes_nothing_of_what_is_chosen(seeds, runs):
    """And no setting is taken for the best because it alone has that seed."""
    own = plan(seeds=seeds)
    records = landscape(own, slopes=SLOPES, noise=0.2)
    more = replace(own, seeds=list(range(seeds + 1)))
    added = [r | {"seed": seeds} for r in records if r["seed"] == 0]
    added = [r for r in added if r["rule"] == "decoupled"]
    begun = [r | {"metrics": {"test_error": 0.0}} for r in added[:runs]]  # luckier than any other
    before, after = analyse(records, own), analyse([*records, *begun], more)
    assert after.best.best == before.best.best
    assert after.rules[0].within.count == before.rules[0].within.count
    assert (after.rules[0].within.settings == before.rules[0].within.settings).all()
    assert after.rules[0].ridge == before.rules[0].ridge
    assert (after.rules[0].left_out, after.best.best.seeds) == (0, seeds)
    assert [f.setting for f in finalists([*records, *begun], more)] == [
        f.setting for f in finalists(records, own)
    ]


def test_settings_that_are_not_finished_are_left_out_and_said_to_be():
    """A grid that grew and was cut short there."""
    own = plan()
    records = landscape(own, slopes={"decoupled": 0.0}, noise=1e-4)
    last = own.coefficients["decoupled"][-1]
    cut = [r for r in records if r["weight_decay"] != last or r["seed"] not in (1, 2)]
    result = analyse(cut, own)
    (rule,) = result.rules
    assert (rule.left_out, rule.best.seeds) == (9, 3)
    assert rule.within.count == 1
    assert "No other setting of decoupled that is compared is within the noise" in result.sentence
    assert "; 9 settings that are not finished are not compared." in result.sentence
    whole = analyse(records, own)
    assert "No other setting of decoupled is within the noise of it" in whole.sentence
    assert whole.rules[0].left_out == 0
