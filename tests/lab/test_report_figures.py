"""The report's figures: colours, maps, curves and axes show the numbers of the analysis."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from report_page import Page, cells, maps, tables
from synthetic import grid, landscape, meta, record

from halflife.lab.metric import Metric
from halflife.lab.report import build
from halflife.lab.report.colour import contrast, ramp
from halflife.lab.report.legend import Scale
from halflife.lab.report.maps import maps_of
from halflife.lab.statistics.analysis import analyse
from halflife.lab.wording import in_digits, spread, with_unit

RULES = ("l2", "decoupled", "independent")
SLOPES = {"l2": 0.0, "decoupled": 0.0, "independent": 1.0}
LRS, STRENGTHS = grid(1e-4, 1e-1, 5), grid(3e-6, 3e-1, 6)


@pytest.fixture(scope="module")
def plan():
    fresh = [10_000, 10_001, 10_002]
    return meta(RULES, lrs=LRS, strengths=STRENGTHS, confirm_seeds=fresh, default_decay=0.01)


@pytest.fixture(scope="module")
def records(plan):
    return landscape(plan, slopes=SLOPES, noise=0.15)


@pytest.fixture(scope="module")
def report(records, plan):
    return build(records, plan)


def turned(plan, records):
    """The same sweep, judged by right answers instead of wrong ones."""
    metric = {"name": "accuracy", "unit": "%", "goal": "max"}
    changed = [{**r, "metrics": {"accuracy": 100.0 - r["metrics"]["test_error"]}} for r in records]
    return replace(plan, report=metric, choose=None), changed


# --- colours ------------------------------------------------------------------------------------


def luminance(colour):
    return contrast(colour, "#000000")


@pytest.mark.parametrize("goal", ["min", "max"])
@pytest.mark.parametrize(("size", "shift"), [(1e-30, -5.0), (1.0, 0.0), (1.0, -9.0), (1e30, 5.0)])
def test_better_is_lighter_whatever_the_metric(plan, records, goal, size, shift):
    sign = 1.0 if goal == "min" else -1.0
    values = {id(r): sign * size * (r["metrics"]["test_error"] - 12.0 + shift) for r in records}
    metric = Metric("m", goal=goal)
    own = [{**r, "metrics": {"m": values[id(r)]}, "curve": None} for r in records]
    plan = replace(plan, report=metric.as_dict())
    analysis = analyse(own, plan)
    drawn = maps_of(analysis, own, plan)
    for drawing, rule in zip(drawn.main, analysis.rules, strict=True):
        mean = rule.surface.mean.ravel()
        light = [luminance(drawn.scale.colour(v)) for v in mean]
        order = np.argsort(metric.sign * mean)
        assert (np.diff(np.array(light)[order]) <= 1e-9).all()
        assert drawing.grid is rule.surface
    best = min(float((metric.sign * drawing.grid.mean).min()) for drawing in drawn.main)
    assert drawn.scale.colour(metric.sign * best) == ramp(1.0)
    assert drawn.scale.share(drawn.scale.worst) == 1.0


def test_goal_max_is_the_mirror_of_goal_min(plan, records, report):
    accuracy = build(turned(plan, records)[1], turned(plan, records)[0])
    for name, svg in maps(report.html).items():
        mirrored = cells(maps(accuracy.html)[name])
        assert [fill for fill, _ in mirrored] == [fill for fill, _ in cells(svg)]
    assert "more is better, light is good" in accuracy.html
    assert "less is better, light is good" in report.html
    assert accuracy.numbers["verdict"] == report.numbers["verdict"]


def test_noise_alone_is_no_landscape():
    """All settings equal: colours stay in the lighter half; a cliff uses the whole ramp."""
    plan = meta(("decoupled",), lrs=LRS, strengths=grid(1e-5, 1e-1, 12))
    rng = np.random.default_rng(1)
    cliff = landscape(plan, slopes={"decoupled": 0.0}, noise=0.1)
    flat = [{**r, "metrics": {"test_error": 7.0 + 0.3 * rng.standard_normal()}} for r in cliff]
    drawn = maps_of(analyse(flat, plan), flat, plan)
    shares = [drawn.scale.share(float(v)) for v in drawn.main[0].grid.mean.ravel()]
    assert max(shares) < 0.5
    settings = sorted({(r["rule"], r["lr"], r["weight_decay"]) for r in flat})
    place = {setting: i for i, setting in enumerate(settings)}  # each has 7.0, 7.3 and 7.6 once
    third = [(place[r["rule"], r["lr"], r["weight_decay"]] + r["seed"]) % 3 for r in flat]
    same = [
        {**r, "metrics": {"test_error": 7.0 + 0.3 * k}} for r, k in zip(flat, third, strict=True)
    ]
    assert "its colours differ by noise" in build(same, plan).html
    assert "its colours differ by noise" not in build(cliff, plan).html
    drawn = maps_of(analyse(cliff, plan), cliff, plan)
    shares = [drawn.scale.share(float(v)) for v in drawn.main[0].grid.mean.ravel()]
    assert (min(shares), max(shares)) == (0.0, 1.0)


def test_a_wild_value_leaves_the_others_apart(plan, records):
    at = (records[-1]["rule"], records[-1]["lr"], records[-1]["weight_decay"])
    wild = [
        {**r, "metrics": {"test_error": 1e30}}
        if (r["rule"], r["lr"], r["weight_decay"]) == at
        else r
        for r in records
    ]
    scale = maps_of(analyse(wild, plan), wild, plan).scale
    assert scale.capped
    assert scale.share(7.0 + 1.6) - scale.share(7.0) > 0.1
    assert "or worse" in build(wild, plan).html


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [-3.0, -3.0], [1.7e308, -1.7e308], [5e-324]])
def test_a_scale_of_few_or_extreme_values(plan, values):
    own = [
        record("decoupled", LRS[i], 1e-3, plan.coefficients["decoupled"][0], 0, v)
        for i, v in enumerate(values)
    ]
    one = replace(plan, seeds=[0], confirm_seeds=[], default_decay=None)
    scale = Scale.of([analyse(own, one).rules[1].surface], one.reported, None)
    shares = [scale.share(v) for v in sorted(values)]
    assert all(0.0 <= s <= 1.0 for s in shares)
    assert shares[0] == 0.0
    if len(set(values)) > 1:
        assert shares[-1] == 1.0


# --- maps ---------------------------------------------------------------------------------------


def test_cells_say_mean_error_seeds_and_half_life(report, plan, records):
    """Recomputed from the records."""
    svg = maps(report.html)[f"map-{RULES.index('decoupled')}"]
    said = {title for _, title in cells(svg)}
    for lr in (LRS[0], LRS[2]):
        for decay in (plan.coefficients["decoupled"][1], plan.coefficients["decoupled"][3]):
            runs = [
                r["metrics"]["test_error"]
                for r in records
                if (r["rule"], r["lr"], r["weight_decay"]) == ("decoupled", lr, decay)
                and r["seed"] in plan.seeds
            ]
            mean, error = np.mean(runs), np.std(runs, ddof=1) / math.sqrt(3)
            (found,) = [
                t
                for t in said
                if f"{with_unit(mean, '%', error)}, standard" in t
                and "half-life" in t
                and t.startswith(f"lr {lr:.1e}".replace("e-0", "e-").replace(".0e", "e"))
            ]
            assert f"standard error {in_digits(error, error)} (3 seeds)" in found
    assert sum("no decay" in t for t in said) == len(LRS)
    assert len(cells(svg)) == len(LRS) * (len(STRENGTHS) + 1)


def test_the_set_within_the_noise_is_outlined(report, plan, records):
    """The edges of the path are those of cells in the set beside cells out of it."""
    for index, rule in enumerate(analyse(records, plan).rules):
        svg = maps(report.html)[f"map-{index}"]
        (outline,) = re.findall(r'<path d="([^"]*)"[^>]*class="bright within"', svg)
        padded = np.pad(rule.within.settings, 1).astype(int)
        edges = int(abs(np.diff(padded, axis=0)).sum() + abs(np.diff(padded, axis=1)).sum())
        assert outline.count("M") == edges


def test_equal_half_life_is_diagonal_when_decoupled_and_upright_when_independent(report):
    """In torch's coefficient d = lr wd; in the published one d = lambda."""

    def lines(rule):
        drawing = maps(report.html)[f"map-{RULES.index(rule)}"]
        found = re.findall(r'<path d="M([^"]+)" class="bright" [^>]*dasharray', drawing)
        return [[tuple(map(float, p.split())) for p in line.split("L")] for line in found]

    assert len(lines("decoupled")) >= 3
    assert len(lines("independent")) >= 3
    for points in lines("independent"):
        assert len({x for x, _ in points}) == 1
    group = maps(report.html)["map-1"].split('<g class="cells"')[1].split("</g>")[0]
    width = max(float(w) for w in re.findall(r'width="([\d.]+)"', group))
    long = [points for points in lines("decoupled") if len(points) == len(LRS)]
    assert long  # not those that end where a step removes nearly all
    for points in long:
        (x0, y0), (x1, y1) = points[0], points[-1]
        rows, columns = (y1 - y0) / 22.0, (x1 - x0) / width
        # one row is a factor 10^(3/4) of lr, one column 10^(5/5) of wd
        assert columns == pytest.approx(rows * 3 / 4, abs=0.02)
    assert lines("l2") == []


