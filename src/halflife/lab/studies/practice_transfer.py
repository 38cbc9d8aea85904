"""The study of how the best weight decay moves with data, batch and repetition."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from .bench_arms import Arm, measured_cells, tuned
from .bench_moving import moving, shifted
from .bench_runs import FRESH, findings, jackknife
from .calls import Call, Curve, Findings, Values, study


@study("practice/timescale")
def timescale(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Slopes of the best weight decay on size, batch and repetitions."""
    n, lrs, wds = settings["seeds"], settings["lr"], settings["weight_decay"]
    base = {"kind": "fashion", "batch_norm": True, "label_noise": 0.2}
    batch = {"images": settings["batch_images"], "epochs": settings["batch_epochs"]}
    rows: dict[str, dict[float, dict[str, Any]]] = {
        "data": {size: {"images": size, "epochs": settings["data_epochs"]}
                 for size in settings["data_sizes"]},
        "batch": {size: {**batch, "batch_size": size} for size in settings["batches"]},
        "repeated": {epochs: {"images": images, "epochs": epochs, "batch_size": min(images, 100)}
                     for images, epochs in settings["repeated"]},
    }  # fmt: skip
    arms = {
        f"{claim} {key}": Arm("decoupled", lrs, wds, {"task": {**base, **task}})
        for claim, each in rows.items()
        for key, task in each.items()
    }
    best = yield from tuned(arms, range(settings["tuning"]), schedule="cosine")
    at = {name: Arm("decoupled", [best[name].lr], wds, arm.shared) for name, arm in arms.items()}
    found = yield from measured_cells(at, range(FRESH, FRESH + n), schedule="cosine")
    values: dict[str, Any] = {}
    figures = []
    for claim, expected in (("data", -1.0), ("batch", 1.0), ("repeated", 0.0)):
        scale = list(rows[claim])
        errors = np.stack([found[f"{claim} {key}"]["test"] for key in scale], axis=1)
        slope = moving(scale, wds)
        own = jackknife(errors, slope)
        still = jackknife(shifted(errors, wds, scale, 0.0), slope)
        moved = jackknife(shifted(errors, wds, scale, expected or 0.5), slope)
        values |= {claim: own - expected, f"{claim}/null": still - expected,
                   f"{claim}/planted": moved - expected}  # fmt: skip
        if expected:
            values[f"{claim}/no change"] = own
        lines = {f"{claim} {key:g}": list(zip(wds, errors[:, i].mean(0).tolist(), strict=True))
                 for i, key in enumerate(scale)}  # fmt: skip
        figures.append(Curve(f"Test error by weight decay: {claim}", "weight decay",
                             "test error, %", lines, log_x=True))  # fmt: skip
    notes = [f"{name}: learning rate {choice.lr:g}" for name, choice in best.items()]
    return findings(values, figures, notes)
