"""What the lab's choices cost: who trains, and where it is recorded.

    python -m benchmarks lab

Executors: the same cells by each of them, in seconds a cell, started processes aside. Those of a
task can be stacked; the lab decides by timing some steps, and its choice is compared with the best.
Kinds alternate, so that a change in the machine's load meets all. Ledger: claiming and recording
one cell, without training, when there are few records and when there are ten thousand.
"""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from halflife import lab
from halflife.lab.executors.base import Executor
from halflife.lab.ledger import Ledger
from halflife.lab.tasks import TaskTraining, Training, find_task
from halflife.lab.trials.bases import OptimizerKind
from halflife.lab.trials.cell import Cell, Outcome
from halflife.lab.trials.job import Job, Portion

REQUIRED = 4.3  # models of digits trained stacked in the time of one, on one core
SLOWER = 1.1  # no choice of the lab may take longer than the best by more
TRAININGS = ("digits", "digits-bn", "a plain loop")
CHUNK = 64  # cells that are stacked
ALONE = 6  # cells that each process trains one by one
RECORDS = 300  # that are timed
MANY = 10_000  # records that are there already


def cells(count: int) -> Iterator[Cell]:
    """Cells of one seed: two rules, learning rates and decays as in the demo."""
    for index in range(count):
        rule = ("decoupled", "independent")[index * 2 // count]
        lr = 10.0 ** (-4 + 3 * (index % 8) / 7)
        yield Cell(rule, lr, 10.0 ** (-3 - index // 8 % 8 / 7), 0)


def plain(trial: lab.Trial) -> float:
    """A small network by a plain loop, as a user writes it."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = trial.optimizer(model)
    inputs, targets = torch.randn(400, 64), torch.randint(0, 10, (400,))
    for _ in trial.epochs(5):
        for rows in torch.randperm(400).split(50):
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return float(loss.detach())


def seconds_a_cell(executor: Executor, job: Job, chunk: int, count: int) -> float:
    """Of so many cells, handed over in pieces; starting the processes is not counted."""
    wanted = list(cells(count))
    pieces = [
        Portion(tuple(wanted[i : i + chunk]), stacked=chunk > 1) for i in range(0, count, chunk)
    ]
    with executor:
        executor.open(job)
        for wanted_once in (wanted[0], wanted[-1]):  # both rules in each process
            _all(executor, [Portion((wanted_once,))] * executor.slots)
        start = time.perf_counter()
        _all(executor, pieces)
        return (time.perf_counter() - start) / count


def _all(executor: Executor, pieces: list[Portion]) -> None:
    waiting, hand = list(enumerate(pieces)), 0
    while waiting or hand:
        while waiting and hand < executor.slots:
            executor.submit(*waiting.pop(0))
            hand += 1
        for done in executor.wait(1.0):
            assert done.outcomes is not None, done.error
            assert all(o.status == "done" for o in done.outcomes), done.outcomes[0].error
            hand -= 1


def executors(
    rounds: int, trainings: Sequence[str] = TRAININGS, stack: int = CHUNK, alone: int = ALONE
) -> list[dict[str, Any]]:
    """Print and return seconds a cell, by training and executor."""
    rows = []
    for name in trainings:
        train: Any = plain
        kinds: dict[str, tuple[Callable[[], Executor], int, int]] = {
            "in this process": (lambda: lab.InProcess("cpu"), 1, alone),
            "1 process": (lambda: lab.Local(1), 1, alone),
            "2 processes": (lambda: lab.Local(2), 1, 2 * alone),
        }
        chosen = "2 processes"
        if name != "a plain loop":
            task = find_task(name)
            train = TaskTraining(
                Training(task, "adamw", task.epochs, task.batch_size, task.schedule)
            )
            kinds |= {
                "stacked in this process": (lambda: lab.InProcess("cpu"), stack, stack),
                "stacked in 2 processes": (lambda: lab.Local(2), stack, 2 * stack),
            }
            stacked, single = train.speeds(stack)
            chosen = "stacked in 2 processes" if stacked > single else "2 processes"
        job = Job(train, OptimizerKind("adamw"), (lab.Metric("loss"),))
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, (make, chunk, count) in kinds.items():
                times[kind].append(seconds_a_cell(make(), job, chunk, count))
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        best = min(medians.values())
        for kind, values in times.items():
            row = {
                "training": name,
                "executor": kind,
                "seconds": medians[kind],
                "low": min(values),
                "high": max(values),
                "best": medians[kind] / best,
                "chosen": kind == chosen,
            }
            rows.append(row)
            mark = ", the lab's choice" if row["chosen"] else ""
            print(
                f"  {name}, {kind}: {1e3 * medians[kind]:.1f} ms a cell "
                f"({1e3 * min(values):.1f} to {1e3 * max(values):.1f}), {row['best']:.2f} times "
                f"the best{mark}"
            )
    return rows


def ledgers(records: int = RECORDS, many: int = MANY) -> list[dict[str, Any]]:
    """Print and return milliseconds a record, by kind of ledger."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        out = Path(folder)
        kinds: dict[str, dict[str, Any]] = {
            "memory": {"out": None},
            "journal": {"out": out / "journal"},
            "SQLite": {"out": out / "sqlite", "storage": f"sqlite:///{out}/runs.db"},
        }
        if missing := _without_postgres():
            print(f"  PostgreSQL: not measured: {missing}")
        else:
            from scripts.services import postgres

            url = stack.enter_context(postgres()).url
            kinds["PostgreSQL"] = {"out": out / "postgres", "storage": url}
        for kind, options in kinds.items():
            with Ledger(writing=True, **options) as ledger:
                ledger.configure({}, {}, resume=False)
                first = _milliseconds_a_record(ledger, 0, records)
                # A database takes ten milliseconds for each: filled with fewer.
                there = many if kind in ("memory", "journal") else many // 10
                _milliseconds_a_record(ledger, records, there - records)
                last = _milliseconds_a_record(ledger, there, records)
            rows.append({"ledger": kind, "first": first, "there": there, "last": last})
            print(
                f"  {kind}: {first:.1f} ms to claim and record a cell, {last:.1f} ms when "
                f"{there:,} are there"
            )
    return rows


def _milliseconds_a_record(ledger: Ledger, first: int, count: int) -> float:
    curve = {"step": [*range(20)], "val": [0.1] * 20}
    content = Outcome(metrics={"val": 0.1, "test": 0.2}, curve=curve).as_dict()
    start = time.perf_counter()
    for index in range(first, first + count):
        for own in ledger.claim([Cell("decoupled", 0.001, 0.1, index)]):
            ledger.finish(own, content, 0.1)
    return 1e3 * (time.perf_counter() - start) / count


def _without_postgres() -> str:
    """Why it cannot be measured, if so."""
    from scripts.services import postgres_programs

    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (make test-cluster installs it)"
    return "" if postgres_programs() else "PostgreSQL is not installed (apt-get install postgresql)"


def main(rounds: int = 3) -> dict[str, Any]:
    """Print and return all of it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as the lab's workers do, for all
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*clamped to 1")  # the strongest cells
            rows = executors(rounds)
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    time_of = {(r["training"], r["executor"]): r["seconds"] for r in rows}
    stacking = time_of["digits", "in this process"] / time_of["digits", "stacked in this process"]
    scaling = time_of["a plain loop", "1 process"] / time_of["a plain loop", "2 processes"]
    worst = max(r["best"] for r in rows if r["chosen"])
    print(
        f"  stacking digits: {stacking:.1f} times as fast a core (required {REQUIRED}); 2 "
        f"processes for 1: {scaling:.2f} times; the lab's worst choice: {worst:.2f} times the best "
        f"(at most {SLOWER})"
    )
    verdict = "met" if stacking >= REQUIRED and worst <= SLOWER else "missed"
    return {
        "executors": rows,
        "ledgers": ledgers(),
        "stacking": stacking,
        "scaling": scaling,
        "worst_choice": worst,
        "verdict": verdict,
    }
