"""The ridge finds the slope and the noise that a synthetic landscape was made of."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from halflife.lab.statistics.ridge import fit_ridge

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import lab_simulation_ridge as simulation  # noqa: E402

LRS = np.geomspace(1e-4, 1e-1, 9)
WDS = np.geomspace(1e-5, 1.0, 13)


def valley(slope, lrs=LRS, wds=WDS, center=-5.0, curvature=0.3):
    """A parabolic valley over log wd; its bottom is on a line of this slope, its floor a bowl."""
    y = np.log(lrs) - np.log(lrs).mean()
    z = np.log(wds)[None, :] - center - slope * y[:, None]
    return 7.0 + 0.1 * y[:, None] ** 2 + curvature * z**2


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
    """0.3 of the depth above the lowest; the depth is the rise 3 log units from the bottom.

    Both, z = 0 and 3, are columns: the depth is 0.3 * 3^2.
    """
    lrs, columns = np.geomspace(1e-4, 1e-1, 33), np.exp(-5.0 + np.arange(-6.0, 6.5, 0.5))
    error = valley(0.0, lrs, columns)
    bowl = 0.5 * (np.log(lrs) - np.log(lrs).mean()) ** 2  # valley() has 0.1 of it
    ridge = fit_ridge(lrs, columns, (error + 0.8 * bowl[:, None])[..., None])
    assert ridge.lrs == pytest.approx(tuple(lrs[bowl <= 0.3 * 0.3 * 9.0]))
    error[0] += 100.0
    assert lrs[0] not in fit_ridge(lrs, columns, error[..., None]).lrs


def test_noise_admits_more_rows():
    """Rows count that noise cannot tell from the best: two standard errors of the difference."""
    rng = np.random.default_rng(0)
    exact = valley(0.0)[..., None]
    noisy = exact + 1.2 * rng.standard_normal((9, 13, 3))
    assert len(fit_ridge(LRS, WDS, noisy).lrs) > len(fit_ridge(LRS, WDS, exact).lrs)


@pytest.mark.parametrize("height", [10.0, 80.0])
def test_a_cliff_beside_the_valley_does_not_tilt_the_ridge(height):
    """Where too much decay ruins training, the cap leaves the bottom nearly where it is.

    Beside a wall that is always as far from the bottom all rows are moved alike.
    """
    error = valley(0.3, center=-7.0)
    z = np.log(WDS)[None, :] + 7.0 - 0.3 * (np.log(LRS) - np.log(LRS).mean())[:, None]
    ridge = fit_ridge(LRS, WDS, np.where(z > 1.5, error + height, error)[..., None])
    assert ridge.slope == pytest.approx(0.3, abs=0.03)


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
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=1e-9)


def test_cells_without_a_value_are_passed_over():
    error = valley(0.0)
    runs = error[..., None] + np.zeros(3)
    runs[0, 0] = np.nan  # far from the valley
    runs[8, 12, 1] = np.nan
    assert fit_ridge(LRS, WDS, runs).slope == pytest.approx(0.0, abs=1e-9)
    at = int(error[4].argmin())
    runs[4, at + 1] = np.nan  # beside the bottom: there is no parabola through it
    ridge = fit_ridge(LRS, WDS, runs)
    assert LRS[4] not in ridge.lrs
    assert ridge.coefficients == pytest.approx((math.exp(-5.0),) * len(ridge.lrs))
    runs[4, at:] = np.nan  # nothing on that side: this row has no bracket
    ridge = fit_ridge(LRS, WDS, runs)
    assert LRS[4] not in ridge.lrs
    assert ridge.unbounded_rows == 1
    assert fit_ridge(LRS, WDS, np.full((9, 13, 3), np.nan)).verdict == "undecided"


# --- units, sizes, ties -------------------------------------------------------------------------


def noisy(slope=0.3, noise=0.3, seeds=3, rows=9, columns=13, seed=0):
    lrs, wds = np.geomspace(1e-4, 1e-1, rows), np.geomspace(1e-5, 1.0, columns)
    draws = np.random.default_rng(seed).standard_normal((rows, columns, seeds))
    return lrs, wds, valley(slope, lrs, wds)[..., None] + noise * draws


@pytest.mark.parametrize(
    ("scale", "shift"),
    [
        (1.0, -7.0),
        (1.0, -1e3),
        (1e30, 0.0),
        (1e-30, 0.0),
        (1e-200, 0.0),
        (1e200, -1e203),
        (3.0, 5.0),
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_neither_unit_nor_zero_nor_sign_matters(seeds, scale, shift):
    """errors -> a errors + b; 1e-9 is 1e-16, the rounding of a and b, times what solving adds."""
    lrs, wds, errors = noisy(seeds=seeds)
    a, b = fit_ridge(lrs, wds, errors), fit_ridge(lrs, wds, scale * errors + shift)
    assert (a.verdict, a.reason, a.lrs, a.unbounded_rows) == (
        b.verdict,
        b.reason,
        b.lrs,
        b.unbounded_rows,
    )
    assert a.slope == pytest.approx(b.slope, abs=1e-9)
    assert a.coefficients == pytest.approx(b.coefficients, rel=1e-9)
    if seeds > 1:
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=1e-9)


def test_a_lowest_error_of_zero_decides():
    """Units of percent had made nothing close to 0 but 0 itself."""
    lrs, wds, errors = noisy(slope=0.0, noise=0.05)
    assert fit_ridge(lrs, wds, errors - errors.mean(-1).min()).verdict == "separable"


@pytest.mark.parametrize("bad", [1e30, 1e308, np.inf, np.nan])
def test_ruined_cells_of_any_size_change_little(bad):
    """Too much decay ruins the two strongest columns; they are far from the bottom."""
    lrs, wds, errors = noisy(slope=-0.1, noise=0.05)
    whole = fit_ridge(lrs, wds, errors)
    errors[:, -2:] = bad
    ruined = fit_ridge(lrs, wds, errors)
    assert ruined.verdict == whole.verdict == "separable"
    assert ruined.slope == pytest.approx(whole.slope, abs=whole.high - whole.low)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e30, -1e308, 1e-320])
@pytest.mark.parametrize(
    "shape", [(9, 13, 3), (9, 13, 1), (1, 13, 3), (9, 1, 3), (1, 1, 1), (9, 2, 2)]
)
def test_a_constant_says_nothing(shape, value):
    ridge = fit_ridge(LRS[: shape[0]], WDS[: shape[1]], np.full(shape, value))
    assert (ridge.verdict, ridge.slope, ridge.low) == ("undecided", None, None)
    assert ridge.reason


def test_seeds_that_agree_to_the_last_digit_give_no_interval():
    """An interval of width zero would call any slope certain."""
    ridge = fit_ridge(LRS, WDS, np.repeat(valley(0.0)[..., None], 3, axis=-1))
    assert ridge.slope == pytest.approx(0.0, abs=1e-9)
    assert (ridge.verdict, ridge.low) == ("undecided", None)
    assert "last digit" in ridge.reason


def test_errors_that_come_in_steps_have_a_ridge():
    """Whole percents, as of 100 test examples: the bottom of a row is several cells wide."""
    lrs, wds, errors = noisy(slope=0.0, noise=0.4, columns=25)
    ridge = fit_ridge(lrs, wds, np.round(errors))
    assert ridge.verdict == "separable"
    assert ridge.low <= 0.0 <= ridge.high


def test_half_the_cells_at_zero_are_no_valley_or_an_undecided_one():
    errors = np.zeros((9, 13, 3))
    errors[:, 10:] = 1.0 + np.random.default_rng(0).random((9, 3, 3))
    assert fit_ridge(LRS, WDS, errors).verdict == "undecided"


# --- the grid -----------------------------------------------------------------------------------


def test_columns_as_listed_need_not_be_even():
    wds = np.array([1e-5, 1e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.3, 1.0])
    ridge = fit_ridge(LRS, wds, valley(0.2, wds=wds)[..., None])
    assert ridge.slope == pytest.approx(0.2, abs=0.05)  # sides of unequal density weigh unequally


@pytest.mark.parametrize(("noise", "factor"), [(0.1, 2.0), (0.9, 1.1)])
def test_a_finer_grid_narrows_the_interval(noise, factor):
    """33x33 against 9x9, the same truth: 13 times the cells, whose root is 3.7.

    Of that the wider weights on 9 columns (two of them) take some, and noise, which puts the lowest
    of many columns farther from the bottom, some more. Of the median over landscapes.
    """
    widths = {}
    for n in (9, 33):
        fits = [
            fit_ridge(*noisy(slope=0.1, noise=noise, rows=n, columns=n, seed=seed))
            for seed in range(5)
        ]
        widths[n] = np.median([f.high - f.low for f in fits])
    assert widths[9] > factor * widths[33]


def test_a_ridge_that_bends_is_less_certain_than_a_straight_one():
    """Noise alone would make the slope of a curve as certain as that of a line."""
    y = np.log(LRS) - np.log(LRS).mean()
    z = np.log(WDS)[None, :] + 5.0 - (0.3 * np.sign(np.sin(2.5 * y)))[:, None]
    draws = 0.02 * np.random.default_rng(0).standard_normal((9, 13, 3))
    bent = fit_ridge(LRS, WDS, (0.3 * z**2)[..., None] + draws)
    straight = fit_ridge(LRS, WDS, (valley(0.0) - 7.0)[..., None] + draws)
    assert bent.high - bent.low > 3.0 * (straight.high - straight.low)


# --- simulation ---------------------------------------------------------------------------------


def test_no_kind_of_landscape_misleads():
    """12 landscapes of each kind on a coarse grid; the page has the large run.

    Of 200 or so intervals 0.91 hold the slope: 0.95 falls below that once in 200 times.
    """
    kinds = [k for k in simulation.KINDS if k.rows <= 9]
    rows = [simulation.simulate(kind, 12, seed) for seed, kind in enumerate(kinds)]
    intervals = sum(r["intervals"] for r in rows)
    assert intervals > 0.9 * 12 * len(rows)
    assert sum(r["coverage"] * r["intervals"] for r in rows) / intervals >= 0.91
    assert sum(r["wrong"] for r in rows) == 0


def test_the_page_is_written_from_the_results():
    rows = json.loads(simulation.RESULTS.read_text(encoding="utf-8"))
    assert [r["name"] for r in rows] == [kind.name for kind in simulation.KINDS]
    written = simulation.PAGE.read_text(encoding="utf-8")
    assert written == simulation.page(rows), "run python scripts/lab_simulation_ridge.py --page"


def test_the_large_simulation_holds_what_is_claimed():
    """Nominal 0.95, and hardly a wrong verdict; what lies outside is named on the page."""
    rows = json.loads(simulation.RESULTS.read_text(encoding="utf-8"))
    assert 0.94 <= np.mean([r["coverage"] for r in rows]) <= 0.98
    assert sum(r["wrong"] for r in rows) <= 0.001 * sum(r["landscapes"] for r in rows)
    by_name = {r["name"]: r for r in rows}
    for fine in (
        n for n in by_name if n.endswith(", 33x33") and n.removesuffix(", 33x33") in by_name
    ):
        coarse = by_name[fine.removesuffix(", 33x33")]
        assert by_name[fine]["width_of_interval"] < coarse["width_of_interval"]
