"""Studies of what weight decay does to weights: equilibrium, plasticity, rank."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...optim import AdamW
from ...rules import Anchored
from ...theory.equilibrium import rotation
from ..statistics.valley import FloatArray
from ..tasks import Member, Training, generator
from ..tasks.ensemble import LANES, Ensemble
from .bench import Bench, task_of
from .bench_runs import FRESH, OTHER, cells_of, findings, rule_of, run, slopes
from .calls import Call, Findings, Values, call, study


def turning(*, epochs: int, task: Mapping[str, Any], **settings: Any) -> Values:
    """Mean angle of a step and RMS of each hidden layer over the last tenth of a run.

    ``angle LAYER`` is of the first half of these steps, ``later LAYER`` of the second.

    Args:
        epochs: passes.
        task: as `run` has it.
        settings: of `run`.
    """
    own = task_of(**task)
    steps = epochs * (own.images // own.batch_size)
    first = steps - steps // 10
    before: dict[str, Tensor] = {}
    angles: dict[str, list[Tensor]] = {}
    sizes: dict[str, list[Tensor]] = {}

    def watch(step: int, ensemble: Ensemble) -> None:
        if step < first:
            return
        hidden = [name for name, p in ensemble.params.items() if p.dim() == 3][:-1]
        for name in hidden:
            now = ensemble.params[name].detach().double().flatten(1).clone()
            if name in before:
                unit, last = (v / v.norm(dim=1, keepdim=True) for v in (now, before[name]))
                # Of small angles the chord is exact where arccos is all rounding.
                chord = (unit - last).norm(dim=1)
                angles.setdefault(name, []).append(2.0 * torch.asin(0.5 * chord))
                sizes.setdefault(name, []).append(now.square().mean(1).sqrt())
            before[name] = now

    bench = run(task=task, epochs=epochs, before=watch, **settings)
    values: Values = {}
    count = len(bench.members)
    for layer, name in enumerate(angles):
        half = len(angles[name]) // 2
        table = torch.stack(angles[name])[:, :count]
        values[f"angle {layer}"] = table[:half].mean(0).tolist()
        values[f"later {layer}"] = table[half:].mean(0).tolist()
        values[f"rms {layer}"] = torch.stack(sizes[name])[:, :count].mean(0).tolist()
    return values


@study("practice/equilibrium")
def equilibrium(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Angles and sizes of hidden layers, against the prediction."""
    n, task = settings["seeds"], dict(settings["task"])
    epochs = task.pop("epochs")
    cells = cells_of("decoupled", settings["lr"], settings["weight_decay"])
    shared = {"task": task, "epochs": epochs, "cells": cells, "schedule": "constant"}
    found = yield [call(turning, seed=FRESH + s, **shared) for s in range(n)]
    angle = np.array([[rotation(lr * wd, 0.9) for _, lr, wd in cells]])
    rms = np.array([[np.sqrt(lr / (2.0 * wd)) for _, lr, wd in cells]])

    def log(name: str) -> FloatArray:
        return np.log([each[name] for each in found])

    noise = 0.05 * np.random.default_rng(0).standard_normal((2, n))
    turned = np.mean([log(f"angle {i}") - np.log(angle) for i in (0, 1)], axis=0).mean(1)
    sized = np.mean([log(f"rms {i}") - np.log(rms) for i in (0, 1)], axis=0).mean(1)
    ratio = (log("angle 0") - log("angle 1")).mean(1)
    values = {
        "rotation": turned,
        "rotation/null": turned - np.log(2.0),
        "rotation/planted": noise[0],
        "norm": sized,
        "norm/null": sized + np.log(2.0),
        "norm/planted": noise[1],
        "balanced": ratio,
        "balanced/null": ratio + np.log(2.0),
        "balanced/planted": (log("angle 1") - log("later 1")).mean(1),
    }
    return findings(values)


def sequence(
    *, seed: int, tasks: int, epochs: int, lr: float, weight_decay: float, last: int
) -> Values:
    """Training errors at the end of each of several tasks, learnt one after the other.

    ``none``, ``decay`` and ``anchored``: a list with one a task.

    Args:
        seed: of images, weights, labels and order.
        tasks: how many.
        epochs: of each.
        lr: constant.
        weight_decay: of decay toward zero and toward the initial weights.
        last: epochs of the last task.
    """
    task = task_of("digits")
    rules = [rule_of("decoupled"), rule_of("decoupled"), Anchored()]
    decays = (0.0, weight_decay, weight_decay)
    members = [Member(rule, lr, wd, seed) for rule, wd in zip(rules, decays, strict=True)]
    training = Training(task, "adamw", epochs, task.batch_size, "constant")
    padded = [*members, *[members[-1]] * (-len(members) % LANES)]
    bench = Bench(training, members, Ensemble(training, padded))
    inputs, random = bench.data.train_inputs, generator("plasticity", seed)
    errors = []
    for number in range(tasks):
        labels = torch.randint(0, 10, (len(inputs),), generator=random)
        for _ in range(last if number == tasks - 1 else epochs):
            order = torch.randperm(len(inputs), generator=random)
            for rows in order.split(task.batch_size):
                bench.ensemble.step(inputs[rows], labels[rows], 1.0)
        data = bench.data._replace(
            train_targets=labels, test_inputs=inputs.repeat(2, 1), test_targets=labels.repeat(2)
        )
        errors.append(bench.ensemble.evaluate(data, ("test_error",))[0][: len(members)].tolist())
    table = np.array(errors)
    return {name: table[:, i].tolist() for i, name in enumerate(("none", "decay", "anchored"))}