def test_unusable_settings_have_signs_of_their_own(plan, records):
    coefficient = plan.coefficients["decoupled"]

    def at(r, row, column):
        return (r["rule"], r["lr"], r["weight_decay"]) == (
            "decoupled",
            LRS[row],
            coefficient[column],
        )

    own = []
    for r in records:
        if at(r, 0, 0) and r["seed"] == 1:
            r = {
                **r,
                "status": "failed",
                "metrics": {},
                "error": "Traceback\nValueError: <b>no</b>",
            }
        if at(r, 1, 1):
            r = {**r, "status": "pruned", "progress": 0.4}
        if at(r, 2, 2):
            r = {**r, "diverged": True, "metrics": {"test_error": math.nan}}
        if at(r, 3, 3) and r["seed"] > 0:
            continue
        own.append(r)
    html = build(own, plan).html
    Page(html)
    found = cells(maps(html)["map-1"])
    by_kind = {
        k: [t for f, t in found if f == f"url(#map-1-{k})"]
        for k in ("failed", "pruned", "diverged")
    }
    assert {k: len(v) for k, v in by_kind.items()} == {"failed": 1, "pruned": 1, "diverged": 1}
    assert by_kind["failed"][0].endswith(": failed (ValueError: <b>no</b>)")
    assert by_kind["pruned"][0].endswith(": pruned (stopped at 40% of the training)")
    assert sum("(1 of 3 seeds)" in t for _, t in found) == 1
    assert "1 training failed: 1 of decoupled." in html
    assert f"{3 + len(plan.confirm_seeds)} trainings stopped early, at 40% of the training" in html
    assert "<code>Traceback\nValueError: &lt;b&gt;no&lt;/b&gt;</code>" in html
    assert "rule decoupled, lr 0.0001" in html


