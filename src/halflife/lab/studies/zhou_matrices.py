"""The study of Zhou et al. (003) on what their theory takes for one another."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...diagnostics.curvature import dense, fisher, gauss_newton, hessian
from .bench_runs import FRESH, OTHER, findings, run
from .calls import Call, Findings, Values, call, study


def matrices(*, seed: int, other: int, rows: int, **settings: Any) -> Values:
    """Traces and cosines of Hessian, Fisher matrix, covariance and Gauss-Newton matrix.

    Args:
        seed: of the network.
        other: of another one, with which it is compared.
        rows: training images.
        settings: of `run`.
    """

    def of(number: int) -> dict[str, Tensor]:
        bench = run(seed=number, **settings)
        inputs, targets = bench.rows(rows)
        model, loss = bench.network(0), F.cross_entropy
        data = (inputs.double(), targets)
        half = slice(0, rows // 2)
        part = (data[0][half], targets[half])
        return {
            "hessian": dense(hessian(model, loss, data)),
            "fisher": dense(fisher(model, loss, data)),
            "half": dense(fisher(model, loss, part)),
            "noise": dense(fisher(model, loss, data, centered=True)),
            "gauss": dense(gauss_newton(model, loss, data)),
        }

    ours, theirs = of(seed), of(other)

    def cosine(a: Tensor, b: Tensor) -> float:
        return float((a * b).sum() / (a.norm() * b.norm()))

    trace = {name: float(torch.trace(m)) for name, m in ours.items()}
    return {
        "fisher trace": trace["fisher"] / trace["hessian"],
        "gauss trace": trace["gauss"] / trace["hessian"],
        "fisher hessian": cosine(ours["fisher"], ours["hessian"]),
        "gauss hessian": cosine(ours["gauss"], ours["hessian"]),
        "noise fisher": cosine(ours["noise"], ours["fisher"]),
        "half fisher": cosine(ours["half"], ours["fisher"]),
        "other hessian": cosine(theirs["fisher"], ours["hessian"]),
        "other noise": cosine(theirs["fisher"], ours["noise"]),
    }


@study("003/assumption-4")
def assumption_4(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """How near the matrices are to one another."""
    n = settings["seeds"]
    cells = [("decoupled", settings["lr"], settings["weight_decay"])]
    shared = {"task": settings["task"], "cells": cells, "rows": settings["rows"]}
    found = yield [call(matrices, seed=FRESH + s, other=OTHER + s, **shared) for s in range(n)]
    table = {name: np.array([each[name] for each in found]) for name in found[0]}
    trace = np.log(table["fisher trace"])
    values = {
        "fisher-hessian-trace": trace,
        "fisher-hessian-trace/null": trace + np.log(4.0),
        "fisher-hessian-trace/planted": np.log(table["gauss trace"]),
        "fisher-hessian-shape": table["fisher hessian"] - 0.9,
        "fisher-hessian-shape/null": table["other hessian"] - 0.9,
        "fisher-hessian-shape/planted": table["half fisher"] - 0.9,
        "noise-fisher": table["noise fisher"] - 0.9,
        "noise-fisher/null": table["other noise"] - 0.9,
        "noise-fisher/planted": table["half fisher"] - 0.9,
    }
    notes = [f"{name}: {values.mean():.3f}" for name, values in table.items()]
    return findings(values, (), notes)
