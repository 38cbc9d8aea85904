"""Measure the ridge's interval and verdict on landscapes whose slope is known: docs/lab_ridge.json.

    python scripts/lab_simulation_ridge.py            # five minutes on two cores
    python scripts/lab_simulation_ridge.py --quick    # a tenth of that, printed only
    python scripts/lab_simulation_ridge.py --page     # docs/lab_ridge.md from the last results

Every landscape is a valley over log weight_decay whose bottom lies on a line over log lr, drawn
anew in position, with a bowl over log lr and noise a seed. A kind changes one thing or two of the
plainest one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halflife.lab.statistics.ridge import SEPARABLE, fit_ridge

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "lab_ridge.json"
PAGE = ROOT / "docs" / "lab_ridge.md"

SLOPES = (-1.0, -0.6, -0.2, 0.0, 0.1, 0.6)
LANDSCAPES, QUICK = 300, 30
BOWL = 0.1  # rise over log lr, squared
LEAST, MOST = 0.93, 0.98  # coverage that is taken for the nominal 0.95

HEAD = """\
# How far the ridge can be trusted

<!-- Written by scripts/lab_simulation_ridge.py: run that, do not edit this. -->

The ridge of a landscape is the line of the best weight decay over the learning rate, and its slope
says whether the two can be tuned one at a time ([Lab](api/lab.md)). Here its 95 % interval and its
verdict are put to the test on landscapes whose slope is known.

```console
$ python scripts/lab_simulation_ridge.py
```
"""
TAIL = """\
Slopes are -1, -0.6, -0.2, 0, 0.1 and 0.6, positions are drawn. A plain valley is a parabola over
log weight decay that rises by 1 at a factor of 6 (narrow: 2.5, wide: 20) from its bottom. Noise is
the standard deviation between seeds, apart from a shift of each whole seed. Weight decays reach
from 1e-5 to 1, or from 1e-4 to 0.1 where the ridge leaves them, evenly spaced in the logarithm but
for those listed; learning rates from 1e-4 to 0.1. *Width* is the median over the landscapes,
*decided* the share with a verdict. Coarse columns in an asymmetric valley are hard:
where the steep side falls between them moves the bottom of each row, more than noise does.

A finer grid narrows the interval. Where the noise is small, coarse columns lie farther from the
bottom than the interval reaches, which then is too narrow; no verdict is wrong for that.
"""


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
    held, widths, misses, verdicts, wrong = [], [], [], 0, 0
    lrs, columns = kind.grid
    for trial in range(landscapes):
        slope = SLOPES[trial % len(SLOPES)]
        errors = landscape(kind, slope, rng)
        ridge = fit_ridge(lrs, columns, errors)
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
        "bias_error": round(float(np.std(misses) / math.sqrt(len(misses))), 4) if misses else None,
        "decided": round(verdicts / landscapes, 4),
        "wrong": wrong,
    }


def ridge_rows(quick: bool = False, processes: int = 2) -> list[dict[str, Any]]:
    """The table, a mapping a kind.

    Args:
        quick: 30 landscapes a kind, in place of 300.
        processes: how many work at it; the numbers do not depend on it.
    """
    landscapes = QUICK if quick else LANDSCAPES
    jobs = [(kind, landscapes, seed) for seed, kind in enumerate(KINDS)]
    rows = []
    with get_context("spawn").Pool(processes) as pool:
        for row in pool.imap(_simulate, jobs):
            rows.append(row)
            filled = "#" * round(30 * len(rows) / len(jobs))
            print(f"\r[{filled:30s}] {len(rows)} of {len(jobs)} kinds", end="", file=sys.stderr)
    print(file=sys.stderr)
    return rows


def _simulate(job: tuple[Kind, int, int]) -> dict[str, Any]:
    return simulate(*job)


def page(rows: list[dict[str, Any]]) -> str:
    """docs/lab_ridge.md."""
    covered = [r["coverage"] for r in rows]
    total, wrong = (sum(r[name] for r in rows) for name in ("landscapes", "wrong"))
    outside = [r for r in rows if not LEAST <= r["coverage"] <= MOST]
    summary = (
        f"On {total} landscapes of {len(rows)} kinds the interval held the true slope in "
        f"{min(covered):.1%} to {max(covered):.1%} of a kind, {np.mean(covered):.1%} in the mean; "
        f"{wrong} verdicts were wrong. With {rows[0]['landscapes']} landscapes a kind, a coverage "
        f"is known to about {100.0 * math.sqrt(0.05 * 0.95 / rows[0]['landscapes']):.1f} points."
    )
    if outside:
        named = ", ".join(f"{r['name']} ({r['coverage']:.1%})" for r in outside)
        summary += f" Outside {LEAST:.0%} to {MOST:.0%}: {named}."
    lines = [
        HEAD,
        summary,
        "",
        "| kind | grid | seeds | noise | coverage | width of the interval | bias of the slope "
        "| decided | wrong |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(r) for r in rows),
        "",
        TAIL,
    ]
    return "\n".join(lines)


def _line(r: dict[str, Any]) -> str:
    cells = (
        r["name"],
        f"{r['rows']}x{r['columns']}",
        r["seeds"],
        r["noise"],
        f"{r['coverage']:.1%}",
        f"{r['width_of_interval']:.3f}",
        f"{r['bias']:+.4f} ± {r['bias_error']:.4f}",
        f"{r['decided']:.0%}",
        r["wrong"],
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Run the simulation, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few landscapes; nothing is written")
    parser.add_argument("--page", action="store_true", help="write the page from the last results")
    arguments = parser.parse_args()
    if not arguments.page:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = "1"  # before the processes start
        rows = ridge_rows(arguments.quick)
        if arguments.quick:
            print("\n".join(_line(r) for r in rows))
            return
        RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
