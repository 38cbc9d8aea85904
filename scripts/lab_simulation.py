"""Simulate sweeps whose truth is known, and count how often the lab's statistics are right.

    python scripts/lab_simulation.py             # docs/lab_statistics.json and .md: 15 minutes
    python scripts/lab_simulation.py --quick     # a tenth of the repetitions, printed, not written

Noise is 1 between seeds, so that everything is in units of it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import lab_statistics_page
import numpy as np
from rich.progress import Progress

from halflife.lab.meta import Meta
from halflife.lab.metric import Metric
from halflife.lab.statistics.closeness import within_noise
from halflife.lab.statistics.confirmation import compare, judged
from halflife.lab.statistics.selection import Choice, best_of, noise_between_seeds
from halflife.lab.statistics.surface import AXES, BASELINE, DEFAULT, Surface

CHUNK = 100  # repetitions a job
CONFIRM = 8  # the default number of fresh seeds
EXAMPLES, BASE, SCALE = 500, 0.2, 0.3  # of the metric that is a share of wrong answers, in percent


@dataclass(frozen=True)
class Sweep:
    """What is swept, and what is true.

    Attributes:
        rules: number of rules.
        size: learning rates and weight decays of each.
        seeds: that choose.
        gain: of the best setting over the best one without decay; 0 makes all settings equal.
        noise: "normal", "heavy" tails (Student's t, 3 degrees of freedom), "uneven" (from 0.5 at
            the lowest lr to 2 at the highest), "shared" (half its variance shifts all settings of a
            seed alike) or "binomial" (errors in percent of 500 answers, 0.2 % at best).
        shape: "valley" or "cliff", with losses of 15 and 20 beyond an edge.
        confirm: number of fresh seeds.
    """

    rules: int = 1
    size: int = 9
    seeds: int = 3
    gain: float = 1.6
    noise: str = "normal"
    shape: str = "valley"
    confirm: int = CONFIRM


def truth(sweep: Sweep, rng: np.random.Generator) -> np.ndarray:
    """Losses of one rule above its lowest; shape (size, size)."""
    y = np.linspace(-3.45, 3.45, sweep.size)[:, None]  # log lr, three decades
    x = np.linspace(-5.75, 5.75, sweep.size)[None, :]  # log weight decay, five decades
    y0, x0 = rng.uniform(-1.5, 1.5), rng.uniform(-3.0, 3.0)
    z = x - x0 - rng.choice([0.0, -1.0, 0.5]) * (y - y0)
    if sweep.gain == 0.0:
        return 0.0 * z
    loss = sweep.gain * (1.0 - np.exp(-((z / 2.4) ** 2)))  # too little decay is as none
    loss = np.where(z > 0.0, np.minimum(0.4 * (z / 1.2) ** 2, 80.0), loss) + 0.12 * (y - y0) ** 2
    if sweep.shape == "cliff":
        loss = np.where(z > 1.0, loss + 20.0, loss)
        loss = np.where(y - y0 > 1.2, loss + 15.0, loss)
    return loss - loss.min()


def drawn(sweep: Sweep, loss: np.ndarray, shared: np.ndarray, rng: np.random.Generator) -> Any:
    """Runs of settings with these true losses; shape (*loss.shape, seeds)."""
    size = (*loss.shape, len(shared))
    if sweep.noise == "binomial":
        return rng.binomial(EXAMPLES, true_value(sweep, loss)[..., None] / 100.0, size) / (
            EXAMPLES / 100.0
        )
    if sweep.noise == "heavy":
        return loss[..., None] + rng.standard_t(3, size) / np.sqrt(3.0)
    noise = rng.standard_normal(size)
    if sweep.noise == "uneven":
        spread = np.geomspace(0.5, 2.0, loss.shape[0]) if loss.size > 1 else np.ones(1)
        noise *= spread.reshape(-1, *[1] * loss.ndim)
    if sweep.noise == "shared":
        noise = np.sqrt(0.5) * (noise + shared)
    return loss[..., None] + noise


def true_value(sweep: Sweep, loss: Any) -> Any:
    """The metric that a true loss means."""
    return BASE + SCALE * np.minimum(loss, 80.0) if sweep.noise == "binomial" else loss


def surface_of(rule: str, values: np.ndarray, metric: Metric) -> Surface:
    """A grid of runs as the lab sees it."""
    rows, columns = (
        tuple(np.geomspace(1e-3, 1.0, n)) if n > 1 else (0.0,) for n in values.shape[:2]
    )
    nothing = np.zeros(values.shape[:2], dtype=bool)
    unknown = np.full(values.shape[:2], np.nan)
    return Surface(
        rule, metric, AXES, rows, columns, {}, unknown[0], tuple(range(values.shape[2])),
        values, nothing, nothing, nothing, nothing, unknown,
    )  # fmt: skip


def repetitions(sweep: Sweep, count: int, seed: int) -> list[dict[str, float]]:
    """What the lab says of some sweeps, and whether it is so."""
    rng = np.random.default_rng([seed, *map(ord, repr(sweep))])
    return [_repetition(sweep, rng) for _ in range(count)]


def _repetition(sweep: Sweep, rng: np.random.Generator) -> dict[str, float]:
    share = sweep.noise == "binomial"
    metric = Metric("error", "%", examples=EXAMPLES) if share else Metric("loss")
    meta = Meta(report=metric.as_dict(), confirm_seeds=range(10_000, 10_000 + sweep.confirm))
    truths = {f"rule {i}": truth(sweep, rng) for i in range(sweep.rules)}
    bowl = np.linspace(0.0, 2.0 * (sweep.gain > 0.0), sweep.size)[:, None]
    truths[BASELINE] = sweep.gain + bowl
    truths[DEFAULT] = 0.5 * sweep.gain + bowl
    shared = rng.standard_normal(sweep.seeds)
    choices: dict[str, Choice] = {}
    for name, loss in truths.items():
        found = best_of([surface_of(name, drawn(sweep, loss, shared, rng), metric)])
        assert found is not None
        choices[name] = found
    rules = [name for name in truths if name.startswith("rule")]
    leader = min(rules, key=lambda name: choices[name].estimate)
    chosen = choices[leader]
    noise = noise_between_seeds(chosen.surface.losses.reshape(-1, sweep.seeds))
    shared = rng.standard_normal(sweep.confirm)
    true, runs = {}, {}
    for name, choice in choices.items():
        at = choice.surface.index_of(choice.setting)
        assert at is not None
        # The row is kept, since noise may differ between rows.
        row = drawn(sweep, truths[name][:, at[1] : at[1] + 1], shared, rng)[at[0], 0]
        true[name] = float(true_value(sweep, truths[name][at]))
        runs[name] = judged(choice.setting, row, metric, noise)
    (none,) = compare(runs[leader], [(BASELINE, runs[BASELINE])], meta, noise)
    others = [(name, runs[name]) for name in [*rules, DEFAULT] if name != leader]
    against = compare(runs[leader], others, meta, noise)
    best = np.unravel_index(np.argmin(truths[leader]), truths[leader].shape)
    fresh, gain = runs[leader], true[BASELINE] - true[leader]
    raw = np.nanmin(chosen.surface.mean)
    raw_at = np.unravel_index(np.nanargmin(chosen.surface.mean), truths[leader].shape)
    told = {c.other: c for c in against}
    return {
        "value covered": _covers(fresh.interval, true[leader]),
        "gain covered": _covers(none.interval, gain),
        "bias": (fresh.value or 0.0) - true[leader],
        "bias of lowest": raw - float(true_value(sweep, truths[leader][raw_at])),
        "helps": none.clear,
        "hurts": none.worse,
        "wrong": (none.clear and gain <= 0.0) or (none.worse and gain >= 0.0),
        "rules told wrongly": any(c.clear and true[n] <= true[leader] for n, c in told.items()),
        "equal": bool(none.equal),
        "best within noise": bool(within_noise(chosen, None).settings[best]),
        "within noise": within_noise(chosen, None).share,
        "lost": float(truths[leader][_index(chosen)]),
        "lost by lowest": float(truths[leader][raw_at]),
    }


def _index(choice: Choice) -> tuple[int, int]:
    at = choice.surface.index_of(choice.setting)
    assert at is not None
    return at


def _covers(interval: tuple[float, float] | None, value: float) -> bool:
    return interval is not None and interval[0] <= value <= interval[1]


def sweeps() -> dict[str, list[tuple[Sweep, int]]]:
    """By table: the sweeps to simulate, and how often."""
    sizes = ((9, 2000), (33, 400))
    return {
        "verdicts": [
            (Sweep(rules, size, seeds, gain), count)
            for size, count in sizes
            for rules in (1, 4, 8)
            for seeds in (3, 5, 10)
            for gain in (0.0, 1.6)
        ],
        "noise": [
            (Sweep(4, gain=gain, noise=noise), 2000)
            for noise in ("heavy", "uneven", "shared", "binomial")
            for gain in (0.0, 1.6)
        ],
        "fresh": [
            (Sweep(4, gain=gain, confirm=confirm), 1000)
            for confirm in (2, 3, 5, 8, 16, 32)
            for gain in (0.0, 1.6)
        ],
        "choice": [
            (Sweep(1, size, seeds, gain, shape=shape), 300)
            for size in (5, 9, 33)
            for seeds in (3, 10)
            for shape in ("valley", "cliff")
            for gain in (1.6, 5.0)
        ],
    }


def jobs(quick: bool) -> Iterator[tuple[str, Sweep, int, int]]:
    """Table, sweep, repetitions and seed of each job."""
    for table, rows in sweeps().items():
        for sweep, count in rows:
            for start in range(0, max(count // 10, CHUNK) if quick else count, CHUNK):
                yield table, sweep, CHUNK, start


def simulate(quick: bool, workers: int) -> dict[str, Any]:
    """All tables, as plain data."""
    todo = list(jobs(quick))
    found: dict[tuple[str, Sweep], list[dict[str, float]]] = {}
    context = multiprocessing.get_context("spawn")
    with Progress() as progress, ProcessPoolExecutor(workers, mp_context=context) as pool:
        bar = progress.add_task("simulating", total=len(todo))
        futures = {pool.submit(repetitions, s, n, seed): (t, s) for t, s, n, seed in todo}
        for future in as_completed(futures):
            found.setdefault(futures[future], []).extend(future.result())
            progress.advance(bar)
    return {
        table: [
            {**asdict(s), "repetitions": len(found[table, s])} | _means(found[table, s])
            for s, _ in rows
        ]
        for table, rows in sweeps().items()
    }


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}


def main() -> None:
    """Simulate, and write the results and their page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of it, printed only")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    start = time.perf_counter()
    results = simulate(arguments.quick, arguments.workers)
    print(f"{time.perf_counter() - start:.0f} s")
    if arguments.quick:
        print(lab_statistics_page.page(results))
        return
    text = json.dumps(results, indent=1)
    lab_statistics_page.RESULTS.write_text(text + "\n", encoding="utf-8")
    lab_statistics_page.write_page()


if __name__ == "__main__":
    main()
