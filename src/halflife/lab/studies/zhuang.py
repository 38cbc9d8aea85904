"""Studies of Zhuang et al. (004) and of "Weight decay no more" (002)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import torch

from .bench_arms import Arm, measured_cells, tuned
from .bench_runs import FRESH, OTHER, findings, mean_line, run, slopes
from .calls import Call, Curve, Findings, Values, call, study

CHANCE = 85.0  # percent: a network above it has not learnt


def _deep(settings: Mapping[str, Any], depth: int, batch_norm: bool = False) -> dict[str, Any]:
    """The leaky-ReLU network of so many layers."""
    return {"kind": "digits", "widths": [settings["width"]] * (depth - 1),
            "slope": settings["slope"], "batch_norm": batch_norm,
            **{k: settings[k] for k in ("images", "label_noise") if k in settings}}  # fmt: skip


@study("004/figure-2")
def figure_2(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """AdamW and Adam with L2 by depth, with and without batch norm."""
    n, depths = settings["seeds"], settings["depths"]
    deepest = depths[-1]
    shared = {"schedule": "constant", "epochs": settings["epochs"]}
    arms = {}
    for depth, batch_norm in [*((d, False) for d in depths), (deepest, True)]:
        task = {"task": _deep(settings, depth, batch_norm)}
        name = f"{depth} bn" if batch_norm else str(depth)
        arms[f"adamw {name}"] = Arm("independent", settings["lr"], settings["independent"], task)
        arms[f"adam {name}"] = Arm("l2", settings["lr"], settings["l2"], task)
    arms[f"decay {deepest} bn"] = Arm(
        "independent", settings["lr"], settings["independent"][1:],
        {"task": _deep(settings, deepest, True)},
    )  # fmt: skip
    arms["sgd"] = Arm("l2", settings["lr_sgd"], [0.0],
                      {"task": _deep(settings, deepest), "optimizer": "sgd"})  # fmt: skip
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    normed = f"decay {deepest} bn"
    least = settings["independent"][1]  # where none is best, a hundredth more of the least
    for arm in (*(f"adamw {d}" for d in depths), normed):
        choice = best[arm]._replace(weight_decay=max(best[arm].weight_decay, least))
        at[f"far {arm}"] = arms[arm].far(choice)
        at[f"near {arm}"] = arms[arm].at(choice, 1.01)
    at["none"] = arms[normed].none(best[f"adamw {deepest} bn"])
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    null = {k: at[k] for k in (*(f"adamw {d}" for d in depths), "none")}
    others = yield from measured_cells(null, range(OTHER, OTHER + n), **shared)

    error = {name: each["test"] for name, each in found.items()}
    other = {name: each["test"] for name, each in others.items()}
    gaps = np.stack([error[f"adam {d}"] - error[f"adamw {d}"] for d in depths], axis=1)
    nulls = np.stack([other[f"adamw {d}"] - error[f"adamw {d}"] for d in depths], axis=1)
    fars = np.stack([error[f"far adamw {d}"] - error[f"adamw {d}"] for d in depths], axis=1)
    x = np.log(depths).tolist()
    values = {
        "better": -gaps.mean(1),
        "better/null": -nulls.mean(1),
        "better/planted": -fars.mean(1),
        "deeper": slopes(x, gaps),
        "deeper/null": slopes(x, nulls),
        "deeper/planted": slopes(x, nulls) + 5.0,
        "batch-norm": error[f"adam {deepest} bn"] - error[f"adamw {deepest} bn"],
        "batch-norm/null": error[f"far {normed}"] - error[normed],
        "batch-norm/planted": error[f"near {normed}"] - error[normed],
        "batch-norm-no-decay": error[normed] - error["none"],
        "batch-norm-no-decay/null": other["none"] - error["none"],
        "batch-norm-no-decay/planted": error[f"far {normed}"] - error["none"],
        "sgd": error["sgd"] - error[f"adamw {deepest}"],
        "sgd/null": other[f"adamw {deepest}"] - error[f"adamw {deepest}"],
        "sgd/planted": fars[:, -1],
    }
    lines = {
        name: mean_line(depths, np.stack([error[f"{arm} {d}"] for d in depths], axis=1))
        for arm, name in (("adamw", "AdamW"), ("adam", "Adam with L2"))
    }
    figure = Curve("Test error without batch norm", "layers", "test error, %", lines, log_x=True)
    notes = [
        f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
        + (f"; {dead:.0%} have not learnt" if (dead := (error[name] > CHANCE).mean()) else "")
        for name, choice in best.items()
    ]
    return findings(values, [figure], notes)


@study("004/figure-4")
def figure_4(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Errors with the loss times 1, 3, 10 and 100."""
    n, lr = settings["seeds"], settings["lr"]
    shared = {"schedule": "constant", "epochs": settings["epochs"]}
    decays = {
        "adamw": ("independent", settings["independent"]),
        "adamprox": ("adamprox", settings["independent"]),
        "adam": ("l2", settings["l2"]),
        "adams": ("stable", settings["stable"]),
    }
    arms = {
        f"{name} {factor}": Arm(rule, lr, wds, {"task": {**settings["task"], "factor": factor}})
        for factor in (1.0, 10.0, 100.0)
        for name, (rule, wds) in decays.items()
    }
    hundredfold = [100.0 * wd for wd in settings["l2"]]
    arms["rescaled"] = Arm("l2", lr, hundredfold, arms["adam 100.0"].shared)
    arms["more"] = Arm("l2", lr, hundredfold, arms["adam 1.0"].shared)
    arms["three"] = Arm("independent", lr, settings["independent"],
                        {"task": {**settings["task"], "factor": 3.0}})  # fmt: skip
    found = yield from measured_cells(arms, range(FRESH, FRESH + n), **shared)
    error = {name: each["test"] for name, each in found.items()}

    def change(name: str, base: str) -> np.ndarray:
        return np.asarray((error[name] - error[base]).mean(1))

    def size(name: str, base: str) -> np.ndarray:
        return np.asarray(np.abs(error[name] - error[base]).mean(1))

    steady = size("adamw 100.0", "adamw 1.0")
    more, three = change("more", "adam 1.0"), change("three", "adamw 1.0")
    values = {
        "adamw": change("adamw 100.0", "adamw 1.0"),
        "adamprox": change("adamprox 100.0", "adamprox 1.0"),
        "adam-l2-rescaled": change("rescaled", "adam 1.0"),
        "adam-l2": size("adam 100.0", "adam 1.0") - steady,
        "adams": size("adams 100.0", "adams 1.0") - steady,
    }
    for claim in ("adamw", "adamprox", "adam-l2-rescaled"):
        values |= {f"{claim}/null": more, f"{claim}/planted": three}
    for claim in ("adam-l2", "adams"):
        values[f"{claim}/null"] = size("three", "adamw 1.0") - steady
        values[f"{claim}/planted"] = size("more", "adam 1.0") - steady
    figures = [
        Curve(f"Best test error by weight decay: {label}", "weight decay", "test error, %",
              {f"loss x{factor:g}": mean_line(wds, _lowest(error[f"{name} {factor}"], len(wds)))
               for factor in (1.0, 10.0, 100.0)}, log_x=True)
        for name, label in (("adamw", "AdamW"), ("adam", "Adam with L2"), ("adams", "AdamS"))
        for wds in [decays[name][1]]
    ]  # fmt: skip
    return findings(values, figures)


