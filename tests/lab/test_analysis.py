"""The analysis says what is true of a landscape that was made, and no more than it can know."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from synthetic import landscape, meta, record

from halflife.lab.metric import Metric
from halflife.lab.report.summary import facts
from halflife.lab.report.tables import finalists_table
from halflife.lab.statistics.analysis import VERDICTS, analyse
from halflife.lab.statistics.sentence import differences, separability
from halflife.lab.statistics.surface import key_of

FRESH = list(range(10_000, 10_008))
HELPS, HURTS, UNTOLD = VERDICTS


def plan(rules=("decoupled",), **more):
    return meta(rules, **{"confirm_seeds": FRESH, "default_decay": 0.01} | more)


def made(own, **truth):
    return landscape(own, slopes=dict.fromkeys(own.rules, 0.0), **truth)


@pytest.fixture(scope="module")
def helping():
    """Decay gains 1.6 points, and 0.8 over torch's default."""
    own = plan(("decoupled", "independent"))
    slopes = {"decoupled": -0.1, "independent": 0.9}
    return own, landscape(own, slopes=slopes, noise=0.2, default=0.8)


def values(records, setting, seeds):
    runs = {r["seed"]: r["metrics"]["test_error"] for r in records if key_of(r) == setting.key}
    return np.array([runs[s] for s in seeds])


def changed(records, of, **more):
    """The records with those of a rule, on the first fresh seed, changed."""
    return [r | more if r["rule"] == of and r["seed"] == FRESH[0] else r for r in records]


def test_the_leader_is_judged_by_fresh_seeds_alone(helping):
    own, records = helping
    result = analyse(records, own)
    best, none = result.best.best, result.baseline.best
    fresh, without = (values(records, s, FRESH) for s in (best, none))
    reference = stats.ttest_rel(without, fresh).confidence_interval(0.95)
    assert result.confirmed.value == pytest.approx(fresh.mean())
    assert result.confirmed.gain == pytest.approx((without - fresh).mean())
    assert result.confirmed.gain_interval == pytest.approx((reference.low, reference.high))
    assert (result.confirmed.seeds, result.confirmed.planned) == (8, 8)
    assert best.value == pytest.approx(values(records, best, own.seeds).mean())
    assert (result.verdict, result.reason) == (HELPS, "")
    assert [c.other for c in result.comparisons] == [
        "none", "default", *(r for r in own.rules if r != result.best.rule),
    ]  # fmt: skip
    assert result.comparisons[1].clear
    assert result.comparisons[1].corrected > result.comparisons[1].p  # one of two


def test_of_an_optimizer_that_is_not_known_lr_and_weight_decay_alone_are_told():
    own = replace(plan(), optimizer=None, default_decay=None)
    records = [r | {"fraction": None} for r in made(own, noise=0.2)]
    told = analyse(records, own)
    assert told.verdict == HELPS
    opening = told.sentence.split(" gives ")[0]
    assert re.fullmatch(r"On digits, weight decay helps: lr \S+ and weight_decay \S+", opening), (
        opening
    )
    assert "half-li" not in told.sentence
    # Watched, and seen not to decay by the rule: its name alone is known.
    watched = analyse(records, replace(own, optimizer="sgd")).sentence
    assert watched.startswith(opening.replace("digits", "digits with sgd"))
    # L2 of Adam has no half-life all the same.
    known = analyse(made(plan(("l2",)), noise=0.2), plan(("l2",))).sentence
    assert "(rule l2)" in known


def test_what_one_rule_shows(helping):
    own, records = helping
    decoupled, independent = analyse(records, own).rules
    assert decoupled.ridge.verdict == "separable"
    assert independent.ridge.verdict == "coupled"
    best = decoupled.best
    assert best.fraction == pytest.approx(best.lr * best.weight_decay)
    assert best.half_life == pytest.approx(math.log(2) / -math.log1p(-best.fraction))
    assert best.standard_error == pytest.approx(stats.sem(values(records, best, own.seeds)))
    assert decoupled.border == ()
    # A seed's common shift and its own noise have 0.2 each.
    assert decoupled.noise.residual == pytest.approx(0.2, rel=0.2)
    assert decoupled.within.lr[0] <= best.lr <= decoupled.within.lr[1]
    assert decoupled.within.includes_none is False
    assert decoupled.within.settings[decoupled.surface.index_of(best)]


def test_the_sentence_has_the_figures(helping):
    own, records = helping
    result = analyse(records, own)
    assert result.sentence.startswith("On digits with adamw, weight decay helps: lr ")
    for word in ("half-life of ", "% of the run", "points better [", "8 fresh seeds", "lr "):
        assert word in result.sentence
    found = re.search(r"error ([\d.]+) % \[([\d.]+), ([\d.]+)\]", result.sentence)
    value, low, high = map(float, found.groups())
    assert value == pytest.approx(result.confirmed.value, abs=0.051)
    assert (low, high) == pytest.approx(result.confirmed.interval, abs=0.051)
    told = " ".join(differences(result, own))
    assert "torch's default weight_decay 1e-2" in told
    assert separability(result.rules[1]).startswith("Under this rule decay strength and lr cannot")


