"""The ridge finds the slope and the noise that a synthetic landscape was made of."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from halflife.lab import ridge as ridge_module
from halflife.lab.ridge import Ridge, fit_ridge
from halflife.lab.valley import valleys

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


