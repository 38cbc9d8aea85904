"""What `halflife train` costs beside a plain loop of torch.

    python -m benchmarks recipes [--device cuda]

The same network, the same batches in the same order and torch's own fused AdamW and scheduler,
without Fabric, metrics and checkpoints, against a run of the recipe, whose second half is timed.
The two take turns; a ratio is taken within a turn.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from halflife.lab.recipes import Recipe, recipe
from halflife.lab.recipes.building import changed, data_of, feed_of, model_of
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.running import train

from . import timing
from .accelerator import name_of, synchronize

REQUIRED = 0.97  # of the plain loop's speed
ROUNDS = 8
WARM = 4  # steps of the plain loop before those that are timed
# Rows of a step on a CPU, on a GPU, and the steps that are timed there.
CASES = {
    "resnet18": ("000/resnet18-cifar10/adamw", "digits", (32, 128), (6, 100)),
    "gpt": ("own/gpt-text/adamw", "text", (8, 64), (12, 200)),
}
TEXT = "".join(chr(97 + (7 * i * i + 3 * i) % 26) for i in range(50_000))


def main(rounds: int | None, device: str) -> dict[str, Any]:
    """Measure, print and return what was measured."""
    on_cpu = device == "cpu"
    print(f"training steps on {device}, {torch.get_num_threads()} threads\n")
    print("                rows/s, plain    rows/s, ours    ours / plain (10-90 %)")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(TEXT)
        for name, (named, data, rows, counts) in CASES.items():
            chosen = changed(recipe(named), data=data, batch_size=rows[not on_cpu])
            options = Options(
                accelerator=device, root=str(text) if data == "text" else None, validation=None
            )
            found = _measure(chosen, options, counts[not on_cpu], rounds or ROUNDS, Path(folder))
            results[name] = found
            ratio = found["ratio"]
            print(
                f"  {name:<12}{found['plain']:>15,.0f}{found['ours']:>17,.0f}"
                f"{ratio['median']:>14.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})"
            )
    return {
        "device": name_of(torch.device(device)),
        "threads": torch.get_num_threads(),
        "cases": results,
    }


def _measure(
    chosen: Recipe, options: Options, steps: int, rounds: int, folder: Path
) -> dict[str, Any]:
    ours, plain = [], []
    for turn in range(rounds + 1):
        seen = {}
        for each in ("ours", "plain") if turn % 2 else ("plain", "ours"):
            if each == "ours":
                seen[each] = _ours(chosen, options, steps, folder / f"{chosen.model}-{turn}")
            else:
                seen[each] = _plain(chosen, options, steps)
        if turn:  # the first one warms up
            ours.append(seen["ours"])
            plain.append(seen["plain"])
    ratio = timing.Measured(np.array(ours) / np.array(plain))
    return {
        "recipe": chosen.name, "batch_size": chosen.batch_size, "steps": steps, "rounds": rounds,
        "ours": float(np.median(ours)), "plain": float(np.median(plain)),
        "ratio": {k: getattr(ratio, k) for k in ("median", "low", "high", "least", "most")},
    }  # fmt: skip


def _ours(chosen: Recipe, options: Options, steps: int, out: Path) -> float:
    """Rows a second of the second half, as the run itself logs them."""
    train(chosen, out, replace(options, until=2 * steps, log_every=steps))
    rows = chosen.batch_size * (chosen.time or 1)
    seconds, before = 0.0, 0
    for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()):
        if "rows_per_s" in line:  # of the steps since the last one that has it
            if line["step"] > steps:
                seconds += (line["step"] - before) * rows / line["rows_per_s"]
            before = line["step"]
    return steps * rows / seconds


def _plain(chosen: Recipe, options: Options, steps: int) -> float:
    device = torch.device(options.accelerator)
    data = data_of(chosen, options)
    feed = feed_of(chosen, data, options, rank=0, world=1, device=device)
    torch.manual_seed(0)
    model = model_of(chosen, data, options).to(device)
    if chosen.time is None:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(  # fused, as ours is: it is the loops that are compared
        model.parameters(), lr=chosen.lr, weight_decay=chosen.weight_decay, fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / 10_000))
    )
    batches = feed.steps(0)
    for step in range(WARM + steps):
        if step == WARM:
            synchronize(device)
            since = time.perf_counter()
        inputs, targets = next(batches)
        loss = F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())
        loss.backward()
        if chosen.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), chosen.clip)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    synchronize(device)
    rows = chosen.batch_size * (chosen.time or 1)
    return steps * rows / (time.perf_counter() - since)