def test_where_decay_makes_no_difference_that_comes_first():
    own = plan(seeds=5)
    result = analyse(made(own, noise=0.3, baseline=0.0, default=0.0), own)
    assert (result.verdict, result.reason) == (UNTOLD, "")
    assert result.sentence.startswith(
        "On digits with adamw, decay makes no difference that could be told from none"
    )
    assert result.rules[0].within.includes_none
    assert "training without decay is within it too" in result.sentence


def test_where_decay_hurts_none_is_recommended():
    own = plan()
    records = [
        r | {"metrics": {"test_error": r["metrics"]["test_error"] - 3.0}}
        if r["rule"] == "none"
        else r
        for r in made(own, noise=0.2)
    ]
    result = analyse(records, own)
    assert result.verdict == HURTS
    assert "Use no decay, at lr " in result.sentence
    assert "points worse [" in result.sentence


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("none planned", "no setting was trained on fresh seeds"),
        ("unfinished", "2 of 16 runs on fresh seeds are not finished"),
        ("diverged", "no decay diverged on 1 of 8 seeds"),
        ("no baseline", "no finished runs without decay"),
        ("nothing", "no setting is finished yet"),
    ],
)
def test_what_is_not_confirmed_is_not_told(damage, reason):
    own = plan(default_decay=None)
    records = made(own, noise=0.2)
    if damage == "none planned":
        own = replace(own, confirm_seeds=[])
    elif damage == "unfinished":
        records = [r for r in records if r["seed"] != FRESH[0]]
    elif damage == "diverged":
        records = changed(records, "none", diverged=True)
    elif damage == "no baseline":
        records = [r for r in records if r["rule"] != "none"]
    else:
        records = []
    result = analyse(records, own)
    assert result.verdict == UNTOLD
    assert reason in result.reason
    assert result.reason in result.sentence or damage == "nothing"
    assert "helps" not in result.sentence


@pytest.mark.parametrize("lost", [{"status": "failed"}, {"status": "pruned"}, {"diverged": True}])
@pytest.mark.parametrize("of", ["decoupled", "none", "independent"])
def test_a_fresh_run_that_failed_tells_as_little_as_one_that_diverged(of, lost):
    """Whichever way runs end badly, those that did not are the lucky ones."""
    own = plan(("decoupled", "independent"), default_decay=None)
    slopes = {"decoupled": 0.0, "independent": 0.0}
    records = landscape(own, slopes=slopes, noise=0.2)
    better = [  # so that decoupled leads
        r | {"metrics": {"test_error": r["metrics"]["test_error"] + 0.4}}
        if r["rule"] == "independent"
        else r
        for r in records
    ]
    result = analyse(changed(better, of, **lost, metrics={}), own)
    assert result.best.rule == "decoupled"
    assert of not in [c.other for c in result.comparisons]
    word = "diverged" if "diverged" in lost else "failed"
    assert f"Runs on fresh seeds that {word}: 1." in result.sentence
    if of == "independent":
        assert (result.verdict, result.against_none.seeds) == (HELPS, 8)
        return
    assert result.verdict == UNTOLD
    name = "no decay" if of == "none" else of
    assert result.reason == f"not confirmed: {name} {word} on 1 of 8 seeds"
    assert "helps" not in result.sentence


def test_every_gain_says_how_many_pairs_it_rests_on():
    own = plan(("decoupled", "independent"))
    records = landscape(own, slopes=dict.fromkeys(own.rules, 0.0), noise=0.2, default=0.8)
    leader = analyse(records, own).best.rule
    (other,) = {*own.rules} - {leader}
    some = [
        r
        for r in records
        if r["rule"] != other or r["weight_decay"] == 0.01 or r["seed"] not in FRESH[3:]
    ]
    result = analyse(some, own)
    pairs = {c.other: c.seeds for c in result.comparisons}
    assert pairs == {"none": 8, "default": 8, other: 3}
    assert "without decay, on 8 fresh seeds" in result.sentence
    told = " ".join(differences(result, own))
    assert re.search(rf"that of {other} \([^()]* on 3 seeds", told)
    assert re.search(r"torch's default weight_decay 1e-2 \([^()]* on 8 seeds", told)


def test_a_training_that_does_not_use_its_seed_is_not_judged():
    own = plan(default_decay=None)
    result = analyse(made(own), own)
    assert result.confirmed.gain > 1.0
    assert result.confirmed.gain_interval is None
    assert (result.verdict, result.against_none.clear) == (UNTOLD, False)
    assert "leaves no noise to judge a difference by" in result.sentence
    assert "see whether the training uses its seed" in result.sentence


