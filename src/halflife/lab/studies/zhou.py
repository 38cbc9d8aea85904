"""Studies of Zhou et al., "Towards Understanding Convergence and Generalization of AdamW" (003)."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from ...diagnostics.curvature import dense, hessian
from ...theory.dynamic_loss import DynamicLoss
from ...theory.pac_bayes import Method, error_term
from ..statistics.valley import FloatArray
from ..tasks.ensemble import Ensemble
from .bench import Bench
from .bench_runs import FRESH, OTHER, cells_of, chosen, findings, run
from .calls import Call, Findings, Values, call, study


def decayed(
    *, cells: Sequence[Sequence[Any]], falling: Sequence[bool], rate: float, **settings: Any
) -> Bench:
    """A `run` in which the weight decay of some cells falls as ``exp(-rate k / T)``.

    Args:
        cells: as `run` has them.
        falling: which of them.
        rate: 1.25 in the paper.
        settings: of `run`.
    """
    steps = settings.pop("steps")

    def before(step: int, ensemble: Ensemble) -> None:
        factor = math.exp(-rate * step / steps)
        for index, (cell, falls) in enumerate(zip(cells, falling, strict=True)):
            if falls and cell[2]:
                ensemble.set_weight_decay(index, cell[2] * factor)

    return run(cells=cells, before=before, **settings)


def falling_scores(**settings: Any) -> Values:
    """What the cells of `decayed` came to."""
    return decayed(**settings).scores()


@study("003/figure-2")
def figure_2(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """AdamW and l2-Adam, and both with a decay that falls."""
    n, rate = settings["seeds"], settings["rate"]
    shared = {"task": settings["task"], "schedule": "cosine", "rate": rate, "steps": 240}
    grids = {
        f"{rule}{'-d' if falls else ''}": cells_of(rule, settings["lr"], settings[rule])
        for rule in ("decoupled", "l2")
        for falls in (False, True)
    }
    tuned = yield [_falling(grids, s, **shared) for s in range(settings["tuning"])]
    best, start = {}, 0
    for name, cells in grids.items():
        own = [{"val": each["val"][start : start + len(cells)]} for each in tuned]
        best[name], start = chosen(cells, own), start + len(cells)
    own_decay = best["decoupled"]
    theirs = best["decoupled-d"]
    # What a decay that falls so removes under cosine, of what a constant one would.
    progress = (np.arange(1000) + 0.5) / 1000
    cosine = 0.5 * (1.0 + np.cos(np.pi * progress))
    share = float((cosine * np.exp(-rate * progress)).sum() / cosine.sum())
    at = {
        **{name: choice.cell(name.removesuffix("-d")) for name, choice in best.items()},
        "matched": theirs.cell("decoupled", share),
        "far": [("decoupled", 0.01 * own_decay.lr, own_decay.weight_decay)],
        "near": own_decay.cell("decoupled", 1.01),
    }
    found = yield [_falling(at, FRESH + s, **shared) for s in range(n)]
    others = yield [_falling(at, OTHER + s, **shared) for s in range(n)]
    names = list(at)

    def error(name: str, where: Sequence[Values] = found) -> FloatArray:
        return np.array([each["test"][names.index(name)] for each in where])

    adamw = error("decoupled")
    far_off, near = error("far") - adamw, error("near") - adamw
    values = {
        "adamw-d": error("decoupled-d") - adamw,
        "adamw-d/equal total decay": error("decoupled-d") - error("matched"),
        "adamw-l2": adamw - error("l2"),
        "l2-adam-d": error("l2-d") - error("l2"),
        "adamw-l2/null": error("decoupled", others) - adamw,
        "adamw-l2/planted": -far_off,
    }
    for claim in ("adamw-d", "l2-adam-d"):
        values |= {f"{claim}/null": far_off, f"{claim}/planted": near}
    notes = [f"{name}: chosen {choice}; test error {error(name).mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)


def _falling(grids: Mapping[str, Sequence[Sequence[Any]]], seed: int, **shared: Any) -> Call:
    cells = [cell for own in grids.values() for cell in own]
    falls = [name.endswith("-d") for name, own in grids.items() for _ in own]
    return call(falling_scores, seed=seed, cells=cells, falling=falls, **shared)


def error_terms(
    *, rows: int, floors: Sequence[float], prior_variance: float, lr: float, **settings: Any
) -> Values:
    """Error terms by floor, shares of small eigenvalues, and errors, of the cells of `decayed`.

    Args:
        rows: training images on which the Hessian is taken.
        floors: smallest eigenvalues.
        prior_variance: rho.
        lr: of all cells.
        settings: of `decayed`.
    """
    bench = decayed(**settings)
    batch = bench.training.batch_size
    inputs, targets = bench.rows(rows)
    values: Values = {**bench.scores(), **{f"err {floor:g}": [] for floor in floors}}
    least = float(bench.norms()[0])  # of the network without decay
    shares: dict[str, list[float]] = {"1": [], "0.01": [], "100": [], "norm": []}
    for index, (member, norm) in enumerate(zip(bench.members, bench.norms(), strict=True)):
        matrix = dense(hessian(bench.network(index), F.cross_entropy, (inputs.double(), targets)))
        sigma = torch.linalg.eigvalsh(matrix)
        method: Method = "l2" if member.rule.name == "l2" else "adamw"
        for floor in floors:
            term = error_term(
                sigma, member.weight_decay, lr=lr, batch_size=batch, floor=floor,
                prior_variance=prior_variance, method=method,
            )  # fmt: skip
            values[f"err {floor:g}"].append(term.per_weight)
        sizes = sigma.abs()
        for name, limit in (("1", 1.0), ("0.01", 0.01), ("100", 100.0)):
            shares[name].append(float((sizes <= limit).double().mean()))
        # At the norm of no decay a network that computes the same has another curvature.
        rescaled = sizes * (norm.double() / least) ** 2
        shares["norm"].append(float((rescaled <= 1.0).double().mean()))
    return {**values, **{f"share {name}": own for name, own in shares.items()}}


@study("003/table-1")
def table_1(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Error terms of four methods, each at its best, and what they say of the test error."""
    n, lr, own = settings["seeds"], settings["lr"], settings["decoupled"]
    floors = settings["floors"]
    steps = 8 * settings["epochs"]
    shared = {"task": settings["task"], "schedule": "cosine", "rate": settings["rate"],
              "steps": steps, "epochs": settings["epochs"]}  # fmt: skip
    grids = {
        "none": cells_of("decoupled", [lr], [0.0]),
        **{f"{rule}{'-d' if falls else ''}": cells_of(rule, [lr], settings[rule])
           for rule in ("decoupled", "l2") for falls in (False, True)},
        "tenth": cells_of("decoupled", [lr], [wd / 10 for wd in own]),
        "equal": cells_of("l2", [lr], own),
    }  # fmt: skip
    tuned = yield [_falling(grids, s, **shared) for s in range(settings["tuning"])]
    start, place = {}, 0
    for name, cells in grids.items():
        start[name], place = place, place + len(cells)
    best = {
        name: chosen(grids[name], [
            {"val": each["val"][start[name] :][: len(grids[name])]} for each in tuned
        ])
        for name in ("decoupled", "l2")
    }  # fmt: skip
    terms = {"rows": settings["rows"], "floors": floors,
             "prior_variance": settings["prior_variance"], "lr": lr}  # fmt: skip
    cells = [cell for each in grids.values() for cell in each]
    falls = [name.endswith("-d") for name, each in grids.items() for _ in each]
    found = yield [
        call(error_terms, seed=first + s, cells=cells, falling=falls, **terms, **shared)
        for first in (FRESH, OTHER) for s in range(n if first == FRESH else 3)
    ]  # fmt: skip
    found, others = found[:n], found[n:]

    def log_err(name: str, index: int, where: Sequence[Values] = found) -> FloatArray:
        at = start[name] + index
        table = [[each[f"err {floor:g}"][at] for floor in floors] for each in where]
        return np.log(np.array(table)).mean(1)

    at_w, at_l2 = best["decoupled"].place, best["l2"].place
    methods = slice(start["decoupled"], start["tenth"])
    ranks, permuted, seen = [], [], []
    for seed, each in enumerate(found):
        err = np.mean([each[f"err {floor:g}"][methods] for floor in floors], axis=0)
        error = np.array(each["test"][methods])
        noise = np.random.default_rng(seed)
        ranks.append(spearmanr(err, error)[0])
        permuted.append(spearmanr(err, noise.permutation(error))[0])
        blurred = error + 0.1 * error.std() * noise.standard_normal(len(error))
        seen.append(spearmanr(blurred, error)[0])
    ours = slice(start["decoupled"], start["decoupled"] + len(own))

    def share(name: str) -> FloatArray:
        return np.array([np.mean(each[f"share {name}"][ours]) for each in found]) - 0.99

    adamw = log_err("decoupled", at_w)
    values = {
        "err": adamw - log_err("l2", at_l2),
        "err/equal coefficients": adamw - log_err("equal", at_w),
        "err/null": np.resize(log_err("decoupled", at_w, others), n) - adamw,
        "err/planted": log_err("tenth", at_w) - adamw - 0.1,
        "rank": ranks, "rank/null": permuted, "rank/planted": seen,
        "share": share("1"), "share/null": share("0.01"), "share/planted": share("100"),
        "share/at the norm of no decay": share("norm"),
    }  # fmt: skip
    notes = [f"{name}: chosen {choice}" for name, choice in best.items()]
    return findings(values, (), notes)