@study("practice/plasticity")
def plasticity(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Errors on the first and on the last task."""
    n, epochs = settings["seeds"], settings["epochs"]
    shared = {k: settings[k] for k in ("tasks", "epochs", "lr", "weight_decay")}
    found = yield [call(sequence, seed=FRESH + s, last=epochs, **shared) for s in range(n)]
    others = yield [call(sequence, seed=OTHER + s, last=epochs, **shared) for s in range(n)]
    short = yield [
        call(sequence, seed=FRESH + s, last=max(epochs // 10, 1), **shared) for s in range(n)
    ]

    def of(name: str, task: int, where: Sequence[Values] = found) -> FloatArray:
        return np.array([each[name][task] for each in where])

    values = {
        "lost": of("none", -1) - of("none", 0),
        "lost/null": of("none", 0, others) - of("none", 0),
        "lost/planted": of("none", -1, short) - of("none", 0),
        "decay": of("decay", -1) - of("none", -1),
        "decay/null": of("none", -1, others) - of("none", -1),
        "decay/planted": of("none", -1) - of("none", -1, short),
        "anchored": of("anchored", -1) - of("decay", -1),
        "anchored/null": of("decay", -1, others) - of("decay", -1),
        "anchored/planted": of("decay", -1) - of("decay", -1, short),
    }
    notes = [
        f"{name}: training error {of(name, 0).mean():.1f} % after the first task, "
        f"{of(name, -1).mean():.1f} % after the last"
        for name in ("none", "decay", "anchored")
    ]
    return findings(values, (), notes)


def products(
    *,
    seed: int,
    width: int,
    rank: int,
    rows: int,
    noise: float,
    steps: int,
    lr: float,
    cells: Sequence[Sequence[Any]],
) -> Values:
    """Entropy of the normalised singular values of a product of two layers, of each cell.

    Args:
        seed: of the map, the rows and the weights.
        width: of inputs, hidden layer and outputs.
        rank: of the map.
        rows: of the training set.
        noise: deviation of the outputs' noise, in units of theirs.
        steps: of full batches; the last tenth at a tenth of the lr.
        lr: of AdamW.
        cells: rule and weight decay.
    """
    random = generator("low-rank", seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    target = normal(width, rank) @ normal(rank, width) / (rank * width) ** 0.5
    inputs = normal(rows, width)
    outputs = inputs @ target
    outputs = outputs + noise * outputs.std() * normal(rows, width)
    start = [normal(width, width) / width**0.5 for _ in range(2)]
    entropies: Values = {"entropy": [], "cut": []}
    for rule, weight_decay in cells:
        layers = [w.clone().requires_grad_() for w in start]
        optimizer = AdamW(layers, lr=lr, weight_decay=weight_decay, decay=rule_of(rule))
        for step in range(steps):
            if step == steps - steps // 10:
                optimizer.param_groups[0]["lr"] = lr / 10
            optimizer.zero_grad()
            ((inputs @ layers[0] @ layers[1] - outputs) ** 2).mean().backward()
            optimizer.step()
        sigma = torch.linalg.svdvals((layers[0] @ layers[1]).detach())
        share = sigma / sigma.sum()
        entropies["entropy"].append(_entropy(share))
        cut = []
        for number in range(4):  # the smallest, which together are so many twentieths
            kept = share[share.flip(0).cumsum(0).flip(0) > 0.05 * number]
            cut.append(_entropy(kept / kept.sum()))
        entropies["cut"].append(cut)
    return entropies


def _entropy(share: Tensor) -> float:
    positive = share[share > 0]
    return float(-(positive * positive.log()).sum())


@study("practice/low-rank")
def low_rank(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Entropies of the spectrum of a product by weight decay."""
    n, wds = settings["seeds"], settings["weight_decay"]
    shared = {k: settings[k] for k in ("width", "rank", "rows", "noise", "steps", "lr")}
    cells = [["decoupled", 0.0], *(["decoupled", wd] for wd in wds)]
    cells += [["l2", 0.01 * wd] for wd in wds]
    found = yield [call(products, seed=FRESH + s, cells=cells, **shared) for s in range(n)]
    others = yield [
        call(products, seed=OTHER + s, cells=cells[:1], **shared) for s in range(n + len(wds) - 1)
    ]
    table = np.array([each["entropy"] for each in found])
    x, count = np.log(wds).tolist(), len(wds)
    unrelated = np.array([each["entropy"][0] for each in others])
    null = slopes(x, np.stack([unrelated[s : s + count] for s in range(n)]))
    planted = slopes(x, np.array([each["cut"][0] for each in found])[:, :count])
    values = {
        "entropy": slopes(x, table[:, 1 : 1 + count]),
        "l2": slopes(x, table[:, 1 + count :]),
        **{f"{claim}/null": null for claim in ("entropy", "l2")},
        **{f"{claim}/planted": planted for claim in ("entropy", "l2")},
    }
    return findings(values)
