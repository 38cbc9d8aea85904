"""Measure the ridge's interval and verdict on landscapes whose slope is known: docs/lab_ridge.json.

    python scripts/lab_simulation_ridge.py            # about five minutes on two cores
    python scripts/lab_simulation_ridge.py --quick    # a fifteenth of that, printed only
    python scripts/lab_simulation_ridge.py --page     # docs/lab_ridge.md from the last results

Every landscape is a valley over log weight_decay whose bottom lies on a line over log lr, drawn anew
in slope and position, with a bowl over log lr and noise a seed. A kind changes one thing of the
plainest one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halflife.lab.ridge import SEPARABLE, fit_ridge

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "lab_ridge.json"
PAGE = ROOT / "docs" / "lab_ridge.md"

SLOPES = (-1.0, -0.6, -0.2, 0.0, 0.1, 0.6)
LANDSCAPES, QUICK = 600, 40
BOWL = 0.1  # rise over log lr, squared


@dataclass(frozen=True)
class Kind:
    """One kind of landscape.

    Attributes:
        name: what is special about it.
        rows: learning rates from 1e-4 to 1e-1.
        columns: weight decays, evenly spaced in the logarithm, or listed.
        lowest: the lowest of them.
        highest: the highest.
        shape: of the valley over the weight decay.
        width: distance from the bottom, in log units, at which it has risen by 1.
        noise: standard deviation between seeds.
        shared: distance in log units over which neighbours of a row err together.
        growing: by how much the noise grows for each unit of rise.
        seeds: runs a cell.
    """

    name: str
    rows: int = 9
    columns: int | tuple[float, ...] = 9
    lowest: float = 1e-5
    highest: float = 1.0
    shape: str = "parabola"
    width: float = 1.8
    noise: float = 0.3
    shared: float = 0.0
    growing: float = 0.0
    seeds: int = 3

    @property
    def grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        listed = isinstance(self.columns, tuple)
        columns = self.columns if listed else np.geomspace(self.lowest, self.highest, self.columns)
        return np.geomspace(1e-4, 1e-1, self.rows), np.array(columns, dtype=float)


LISTED = (1e-5, 1e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 0.3, 1.0)
KINDS = (
    Kind("the plainest"),
    Kind("two seeds", seeds=2),
    Kind("five seeds", seeds=5),
    Kind("17x17", rows=17, columns=17),
    Kind("33x33", rows=33, columns=33),
    Kind("33x33, two seeds", rows=33, columns=33, seeds=2),
    Kind("columns as listed, uneven", columns=LISTED),
    Kind("5x7, a coarse grid", rows=5, columns=7),
    Kind("narrow valley", width=0.9),
    Kind("narrow valley, 33x33", width=0.9, rows=33, columns=33),
    Kind("wide valley", width=3.0),
    Kind("wide valley, 33x33", width=3.0, rows=33, columns=33),
    Kind("much noise", noise=0.9),
    Kind("much noise, 33x33", noise=0.9, rows=33, columns=33),
    Kind("little noise", noise=0.03),
    Kind("little noise, 33x33", noise=0.03, rows=33, columns=33),
    Kind("asymmetric, 4 times steeper above", shape="asymmetric"),
    Kind("asymmetric, 33x33", shape="asymmetric", rows=33, columns=33),
    Kind("flattens out at 4", shape="plateau"),
    Kind("flattens out, 33x33", shape="plateau", rows=33, columns=33),
    Kind("a cliff above", shape="cliff"),
    Kind("a cliff above, 33x33", shape="cliff", rows=33, columns=33),
    Kind("neighbours err together", shared=1.5),
    Kind("neighbours err together, 33x33", shared=1.5, rows=33, columns=33),
    Kind("neighbours err together, two seeds", shared=1.5, seeds=2),
    Kind("noise grows with the error", growing=0.5),
    Kind("the ridge leaves the grid", lowest=1e-4, highest=1e-1, columns=13),
)


def valley(shape: str, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rise at a distance from the bottom, in units of the valley's width."""
    if shape == "asymmetric":
        return np.where(z > 0.0, 4.0 * z**2, z**2)
    if shape == "plateau":
        return 4.0 * -np.expm1(-((z / 2.0) ** 2))
    return z**2 + (30.0 * (z > 1.0) if shape == "cliff" else 0.0)


def landscape(kind: Kind, slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Errors of one landscape, shape (rows, columns, seeds)."""
    lrs, columns = kind.grid
    x, y = np.log(columns), np.log(lrs) - np.log(lrs).mean()
    centre = 0.5 * (np.log(kind.lowest) + np.log(kind.highest)) + rng.uniform(-0.7, 0.7)
    rise = valley(kind.shape, (x - centre - slope * y[:, None]) / kind.width)
    noise = rng.standard_normal((kind.rows, len(x), kind.seeds))
    if kind.shared:  # stationary: exp(-d^2 / 2 shared^2)
        correlation = np.exp(-0.5 * ((x - x[:, None]) / kind.shared) ** 2)
        values, vectors = np.linalg.eigh(correlation)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        noise = np.einsum("ck,rks->rcs", root, noise)
    noise *= kind.noise * (1.0 + kind.growing * rise)[..., None]
    shift = rng.standard_normal(kind.seeds)  # a seed that is better everywhere
    return 7.0 + (BOWL * y**2)[:, None, None] + rise[..., None] + noise + shift


def simulate(kind: Kind, landscapes: int, seed: int) -> dict[str, Any]:
    """One row of the table: what the ridge says of many landscapes of one kind."""
    rng = np.random.default_rng(seed)
    held, widths, misses, verdicts, wrong, seconds = [], [], [], 0, 0, 0.0
    lrs, columns = kind.grid
    for trial in range(landscapes):
        slope = SLOPES[trial % len(SLOPES)]
        errors = landscape(kind, slope, rng)
        start = time.perf_counter()
        ridge = fit_ridge(lrs, columns, errors)
        seconds += time.perf_counter() - start
        if ridge.slope is not None:
            misses.append(ridge.slope - slope)
        if ridge.low is not None and ridge.high is not None:
            held.append(ridge.low <= slope <= ridge.high)
            widths.append(ridge.high - ridge.low)
        if ridge.verdict != "undecided":
            verdicts += 1
            wrong += (ridge.verdict == "separable") != (abs(slope) <= SEPARABLE)
    return {
        **asdict(kind),
        "columns": len(columns),
        "listed": isinstance(kind.columns, tuple),
        "landscapes": landscapes,
        "intervals": len(held),
        "coverage": round(float(np.mean(held)), 4) if held else None,
        "width_of_interval": round(float(np.median(widths)), 4) if widths else None,
        "bias": round(float(np.mean(misses)), 4) if misses else None,
        "sd": float(np.std(misses)),
        "bias_error": round(float(np.std(misses) / math.sqrt(len(misses))), 4) if misses else None,
        "decided": round(verdicts / landscapes, 4),
        "wrong": wrong,
        "seconds": round(seconds / landscapes, 4),
    }


def _simulate(job: tuple[Kind, int, int]) -> dict[str, Any]:
    return simulate(*job)
