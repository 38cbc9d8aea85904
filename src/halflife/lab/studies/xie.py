"""Studies of Xie et al., "On the Overlooked Pitfalls of Weight Decay" (000)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from ...schedules import schedule_named
from ..statistics.valley import FloatArray
from .bench_runs import FRESH, OTHER, Arms, cells_of, findings, mean_line, run, slopes
from .calls import Call, Curve, Findings, Values, call, study


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


def gradient_trend(
    *,
    seed: int,
    task: Mapping[str, Any],
    cells: Sequence[Sequence[Any]],
    optimizer: str,
    schedule: str,
) -> Values:
    """Minibatch gradient norms of trained cells, and of the first one rescaled to their norms.

    Args:
        seed: of data, weights and order.
        task: as `run` has it.
        cells: the first is the network without decay.
        optimizer: as `run` has it.
        schedule: likewise.
    """
    bench = run(seed=seed, task=task, cells=cells, optimizer=optimizer, schedule=schedule)
    norms, own = bench.norms(), bench.batch_gradient_norm().sqrt()
    values = {"G": own.tolist(), "norm": norms.tolist(), "test": bench.scores()["test"]}
    bench.only(0, norms / norms[0])
    values["rescaled"] = bench.batch_gradient_norm().sqrt().tolist()
    return values


@study("000/figure-2")
def figure_2(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Trend of the final gradient norm with the weight decay, by optimizer."""
    lrs, wds, n = settings["lr"], settings["weight_decay"], settings["seeds"]
    groups: dict[str, tuple[str, bool, dict[str, tuple[str, list[float]]]]] = {
        "sgd": ("sgd", True, {"sgd": ("l2", wds["l2_sgd"])}),
        "adam": ("adamw", True, {"adam": ("l2", wds["l2"]), "adams": ("stable", wds["stable"]),
                                 "adamw": ("decoupled", wds["decoupled"])}),
        "plain": ("adamw", False, {"without-batch-norm": ("decoupled", wds["decoupled"])}),
    }  # fmt: skip
    steps = len(wds["l2"])
    wanted: list[Call] = []
    for optimizer, normed, claims in groups.values():
        none = cells_of("decoupled", [lrs[optimizer]], [0.0])
        cells = [c for rule, w in claims.values() for c in cells_of(rule, [lrs[optimizer]], w)]
        shared = {"task": dict(settings["task"], batch_norm=normed), "optimizer": optimizer,
                  "schedule": settings["schedule"]}  # fmt: skip
        wanted += [
            call(gradient_trend, seed=FRESH + s, cells=[*none, *cells], **shared) for s in range(n)
        ]
        wanted += [
            call(gradient_trend, seed=OTHER + s, cells=none, **shared) for s in range(n + steps - 1)
        ]
    found = yield wanted
    values: dict[str, Any] = {}
    figures = []
    for _, normed, claims in groups.values():
        mine, others = found[:n], found[n : 2 * n + steps - 1]
        found = found[2 * n + steps - 1 :]
        unrelated = np.log([each["G"][0] for each in others])
        unrelated = np.stack([unrelated[s : s + steps] for s in range(n)])
        for place, (claim, (_, decays)) in enumerate(claims.items()):
            columns = slice(1 + place * steps, 1 + (place + 1) * steps)
            table = {k: np.log([each[k][columns] for each in mine]) for k in ("G", "norm")}
            rescaled = np.log([each["rescaled"][columns] for each in mine])
            x = np.log(decays).tolist()
            values[claim] = slopes(x, table["G"])
            values[f"{claim}/null"] = slopes(x, unrelated)
            if normed:
                values[f"{claim}/gradient times norm"] = slopes(x, table["G"] + table["norm"])
                values[f"{claim}/over the rescaled network without decay"] = slopes(
                    x, table["G"] - rescaled
                )
            values[f"{claim}/planted"] = slopes(x, unrelated + 0.25 * np.subtract(x, x[0]))
            lines = {"measured": table["G"], "without decay, at the same norm": rescaled}
            figures.append(
                Curve(f"Final gradient norm: {claim}", "weight decay", "norm",
                      {name: mean_line(decays, np.exp(y)) for name, y in lines.items()},
                      log_x=True, log_y=True)
            )  # fmt: skip
    return findings(values, figures)
