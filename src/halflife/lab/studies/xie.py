"""Studies of Xie et al., "On the Overlooked Pitfalls of Weight Decay" (000)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from ...schedules import schedule_named
from ..statistics.valley import FloatArray
from .bench_runs import FRESH, OTHER, Arms, cells_of, findings, mean_line
from .calls import Call, Curve, Findings, Values, study


@study("000/figure-1")
def figure_1(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Gradients and error of decay that does not follow the learning rate."""
    lr, wds, n = settings["lr"], settings["weight_decay"], settings["seeds"]
    curve = schedule_named(settings["schedule"], 1000)
    removed = sum(map(curve, range(1000))) / 1000  # by Eq. (2), of what Eq. (1) removes
    shared = {"task": settings["task"], "optimizer": "sgd-plain", "schedule": settings["schedule"]}
    own = {
        "first": cells_of("constant", [lr], [lr * wd for wd in wds]),
        "second": cells_of("decoupled", [lr], wds),
    }
    tuning = Arms(**own)
    tuned = yield tuning.calls(range(settings["tuning"]), **shared)
    best = {arm: tuning.chosen(arm, tuned) for arm in own}
    arms = Arms(
        **own,
        matched=cells_of("constant", [lr], [removed * lr * wd for wd in wds]),
        twofold=cells_of("constant", [lr], [2 * lr * wd for wd in wds]),
        slow=cells_of("decoupled", [lr / 2], wds),
        far=best["second"].cell("decoupled", 100.0),
    )
    what = ["G1", "objective"]
    found = yield arms.calls(range(FRESH, FRESH + n), what=what, **shared)
    others = yield tuning.calls(range(OTHER, OTHER + n), what=what, **shared)

    def logs(arm: str, name: str, of: Arms = arms, where: Sequence[Values] = found) -> FloatArray:
        return np.log(of.column(arm, where, name)).mean(1)

    error = arms.column("second", found, "test")[:, best["second"].place]
    values = {
        "error": arms.column("first", found, "test")[:, best["first"].place] - error,
        "error/null": tuning.column("second", others, "test")[:, best["second"].place] - error,
        "error/planted": arms.column("far", found, "test") - error,
    }
    for claim, name in (("objective", "objective"), ("loss", "G1")):
        base = logs("second", name)
        values |= {
            claim: logs("first", name) - base,
            f"{claim}/equal total decay": logs("matched", name) - base,
            f"{claim}/null": logs("second", name, tuning, others) - base,
        }
    values["objective/planted"] = logs("twofold", "objective") - logs("first", "objective")
    values["loss/planted"] = logs("slow", "G1") - logs("second", "G1")
    figures = [
        Curve(
            f"Final gradient norm of {what}", "weight decay", "norm",
            {label: mean_line(wds, arms.column(arm, found, name))
             for arm, label in (("first", "Eq. (1)"), ("second", "Eq. (2)"),
                                ("matched", "Eq. (1), as much decay in all"))},
            log_x=True, log_y=True,
        )
        for name, what in (("objective", "the objective"), ("G1", "the loss"))
    ]  # fmt: skip
    notes = [f"Eq. (1): chosen {best['first']}", f"Eq. (2): chosen {best['second']}"]
    return findings(values, figures, notes)