@pytest.mark.parametrize(
    ("bottom", "side"), [(1e-9, "lowest weight decay"), (1e3, "highest weight decay")]
)
def test_a_best_setting_on_the_border_is_named(bottom, side):
    own = plan()
    result = analyse(made(own, bottom=bottom, noise=0.05, baseline=30.0), own)
    assert result.rules[0].border == (side,)
    assert f"on the border of the grid ({side})" in result.sentence


def test_lost_runs_are_counted_said_and_never_best():
    own = plan(("decoupled", "independent"))
    records = made(own, noise=0.1)
    best = analyse(records, own).rules[0].best
    at = [r for r in records if key_of(r) == best.key and r["seed"] == 0]
    at[0]["diverged"], at[0]["metrics"] = True, {"test_error": math.nan}
    others = [r for r in records if r["rule"] == "decoupled" and r["lr"] == own.lrs[0]]
    others = [r for r in others if r["seed"] == 0 and r["weight_decay"] != 0.01]
    records.remove(others[0])
    others[1] |= {"status": "failed", "metrics": {}, "error": "Traceback"}
    others[2] |= {"status": "pruned", "metrics": {"test_error": 1.0}, "progress": 0.4}
    result = analyse(records, own)
    rule = result.rules[0]
    assert (rule.missing, rule.failed, rule.pruned, rule.diverged) == (1, 1, 1, 1)
    assert rule.best.key != best.key
    words = "1 with failed runs, 1 with diverged runs and 1 with pruned runs"
    assert words in result.sentence
    assert "Runs that are not in the ledger: 1." in result.sentence


def test_settings_never_planned_are_not_missing():
    """Where lr and weight decay are both high, a step would remove whole weights."""
    own = plan()
    corner = {(own.lrs[r], own.coefficients["decoupled"][c]) for r, c in ((8, 10), (7, 10))}
    kept = [r for r in made(own) if (r["lr"], r["weight_decay"]) not in corner]
    rule = analyse(kept, replace(own, omitted={"decoupled": 2})).rules[0]
    assert rule.missing == 0
    assert rule.surface.omitted.sum() == 2
    assert rule.surface.omitted[[8, 7], [10, 10]].all()
    assert analyse(kept, own).rules[0].missing == 6


def test_torchs_default_is_no_column_of_its_rule(helping):
    own, records = helping
    result = analyse(records, own)
    assert 0.01 not in result.rules[0].surface.columns
    assert result.default.setting.weight_decay == 0.01
    assert result.default.value > result.confirmed.value


@pytest.mark.parametrize("scale", [(1.0, -7.0), (1e30, 0.0), (-1e-9, 1e-7), (1e100, 0.0)])
def test_any_unit_and_sign_gives_the_same_verdict(scale):
    """Values times a and plus b: at 0, negative, huge, tiny, and less is worse where a < 0."""
    own = plan()
    records = made(own, noise=0.2)
    a, b = scale
    other = [r | {"metrics": {"m": a * r["metrics"]["test_error"] + b}} for r in records]
    metric = Metric("m", goal="min" if a > 0.0 else "max")
    first = analyse(records, own)
    second = analyse(other, replace(own, report=metric.as_dict()))
    assert second.best.best.key == first.best.best.key
    assert second.baseline.best.key == first.baseline.best.key
    assert second.verdict == first.verdict == HELPS
    assert second.confirmed.gain == pytest.approx(abs(a) * first.confirmed.gain)
    assert second.rules[0].within.count == first.rules[0].within.count
    assert "nan" not in second.sentence.lower()


def test_a_metric_to_be_raised_mirrors_one_to_be_lowered(helping):
    """The same setting, gain and verdict, bit for bit; values and their intervals turned."""
    own, records = helping
    turned = [r | {"metrics": {"test_error": -r["metrics"]["test_error"]}} for r in records]
    up = replace(own, report=replace(own.reported, goal="max").as_dict())
    lower, higher = analyse(records, own), analyse(turned, up)
    assert higher.best.best.key == lower.best.best.key
    assert higher.confirmed.value == -lower.confirmed.value
    assert higher.confirmed.interval == tuple(-v for v in lower.confirmed.interval[::-1])
    assert higher.comparisons == lower.comparisons
    for one, other in zip(higher.rules, lower.rules, strict=True):
        assert (one.ridge, one.noise, one.borders) == (other.ridge, other.noise, other.borders)
        assert (one.within.settings == other.within.settings).all()


