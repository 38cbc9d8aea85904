"""What stacking buys: the demo's landscape as the lab runs it, against one model at a time.

The lab trains ensembles in two worker processes of one thread each. The other side trains one
model after the other in one process of one thread, with halflife's own optimizer; the ratio on
equal cores, one ensemble in one process, is printed too. A thousand models are not trained one by
one for a benchmark: a sample is, spread over rules, learning rates and strengths, and the time of
the whole is extrapolated from it, as every member takes the same steps. The kinds alternate, so
that a change in the machine's load meets all.

    python -m benchmarks.ensemble [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings

import torch
from halflife.lab.workers import Workers

from halflife.lab.axes import Currency, parse_axis
from halflife.lab.landscape import CHUNK
from halflife.lab.tasks import find_task
from halflife.lab.tasks.ensemble import train_ensemble, train_one
from halflife.lab.tasks.training import Member, Training
from halflife.rules.contract import as_rule

RULES = ("l2", "decoupled", "independent", "stable")
REQUIRED = 4.0
WORKERS = 2
SINGLES = 6  # models trained one by one in each repeat


def demo_members(training: Training) -> list[Member]:
    """The cells of the demo for one seed; the effective rate stands for a measured one."""
    lrs, strengths = parse_axis("lr", "1e-4:1e-1:9"), parse_axis("strength", "1e-4:1e-1:9")
    members = []
    for name in RULES:
        currency = Currency(as_rule(name), training, lrs.central, effective_rate=200.0)
        for strength in strengths.values:
            coefficient = currency.coefficient(strength)
            members += [
                Member(as_rule(name), lr, coefficient, 0)
                for lr in lrs.values
                if currency.buildable(coefficient, lr)
            ]
    return members


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def compare(task_name: str, repeats: int) -> float:
    """Print one task's figures; returns the median ratio."""
    task = find_task(task_name)
    training = Training(task, "adam", task.epochs, task.batch_size, task.schedule)
    members = demo_members(training)
    chunks = [members[i : i + CHUNK] for i in range(0, len(members) - CHUNK + 1, CHUNK)]
    singles = members[:: max(1, len(members) // (SINGLES * repeats))]
    together, one_core, alone = [], [], []
    with Workers(WORKERS) as pool:
        list(pool.map(train_ensemble, training, [members[:1]] * WORKERS))  # started and warm
        for repeat in range(repeats):
            own = [chunks[(WORKERS * repeat + i) % len(chunks)] for i in range(WORKERS)]
            start = time.perf_counter()
            list(pool.map(train_ensemble, training, own))
            together.append((time.perf_counter() - start) / (WORKERS * CHUNK))
            one_core.append(seconds(train_ensemble, training, own[0]) / CHUNK)
            sample = singles[repeat::repeats]
            alone.append(sum(seconds(train_one, training, m) for m in sample) / len(sample))
    print(
        f"{task_name}: {training.steps} steps a member, one model at a time "
        f"{1e3 * statistics.median(alone):.0f} ms a member"
    )
    ratio = report(f"{WORKERS} workers, as the lab runs it", together, alone)
    report("1 process, on equal cores", one_core, alone)
    cells = 3 * len(members)
    print(
        f"  3 seeds x {len(members)} cells, extrapolated: {cells * statistics.median(together):.0f}"
        f" s as the lab runs it, {cells * statistics.median(alone):.0f} s one model at a time "
        f"(required {REQUIRED:g}x)"
    )
    return ratio


def report(label: str, together: list[float], alone: list[float]) -> float:
    """Print a ratio with its spread over the repeats; returns the median."""
    ratios = sorted(a / b for a, b in zip(alone, together, strict=True))
    print(
        f"  ensembles of {CHUNK}, {label}: {1e3 * statistics.median(together):.0f} ms a member, "
        f"{statistics.median(ratios):.1f}x (lowest {ratios[0]:.1f}, highest {ratios[-1]:.1f}, of "
        f"{len(ratios)})"
    )
    return statistics.median(ratios)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args([] if arguments is None else arguments).repeats
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as the lab's workers do, for both
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*clamped to 1")  # the strongest cells
            ratios = [compare(task, repeats) for task in ("digits", "digits-bn")]
        return int(min(ratios) < REQUIRED)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
