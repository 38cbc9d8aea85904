"""Studies of what practitioners repeat of weight decay beyond the five papers."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from ..statistics.valley import FloatArray
from .bench import Bench
from .bench_arms import Arm, measured_cells, tuned
from .bench_runs import FRESH, OTHER, cells_of, findings, run
from .calls import Call, Findings, Values, call, study


def watched(*, looks: Mapping[str, int], **settings: Any) -> Values:
    """Norms and gradient norms of a `run` after some steps, by ``norm NAME`` and ``G NAME``.

    Args:
        looks: numbers of steps, by name.
        settings: of `run`.
    """
    values: Values = {}

    def look(name: str, bench: Bench) -> None:
        values[f"norm {name}"] = bench.norms().tolist()
        values[f"G {name}"] = bench.gradient_norm().tolist()

    observe = {step: (lambda bench, name=name: look(name, bench)) for name, step in looks.items()}
    bench = run(observe=observe, **settings)
    return {**values, **bench.scores()}


@study("practice/adamc")
def adamc(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Norms, gradients and errors under AdamW and AdamC."""
    n, lr, wds = settings["seeds"], settings["lr"], settings["weight_decay"]
    steps = 8 * settings["task"]["epochs"]
    shared = {"task": settings["task"], "schedule": settings["schedule"]}
    arms = {name: Arm(rule, [lr], wds)
            for name, rule in (("adamw", "decoupled"), ("adamc", "corrected"))}  # fmt: skip
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    steep = settings["steep"]
    own, theirs = best["adamw"].weight_decay, best["adamc"].weight_decay
    cells = [
        ("decoupled", lr, steep),
        ("decoupled", lr, own),
        ("decoupled", 0.01 * lr, own),
        ("decoupled", lr, 0.75 * theirs),
        *cells_of("corrected", [lr], [steep, theirs]),
        *cells_of("decoupled", [lr], [10.0 * steep]),
    ]
    # Cosine is at three quarters after a third of the run, and at a tenth after four fifths.
    looks = {"early": round(steps / 3), "late": round(0.795 * steps)}
    found = yield [
        call(watched, seed=first + s, cells=cells, looks=looks, **shared)
        for first in (FRESH, OTHER) for s in range(n)
    ]  # fmt: skip
    found, others = found[:n], found[n:]

    def of(name: str, place: int, where: list[Values] = found) -> FloatArray:
        return np.array([each[name][place] for each in where])

    def log(name: str, place: int, where: list[Values] = found) -> FloatArray:
        return np.log(of(name, place, where))

    shrunk = log("norm late", 0) - log("norm early", 0)
    error = of("test", 1)
    values = {
        "norm-falls": shrunk,
        "norm-falls/null": log("norm early", 0, others) - log("norm early", 0),
        "norm-falls/planted": log("norm late", 6) - log("norm late", 0),
        "norm-flat": log("norm late", 4) - log("norm early", 4),
        "norm-flat/null": log("norm late", 6) - log("norm late", 0),
        "norm-flat/planted": log("norm early", 4, others) - log("norm early", 4),
        "gradient-grows": log("G late", 0) - log("G early", 0),
        "gradient-grows/null": log("G early", 0, others) - log("G early", 0),
        "gradient-grows/planted": log("G early", 0, others) - log("G early", 0) + 0.25,
        "error": of("test", 5) - error,
        "error/equal total decay": of("test", 5) - of("test", 3),
        "error/null": of("test", 1, others) - error,
        "error/planted": error - of("test", 2),
    }
    return findings(values, (), [f"{name}: chosen {choice}" for name, choice in best.items()])


@study("practice/cautious")
def cautious(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """AdamW and cautious AdamW."""
    n, lr, wds = settings["seeds"], settings["lr"], settings["weight_decay"]
    shared = {"task": settings["task"], "schedule": "cosine", "epochs": settings["epochs"]}
    arms = {"adamw": Arm("decoupled", lr, wds), "cautious": Arm("adamw_cwd", lr, wds)}
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    theirs = best["adamw"]
    at |= {
        "far": arms["adamw"].far(theirs),
        "half": arms["adamw"].at(theirs, 0.5),
        "twice": arms["cautious"].at(theirs, 2.0),
        "same": arms["cautious"].at(theirs),
    }
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    others = yield from measured_cells({"null": at["adamw"]}, range(OTHER, OTHER + n), **shared)
    error = {name: each["test"] for name, each in found.items()}
    norm = {name: np.log(each["norm"]) for name, each in found.items()}
    values = {
        "error": error["cautious"] - error["adamw"],
        "error/twice AdamW's best coefficient": error["twice"] - error["adamw"],
        "error/null": others["null"]["test"] - error["adamw"],
        "error/planted": error["adamw"] - error["far"],
        "same-coefficient": norm["same"] - norm["adamw"],
        "same-coefficient/null": np.log(others["null"]["norm"]) - norm["adamw"],
        "same-coefficient/planted": norm["half"] - norm["adamw"],
    }
    notes = [f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)


@study("practice/schedules")
def schedules(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Four schedules, each at its best."""
    n, shared = settings["seeds"], {"task": settings["task"], "epochs": settings["epochs"]}
    arms = {
        name: Arm("independent", settings["lr"], settings["independent"], {"schedule": name})
        for name in ("constant", "cosine", "linear", "wsd")
    }
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    at["far"] = arms["linear"].far(best["linear"])
    at["near"] = arms["linear"].at(best["linear"], 1.01)
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    others = yield from measured_cells({"null": at["linear"]}, range(OTHER, OTHER + n), **shared)
    error = {name: each["test"] for name, each in found.items()}
    far, near = error["far"] - error["linear"], error["near"] - error["linear"]
    values = {
        "linear-constant": error["linear"] - error["constant"],
        "linear-constant/null": others["null"]["test"] - error["linear"],
        "linear-constant/planted": -far,
        "linear-cosine": error["linear"] - error["cosine"],
        "wsd-cosine": error["wsd"] - error["cosine"],
    }
    for claim in ("linear-cosine", "wsd-cosine"):
        values |= {f"{claim}/null": far, f"{claim}/planted": near}
    notes = [f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)