@pytest.mark.parametrize("records", ["all nan", "all inf", "one setting", "one run"])
def test_hardly_anything_to_go_by(records):
    own = plan()
    some = made(own, noise=0.2)
    if records.startswith("all"):
        value = math.nan if records == "all nan" else math.inf
        some = [r | {"metrics": {"test_error": value}} for r in some]
    else:
        key = key_of(some[-1])
        some = [r for r in some if key_of(r) == key][: 1 if records == "one run" else None]
    result = analyse(some, own)
    assert result.verdict == UNTOLD
    assert result.reason
    assert result.as_dict()["sentence"] == result.sentence


@pytest.mark.parametrize("leads", ["decoupled", "independent"])
def test_torchs_default_that_is_a_rules_best_is_compared_once(leads):
    """Where 0.01 is the best column: one setting, told under one name, and counted once by Holm."""
    own = plan(("decoupled", "independent"), lrs=[1e-3, 1e-2, 1e-1], strengths=[1e-5, 1e-4, 1e-3])
    assert own.coefficients["decoupled"][1] == pytest.approx(0.01)
    own = replace(own, coefficients=own.coefficients | {"decoupled": [1e-3, 1e-2, 1e-1]})
    rng = np.random.default_rng(5)
    records = []
    for rule in (*own.rules, "none"):
        for lr in own.lrs:
            for j, wd in enumerate([0.0] if rule == "none" else own.coefficients[rule]):
                error = 5.0 + 4.0 * abs(math.log10(lr / 1e-2)) + 4.0 * abs(j - 1)
                error += 3.0 * (rule == "none") + 0.5 * (rule != leads)
                for seed in (*own.seeds, *FRESH):
                    value = error + 0.1 * rng.standard_normal()
                    records.append(record(rule, lr, None, wd, seed, value))
    result = analyse(records, own)
    assert result.best.rule == leads
    assert result.is_default("decoupled")
    assert not result.is_default("independent")
    (other,) = {*own.rules} - {leads}
    assert [c.other for c in result.comparisons] == ["none", other]
    assert result.comparisons[1].corrected == result.comparisons[1].p  # it is the only one
    told = " ".join(differences(result, own))
    assert "corrected" not in told
    if leads == "decoupled":
        assert "The best setting of decoupled is torch's default weight_decay 1e-2." in told
    else:
        assert "that of decoupled, which is torch's default weight_decay 1e-2 (" in told
    roles = [row[0] for row in finalists_table(result, own).rows]
    assert len(roles) == 3
    assert [role for role in roles if "torch's default" in role] == (
        ["leads and torch's default"]
        if leads == "decoupled"
        else ["best of its rule and torch's default"]
    )
    assert result.as_dict()["default"]["weight_decay"] == 0.01


@pytest.mark.parametrize(
    ("equivalence", "what"), [(5.0, "the margin you stated (±5 points)"), (None, None)]
)
@pytest.mark.parametrize("verdict", [HELPS, HURTS])
def test_a_difference_that_is_told_and_too_small_to_matter_is_said_to_be(
    equivalence, what, verdict
):
    own = plan(equivalence=equivalence)
    records = made(own, noise=0.05)
    if verdict == HURTS:
        records = [
            r | {"metrics": {"test_error": r["metrics"]["test_error"] - 3.0}}
            if r["rule"] == "none"
            else r
            for r in records
        ]
    result = analyse(records, own)
    assert result.verdict == verdict
    assert result.confirmed.equal == (equivalence is not None)
    assert ("by less than" in result.sentence) == (equivalence is not None)
    (row,) = [r for r in finalists_table(result, own).rows if r[0] == "no decay"]
    assert ("by less than ±5 points" in row[-2]) == (equivalence is not None)
    if what:
        assert f"weight decay {verdict}, by less than {what}: " in result.sentence


@pytest.mark.parametrize(
    ("margin", "shown"), [(0.349, "0.349"), (0.34951, "0.35"), (1.0, "1"), (2.5e-7, "2.5e-7")]
)
def test_a_margin_is_written_alike_everywhere_and_never_rounded_down(margin, shown):
    own = replace(plan(equivalence=margin), report=Metric("test_error").as_dict())
    records = made(own, noise=1e-9, baseline=0.0, default=0.0)
    assert ("margin of equality", f"±{shown}") in facts(records, own)
    rng = np.random.default_rng(2)
    flat = [
        r | {"metrics": {"test_error": 1.0 + 0.1 * margin * rng.standard_normal()}} for r in records
    ]
    if margin < 1e-3:
        flat = [r | {"metrics": {"test_error": r["metrics"]["test_error"] - 1.0}} for r in flat]
    result = analyse(flat, own)
    assert result.confirmed.equal
    told = f"{result.sentence} {' '.join(differences(result, own))}"
    assert f"equal within ±{shown}" in told or f"(±{shown})" in told
    for row in finalists_table(result, own).rows[1:]:
        assert f"±{shown}" in row[-2]
