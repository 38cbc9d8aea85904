"""The study of Loshchilov & Hutter (001) and Xie et al. (000) on warm restarts."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..statistics.valley import FloatArray
from ..tasks.ensemble import Ensemble
from .bench import Bench
from .bench_runs import FRESH, OTHER, findings, run
from .calls import Call, Curve, Findings, Values, call, study


def anytime(
    *, looks: Sequence[int], average: bool = False, task: Mapping[str, Any], **settings: Any
) -> Values:
    """Errors and training losses after some epochs, by ``test E`` and ``train E``.

    Args:
        looks: epochs after which to look.
        average: whether the weights are averaged over the last epoch, exponentially.
        task: as `run` has it.
        settings: of `run`.
    """
    values: Values = {}
    averages: dict[str, torch.Tensor] = {}
    batches = {"digits": 8, "fashion": 20}[task["kind"]]  # of an epoch

    def averaged(step: int, ensemble: Ensemble) -> None:
        for name, p in ensemble.params.items():
            own = averages.setdefault(name, p.detach().clone())
            own.lerp_(p.detach(), 1.0 / min(step + 1, batches))

    def look(bench: Bench) -> None:
        epoch = len(bench.removed) // batches
        kept = {name: p.detach().clone() for name, p in bench.ensemble.params.items()}
        if average:
            averaged(len(bench.removed), bench.ensemble)
            _put(bench, averages)
        scores = bench.scores()
        values[f"test {epoch}"], values[f"train {epoch}"] = scores["test"], scores["train"]
        _put(bench, kept)

    more: dict[str, Any] = {"before": averaged} if average else {}
    run(task=task, observe={epoch * batches: look for epoch in looks}, **settings, **more)
    return values


def _put(bench: Bench, weights: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, p in bench.ensemble.params.items():
            p.copy_(weights[name])


@study("001/figure-4")
def figure_4(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Errors of AdamWR and AdamW on the way, and losses of AdamS and AdamW under restarts."""
    n, lr, end = settings["seeds"], settings["lr"], settings["epochs"]
    looks, wd = settings["looks"], settings["independent"]
    adamw = [
        ("independent", lr, wd),
        ("independent", 0.01 * lr, wd),
        ("independent", lr, 1.01 * wd),
        ("stable", lr, settings["stable"]),
    ]
    every = [*looks, end]
    ways = {
        "restarts": {"schedule": "restarts:1*2", "epochs": end, "looks": every},
        "cosine": {"schedule": "cosine", "epochs": end, "looks": every},
        "constant": {"schedule": "constant", "epochs": end, "looks": every, "average": True},
        **{f"cosine {e}": {"schedule": "cosine", "epochs": e, "looks": [e]} for e in looks},
    }
    wanted = [
        call(anytime, seed=first + s, task=settings["task"], cells=adamw, **way)
        for first in (FRESH, OTHER)
        for name, way in ways.items()
        if first == FRESH or name in ("restarts", "cosine")
        for s in range(n)
    ]
    found = yield wanted
    names = [*ways, "restarts other", "cosine other"]
    by = {name: found[i * n :][:n] for i, name in enumerate(names)}

    def at(name: str, epochs: Sequence[int], cell: int = 0, what: str = "test") -> FloatArray:
        table = [[each[f"{what} {e}"][cell] for e in epochs] for each in by[name]]
        return np.array(table)

    def mean(name: str, cell: int = 0) -> FloatArray:
        return at(name, looks, cell).mean(1)

    separate = np.mean([at(f"cosine {e}", [e])[:, 0] for e in looks], axis=0)
    last = at("cosine", [end])[:, 0]

    def loss(cell: int, name: str = "restarts") -> FloatArray:
        return np.log(at(name, every, cell, "train") + 1e-6).mean(1)

    values = {
        "anytime": mean("restarts") - mean("cosine"),
        "anytime/separate cosines": mean("restarts") - separate,
        "anytime/a constant rate with averaged weights": mean("restarts") - mean("constant"),
        "anytime/null": mean("cosine other") - mean("cosine"),
        "anytime/planted": mean("cosine") - mean("cosine", 1),
        "end": at("restarts", [end])[:, 0] - last,
        "end/null": at("cosine", [end], 1)[:, 0] - last,
        "end/planted": at("cosine", [end], 2)[:, 0] - last,
        "adams-adamw": loss(3) - loss(0),
        "adams-adamw/null": loss(0, "restarts other") - loss(0),
        "adams-adamw/planted": loss(0) - loss(1),
    }
    lines = {
        name: [(float(e), float(at(name, [e]).mean())) for e in every]
        for name in ("restarts", "cosine", "constant")
    }
    lines["separate cosines"] = [(float(e), float(at(f"cosine {e}", [e]).mean())) for e in looks]
    figure = Curve("Test error on the way", "epochs", "test error, %", lines, log_x=True)
    return findings(values, [figure])