def dynamic(*, lr: float, cells: Sequence[Sequence[Any]], **settings: Any) -> Values:
    """Cosines and Corollary 1's premise at the end of a `run` over full batches.

    Args:
        lr: peak of all cells.
        cells: as `run` has them.
        settings: of `run`.
    """
    bench = run(cells=cells, **settings)
    optimizer = bench.ensemble.native
    moved = optimizer.param_groups[0]["params"]
    weights = list(bench.ensemble.params.values())
    gradients = bench.gradients(*bench.rows())
    steps = float(optimizer.state[moved[0]]["step"])
    beta2 = optimizer.param_groups[0]["betas"][1]
    values: Values = {"scaled": [], "plain": [], "premise": [], "self": []}
    for index, member in enumerate(bench.members):
        x = _flat(weights, index)
        second = _flat([optimizer.state[p]["exp_avg_sq"] for p in moved], index)
        v = (second / (1.0 - beta2**steps)).sqrt() + 1e-8
        loss = DynamicLoss(v, member.weight_decay)
        gradient = _flat(gradients, index)
        cosines = loss.alignment(gradient, x)
        values["scaled"].append(cosines.scaled)
        values["plain"].append(cosines.plain)
        values["premise"].append(loss.gradient_bound(gradient, x).premise)
        exact = loss.alignment(-member.weight_decay * v * x, x)
        values["self"].append(exact.scaled - exact.plain)
    return values


