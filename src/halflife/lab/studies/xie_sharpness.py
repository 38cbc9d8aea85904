"""The study of Xie et al. (000) on the sharpness of minima."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from ..statistics.valley import FloatArray
from .bench_arms import Arm, measured_cells, tuned
from .bench_runs import FRESH, OTHER, findings, mean_line, slopes
from .calls import Call, Curve, Findings, Values, study


@study("000/figure-6")
def figure_6(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Top eigenvalues by weight decay, and of AdamS and AdamW at their best."""
    n, lr = settings["seeds"], settings["lr"]
    shared = {"task": settings["task"], "schedule": settings["schedule"]}
    decays = {"adamw": settings["decoupled"], "adams": settings["stable"]}
    arms = {name: Arm("decoupled" if name == "adamw" else "stable", [lr], wds)
            for name, wds in decays.items()}  # fmt: skip
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    own = best["adamw"]
    at = {
        **arms,
        "third": arms["adamw"].at(own, 1.0 / 3.0),
        "null": arms["adamw"].none(own),
    }
    what = {"what": ["sharpness"]}
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared, **what)
    count = len(decays["adamw"])
    null = {"adamw": arms["adamw"].at(own), "none": at["null"]}
    others = yield from measured_cells(null, range(OTHER, OTHER + n + count), **shared, **what)

    def logs(each: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
        sharp = np.log(np.abs(each["sharpness"]))
        return sharp, sharp + 2.0 * np.log(each["norm"])

    unrelated = logs(others["none"])[0]
    unrelated = np.stack([unrelated[s : s + count] for s in range(n)])
    values: dict[str, Any] = {}
    for name, wds in decays.items():
        x = np.log(wds).tolist()
        sharp, scaled = logs(found[name])
        values |= {
            name: slopes(x, sharp),
            f"{name}/eigenvalue times squared norm": slopes(x, scaled),
            f"{name}/null": slopes(x, unrelated),
            f"{name}/planted": slopes(x, unrelated + 0.25 * np.array(x)),
        }
    ours = [v[:, best["adams"].place] for v in logs(found["adams"])]
    theirs = [v[:, own.place] for v in logs(found["adamw"])]
    values |= {
        "flatter": ours[0] - theirs[0],
        "flatter/eigenvalue times squared norm": ours[1] - theirs[1],
        "flatter/null": logs(others["adamw"])[0][:n] - theirs[0],
        "flatter/planted": logs(found["third"])[0] - theirs[0],
    }
    figures = [
        Curve(f"Top eigenvalue: {name}", "weight decay", "eigenvalue",
              {"measured": mean_line(wds, np.abs(found[name]["sharpness"]))},
              log_x=True, log_y=True)
        for name, wds in decays.items()
    ]  # fmt: skip
    return findings(values, figures, [f"{name}: chosen {choice}" for name, choice in best.items()])