def _lowest(errors: np.ndarray, columns: int) -> np.ndarray:
    """Of the learning rates, the one whose mean is lowest at each weight decay; by seed."""
    table = errors.reshape(len(errors), -1, columns)
    best = table.mean(0).argmin(0)
    return np.asarray(table[:, best, np.arange(columns)])


def zeros(**settings: Any) -> Values:
    """Share of the weights that are exactly zero, of each cell of a `run`."""
    bench = run(**settings)
    parts = [(p == 0).flatten(1) for p in bench.ensemble.params.values()]
    share = torch.cat(parts, 1).double().mean(1)[: len(bench.members)]
    return {**bench.scores(), "zeros": share.tolist()}


@study("004/figure-5")
def figure_5(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """AdamProx, AdamProxL2 and AdamProxL1 beside AdamW."""
    n, lr = settings["seeds"], settings["lr"]
    shared = {"task": settings["task"], "schedule": "constant", "epochs": settings["epochs"]}
    arms = {
        "adamw": Arm("independent", lr, settings["independent"]),
        "adamprox": Arm("adamprox", lr, settings["independent"]),
        "adamproxl2": Arm("adamproxl2", lr, settings["adamproxl2"]),
    }
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    at["far"] = arms["adamw"].far(best["adamw"])
    at["near"] = arms["adamw"].at(best["adamw"], 1.01)
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    grids = {f"{name} grid": arms[name] for name in ("adamw", "adamprox")}
    surfaces = yield from measured_cells(grids, range(FRESH, FRESH + n), **shared)
    middle = lr[len(lr) // 2]
    wds = settings["adamproxl1"]
    cells = [*(("adamproxl1", middle, wd) for wd in wds),
             *(("independent", middle, wd) for wd in settings["independent"])]  # fmt: skip
    sparse = yield [call(zeros, seed=FRESH + s, cells=cells, **shared) for s in range(n)]
    error = {name: each["test"] for name, each in found.items()}
    share = np.array([each["zeros"] for each in sparse])
    x = np.log(wds).tolist()
    ours, dense = share[:, : len(wds)], share[:, len(wds) :]
    far, near = error["far"] - error["adamw"], error["near"] - error["adamw"]
    values = {
        "adamprox": (surfaces["adamprox grid"]["test"] - surfaces["adamw grid"]["test"]).mean(1),
        "adamproxl2": error["adamproxl2"] - error["adamw"],
        "zeros": slopes(x, ours),
        "zeros/null": slopes(x, dense),
        "zeros/planted": 3.0 * slopes(x, ours),
        **{f"{claim}/null": far for claim in ("adamprox", "adamproxl2")},
        **{f"{claim}/planted": near for claim in ("adamprox", "adamproxl2")},
    }
    figure = Curve("Weights that are exactly zero", "weight decay of AdamProxL1", "share",
                   {"AdamProxL1": mean_line(wds, ours)}, log_x=True)  # fmt: skip
    notes = [f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, [figure], notes)


def spreads(**settings: Any) -> Values:
    """Standard deviation of log2 of the size of the last update, of each cell of a `run`.

    ``live``: over the coordinates that have had a gradient; ``all``: over those that moved.
    """
    bench = run(**settings)
    optimizer = bench.ensemble.native
    sizes = []
    for p in optimizer.param_groups[0]["params"]:
        state = optimizer.state[p]
        sizes.append((state["exp_avg"].abs() / (state["exp_avg_sq"].sqrt() + 1e-8)).flatten(1))
    live = [(g != 0).flatten(1) for g in bench.gradients(*bench.rows())]
    table, alive = torch.cat(sizes, 1).double(), torch.cat(live, 1)
    out: Values = {"live": [], "all": []}
    for index in range(len(bench.members)):
        for name, where in (("live", alive[index]), ("all", torch.ones_like(alive[index]))):
            values = table[index][where & (table[index] > 0)]
            out[name].append(float(values.log2().std()))
    return out


@study("004/histograms")
def histograms(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """How far the sizes of updates are spread."""
    n, lr, depths = settings["seeds"], settings["lr"], settings["depths"]
    cells = [("independent", lr, settings["independent"]), ("l2", lr, settings["l2"]),
             ("l2", lr, 100.0 * settings["l2"])]  # fmt: skip
    shared = {"schedule": "constant", "epochs": settings["epochs"], "cells": cells}
    found = yield [
        call(spreads, seed=first + s, task=_deep(settings, depth), **shared)
        for first in (FRESH, OTHER) for depth in depths for s in range(n)
    ]  # fmt: skip

    def of(name: str) -> np.ndarray:
        table = np.array([each[name] for each in found])
        return table.reshape(2, len(depths), n, len(cells)).mean(1)

    live, every = of("live"), of("all")
    values = {
        "spread": live[0, :, 0] - live[0, :, 1],
        "spread/all coordinates": every[0, :, 0] - every[0, :, 1],
        "spread/null": live[1, :, 0] - live[0, :, 0],
        "spread/planted": live[0, :, 0] - live[0, :, 2],
    }
    return findings(values)


@study("002/grid")
def grid_002(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """AdamW and AdamP, each at its best."""
    n, lr = settings["seeds"], settings["lr"]
    shared = {"task": settings["task"], "schedule": "cosine", "epochs": settings["epochs"]}
    arms = {
        "adamw": Arm("decoupled", lr, settings["decoupled"]),
        "adamp": Arm("adamp_blog", lr, settings["adamp_blog"]),
    }
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    at["far"] = arms["adamw"].far(best["adamw"])
    at["near"] = arms["adamw"].at(best["adamw"], 1.01)
    at["more"] = arms["adamw"].at(best["adamw"], 10.0)
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    others = yield from measured_cells({"null": at["adamw"]}, range(OTHER, OTHER + n), **shared)
    error = {name: each["test"] for name, each in found.items()}
    norm = {name: np.log(each["norm"]) for name, each in found.items()}
    values = {
        "as-good": error["adamp"] - error["adamw"],
        "as-good/null": error["far"] - error["adamw"],
        "as-good/planted": error["near"] - error["adamw"],
        "norm": norm["adamp"] - norm["adamw"],
        "norm/null": np.log(others["null"]["norm"]) - norm["adamw"],
        "norm/planted": norm["more"] - norm["adamw"],
    }
    notes = [f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)
