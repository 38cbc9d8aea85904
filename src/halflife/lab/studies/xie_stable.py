"""Studies of Xie et al. (000) on what stable weight decay does: AdamS beside AdamW."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from ..statistics.valley import FloatArray
from ..tasks import Member
from ..tasks.ensemble import Ensemble
from .bench import task_of, trained
from .bench_runs import (
    FRESH,
    OTHER,
    cells_of,
    chosen,
    findings,
    mean_line,
    rule_of,
    slopes,
)
from .calls import Call, Curve, Findings, Values, call, study


def yoked(
    *,
    seed: int,
    task: Mapping[str, Any],
    lr: float,
    schedule: str,
    stable: Sequence[float],
    decoupled: Sequence[float],
    replay: int | None = None,
    best: int = 0,
) -> Values:
    """AdamS, AdamW, AdamW at a hundredth of the lr, and with another seed's factors of AdamS.

    Args:
        seed: of data, weights and order.
        task: as `task_of` has it.
        lr: peak.
        schedule: of the lr, by name.
        stable: weight decays of AdamS.
        decoupled: of AdamW.
        replay: the other seed; None for AdamS and AdamW alone.
        best: which weight decay of AdamS is replayed.
    """
    own = [*cells_of("stable", [lr], stable), *cells_of("decoupled", [lr], decoupled)]
    own.append(("decoupled", 0.01 * lr, decoupled[0]))
    members = [Member(rule_of(rule), lr, wd, seed) for rule, lr, wd in own]
    options: dict[str, Any] = {"schedule": schedule}
    if replay is not None:
        teacher = [Member(rule_of("stable"), lr, stable[best], replay)]
        taught = trained(task_of(**task), teacher, **options)
        removed = taught.removed[:, 0]
        place = len(members)
        members.append(Member(rule_of("constant"), lr, 0.0, seed))

        def replayed(step: int, ensemble: Ensemble) -> None:
            ensemble.set_weight_decay(place, float(removed[step]))

        options["before"] = replayed
    bench = trained(task_of(**task), members, **options)
    values: Values = {**bench.scores(), "G": bench.gradient_norm().tolist()}
    last = bench.removed[-1] / bench.sizes[-1]  # lambda times the factor
    values["factor"] = [float(last[i] / wd) for i, wd in enumerate(stable)]
    return values


@study("000/figure-4")
def figure_4(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Gradients under AdamS and AdamW, and what AdamS's feedback has to do with them."""
    n, lr, stable = settings["seeds"], settings["lr"], settings["stable"]
    shared = {k: settings[k] for k in ("task", "lr", "schedule", "stable")}
    tuned = yield [
        call(yoked, seed=s, decoupled=settings["decoupled"], **shared)
        for s in range(settings["tuning"])
    ]
    cells = [*cells_of("stable", [lr], stable), *cells_of("decoupled", [lr], settings["decoupled"])]
    first = len(stable)
    halves = [[{"val": each["val"][part]} for each in tuned]
              for part in (slice(0, first), slice(first, None))]  # fmt: skip
    best = chosen(cells[:first], halves[0]), chosen(cells[first:], halves[1])
    # AdamW at its best, at a third of it, and with as much in all as AdamS.
    total = np.mean([each["K"][best[0].place] for each in tuned])
    per_unit = np.mean([each["K"][first + best[1].place] for each in tuned]) / best[1].weight_decay
    theirs_at = best[1].weight_decay
    own = [theirs_at, theirs_at / 3, float(total / per_unit)]
    options = {"decoupled": own, "best": best[0].place, **shared}
    found = yield [call(yoked, seed=FRESH + s, replay=OTHER + s, **options) for s in range(n)]
    others = yield [call(yoked, seed=OTHER + s, **options) for s in range(n + len(stable) - 1)]

    def of(name: str, place: int, where: list[Values] = found) -> FloatArray:
        return np.array([each[name][place] for each in where[:n]])

    ours, theirs, third, matched, far, replay = (
        best[0].place, first, first + 1, first + 2, first + 3, first + 4
    )  # fmt: skip
    log = {i: np.log(of("G", i)) for i in (ours, theirs, third, matched, replay)}
    x = np.log(stable)
    factors = np.log([each["factor"] for each in found])
    least = np.log([each["factor"][0] for each in others])
    unrelated = np.stack([least[s : s + len(x)] for s in range(n)])
    error = of("test", theirs)
    values = {
        "gradient": log[ours] - log[theirs],
        "gradient/equal total decay": log[ours] - log[matched],
        "gradient/gradient times norm": log[ours] - log[theirs]
        + np.log(of("norm", ours)) - np.log(of("norm", theirs)),
        "gradient/null": np.log(of("G", theirs, others)) - log[theirs],
        "gradient/planted": log[third] - log[theirs],
        "feedback": log[ours] - log[replay],
        "feedback/null": np.log(of("G", ours, others)) - log[ours],
        "feedback/planted": log[third] - log[theirs],
        "factor-falls": slopes(x, factors),
        "factor-falls/null": slopes(x, unrelated),
        "factor-falls/planted": slopes(x, unrelated - 0.25 * (x - x[0])),
        "error": of("test", ours) - error,
        "error/null": of("test", theirs, others) - error,
        "error/planted": error - of("test", far),
    }  # fmt: skip
    line = {"AdamS": mean_line(stable, np.exp(factors))}
    figure = Curve("SWD's factor at the end", "weight decay of AdamS", "1/sqrt(mean v)", line,
                   log_x=True, log_y=True)  # fmt: skip
    notes = [f"AdamS: chosen {best[0]}", f"AdamW: chosen {best[1]}",
             f"AdamS removes {total:.3g} in all"]  # fmt: skip
    return findings(values, [figure], notes)