def test_other_parameters_are_drawn_against_weight_decay():
    plan = meta(("decoupled",), lrs=LRS, strengths=STRENGTHS)
    params = {"momentum": [0.8, 0.9], "augmentation": ["no", "flip"]}
    plan = replace(plan, params=params)
    own = [
        {**r, "params": {"momentum": m, "augmentation": a}}
        | {"metrics": {"test_error": r["metrics"]["test_error"] + 10.0 * (m - 0.8) + len(a)}}
        for r in landscape(plan, slopes={"decoupled": 0.0}, noise=0.05)
        for m in params["momentum"]
        for a in params["augmentation"]
    ]
    report = build(own, plan)
    drawn = maps(report.html)
    assert sorted(drawn) == ["map-0", "map-0-0", "map-1-0"]
    for name, rows in (
        ("map-0-0", ["momentum 0.8", "momentum 0.9"]),
        ("map-1-0", ["augmentation no", "augmentation flip"]),
    ):
        said = [title for _, title in cells(drawn[name])]
        assert len(said) == 2 * (len(STRENGTHS) + 1)
        assert [sum(t.startswith(row + ",") for t in said) for row in rows] == [
            len(STRENGTHS) + 1
        ] * 2
        assert 'class="best"' in drawn[name]
    assert "at momentum 0.8, augmentation no" in drawn["map-0"]
    best = analyse(own, plan).best.best
    assert f"lr {best.lr:.1e}".replace("e-0", "e-") in drawn["map-0-0"]
    (table,) = [t for c, t in tables(report.html).items() if c == "Best setting of each rule"]
    assert table[1][table[0].index("other parameters")] == "momentum 0.8, augmentation no"