def _flat(parts: Sequence[torch.Tensor], index: int) -> torch.Tensor:
    return torch.cat([part[index].detach().flatten() for part in parts]).double()


@study("003/dynamic-regulariser")
def dynamic_regulariser(
    settings: Mapping[str, Any],
) -> Generator[list[Call], list[Values], Findings]:
    """Where AdamW's gradient points at the end."""
    n, lr, wds = settings["seeds"], settings["lr"], settings["decoupled"]
    cells = [*cells_of("decoupled", [lr], wds), *cells_of("l2", [lr], [0.01 * w for w in wds])]
    shared = {"task": settings["task"], "schedule": "cosine", "lr": lr, "cells": cells}
    found = yield [call(dynamic, seed=FRESH + s, **shared) for s in range(n)]
    table = {name: np.array([each[name] for each in found]) for name in found[0]}
    gap = table["scaled"] - table["plain"]
    ours, theirs = slice(0, len(wds)), slice(len(wds), None)
    premise = np.log(table["premise"][:, ours]).mean(1)
    values = {
        "cosine": gap[:, ours].mean(1),
        "cosine/null": gap[:, theirs].mean(1),
        "cosine/planted": table["self"][:, ours].mean(1),
        "premise": premise,
        "premise/null": premise + math.log(100.0),
        "premise/planted": premise - math.log(100.0),
    }
    means = table["scaled"][:, ours].mean(0), table["plain"][:, ours].mean(0)
    notes = [
        f"weight decay {wd:g}: cos(-grad F, v x) {a:.2f}, cos(-grad F, x) {b:.2f}, premise {p:.2f}"
        for wd, a, b, p in zip(wds, *means, table["premise"][:, ours].mean(0), strict=True)
    ]
    return findings(values, (), notes)
