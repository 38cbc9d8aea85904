"""Studies of Xie et al. (000): which optimizer is best, and for how many settings."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from ..statistics.valley import FloatArray
from .bench_arms import Arm, measured_cells, tuned
from .bench_runs import FRESH, OTHER, findings
from .calls import Call, Findings, Values, study

_VARIANTS = ("amsgrad", "padam", "yogi", "radam")


@study("000/table-1")
def table_1(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Errors of eight optimizers, each at its best."""
    n, lr, l2 = settings["seeds"], settings["lr"], settings["l2"]
    shared = {"task": settings["task"], "schedule": settings["schedule"]}
    adam = {"optimizer": "adamw"}
    arms = {
        "adams": Arm("stable", lr, settings["stable"], adam),
        "adamw": Arm("decoupled", lr, settings["decoupled"], adam),
        "adam": Arm("l2", lr, l2, adam),
        "sgd": Arm("l2", settings["lr_sgd"], l2, {"optimizer": "sgd"}),
        **{
            name: Arm("l2", settings["lr_padam"] if name == "padam" else lr, l2,
                      {"optimizer": name})
            for name in _VARIANTS
        },
    }  # fmt: skip
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    adamw = best["adamw"]
    at |= {
        "far": arms["adamw"].far(adamw),
        "near": arms["adamw"].at(adamw, 1.01),
    }
    grids = {f"{name} grid": arms[name] for name in ("adams", "adamw")}
    fresh = range(FRESH, FRESH + n)
    found = yield from measured_cells(at, fresh, **shared)
    surfaces = yield from measured_cells(grids, fresh, **shared)
    others = yield from measured_cells({"adamw": at["adamw"]}, range(OTHER, OTHER + n), **shared)

    error = {name: each["test"] for name, each in found.items()}
    null = others["adamw"]["test"] - error["adamw"]
    planted = error["adamw"] - error["far"]
    values = {
        "adams-adamw": error["adams"] - error["adamw"],
        "adams-sgd": error["adams"] - error["sgd"],
        "adamw-adam": error["adamw"] - error["adam"],
        "adams-variants": error["adams"] - np.mean([error[v] for v in _VARIANTS], axis=0),
        **{f"{claim}/null": null for claim in ("adams-adamw", "adamw-adam", "adams-variants")},
        **{f"{claim}/planted": planted
           for claim in ("adams-adamw", "adamw-adam", "adams-variants")},
        "adams-sgd/null": -planted,
        "adams-sgd/planted": error["near"] - error["adamw"],
        **_robust(surfaces["adams grid"]["test"], surfaces["adamw grid"]["test"]),
    }  # fmt: skip
    notes = [f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)


def _robust(ours: FloatArray, theirs: FloatArray) -> dict[str, FloatArray]:
    """Shares of the grids near the best; each seed by itself, the best over all of them."""
    best = min(ours.mean(0).min(), theirs.mean(0).min())

    def share(errors: FloatArray) -> FloatArray:
        return (errors <= best + 1.0).mean(1)

    half = len(theirs) // 2
    return {
        "robust": share(ours) - share(theirs),
        "robust/null": share(theirs[:half]) - share(theirs[half : 2 * half]),
        "robust/planted": share(ours) - share(ours + 2.0),
    }


@study("000/figure-13")
def figure_13(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Bits a character of three methods, each at its best."""
    n, lr = settings["seeds"], settings["lr"]
    shared = {"task": {"kind": "text"}, "schedule": "cosine", "epochs": settings["epochs"]}
    arms = {rule: Arm(rule, [lr], settings[rule]) for rule in ("l2", "stable", "decoupled")}
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {rule: arm.at(best[rule]) for rule, arm in arms.items()}
    far = best["stable"]._replace(weight_decay=max(best["stable"].weight_decay, 3e-5))
    at["far"] = arms["stable"].at(far, 100.0)
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    others = yield from measured_cells({"null": at["l2"]}, range(OTHER, OTHER + n), **shared)
    bits = {name: each["test"] for name, each in found.items()}
    values = {"l2-adams": bits["l2"] - bits["stable"], "l2-adamw": bits["l2"] - bits["decoupled"]}
    for claim in ("l2-adams", "l2-adamw"):
        values[f"{claim}/null"] = others["null"]["test"] - bits["l2"]
        values[f"{claim}/planted"] = bits["l2"] - bits["far"]
    notes = [f"{rule}: chosen {choice}; {bits[rule].mean():.3f} bits a character"
             for rule, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)