def test_settings_off_any_grid_are_points_at_their_place():
    rng = np.random.default_rng(0)
    plan = replace(meta(("decoupled",)), lrs=[], coefficients={}, strengths={})
    places = [(10 ** rng.uniform(-4, -1), 10 ** rng.uniform(-3, 1)) for _ in range(40)]
    own = [
        record("decoupled", lr, None, wd, s, 7.0 + lr + 0.1 * s)
        for lr, wd in places
        for s in range(3)
    ]
    own += [record("none", lr, 0.0, 0.0, s, 9.0 + 0.1 * s) for lr in (1e-3, 1e-2) for s in range(3)]
    svg = maps(build(own, plan).html)["map-0"]
    assert sum("no decay" in said for _, said in cells(svg)) == 2
    group = svg[svg.index('<g class="cells"') :].split("</g>")[0]
    spots = [
        tuple(map(float, m)) for m in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', group)
    ]
    assert len(spots) == len(places)
    x, y = np.array(sorted(spots)).T
    expected = np.array(sorted((math.log(wd), math.log(lr)) for lr, wd in places)).T
    for got, want, way in ((x, expected[0], 1.0), (y, expected[1], -1.0)):
        slope, offset = np.polyfit(want, got, 1)
        assert slope * way > 0.0
        assert np.abs(slope * want + offset - got).max() < 0.2


# --- finalists ----------------------------------------------------------------------------------


def test_finalists_show_the_figures_of_the_analysis(report, plan, records):
    analysis = analyse(records, plan)
    table = tables(report.html)["Finalists on fresh seeds"]
    head, rows = table[0], {row[0] + row[1]: row for row in table[1:]}
    leader = rows[f"leads{analysis.best.rule}"]
    low, high = analysis.confirmed.interval
    shown = with_unit(analysis.confirmed.value, "%", 0.25 * (high - low))
    assert leader[head.index("test error (%)")] == shown
    assert leader[head.index("95 % interval")].replace("\xa0", " ") == spread(low, high)
    assert len(rows) == len(RULES) + 2
    named = {"none": "no decaynone", "default": "torch's defaultdecoupled"}
    for c in analysis.comparisons:
        row = rows[named.get(c.other, f"best of its rule{c.other}")]
        gain = row[head.index("leader's gain over it")].replace("\xa0", " ")
        quarter = 0.25 * (c.interval[1] - c.interval[0])
        assert gain == f"{with_unit(c.gain, 'points', quarter)} {spread(*c.interval)}"
        assert row[head.index("told apart")].startswith("yes" if c.clear or c.worse else "no")
        assert row[-1] == "3 of 3"
