"""Native against compiled steps on a GPU: what a group that leaves it open should take there.

By model, dtype and rule, and for the compiled steps by the number of elements below which tensors
share a call. Shown are the milliseconds until ``step()`` returns and those until the device has
done its work, each the median of the fastest quarter of the rounds: the load of others only adds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.optim import Optimizer

import halflife
from halflife.mechanism.compiled import calls

from .accelerator import DTYPES, name_of, synchronize
from .rules import ELEMENTWISE, LR, PEAK, SCALAR_RULES, WEIGHT_DECAY
from .timing import Parts, paired
from .workbench import ADAM, Workbench

DEFAULT = ["mlp", "resnet18", "gpt2"]
ROUNDS = 30
RULES = {
    name: {**SCALAR_RULES, **ELEMENTWISE}[name]
    for name in ("Decoupled", "Stable", "Cautious", "Anchored", "HuberDecay", "Preconditioned")
}
SMALLS = (1 << 14, 1 << 16, 1 << 18)  # the first one is the package's


def measure(
    model: str, dtype: str, name: str, device: torch.device, rounds: int | None = None
) -> dict[str, Any]:
    """Time one rule on the parameter list of a model; returns plain data."""
    bench = Workbench(model, device=device, dtype=DTYPES[dtype])
    ways = {"native": calls.SMALL, **{f"compiled {small}": small for small in SMALLS}}
    candidates: dict[str, Parts] = {}
    for way, small in ways.items():
        stepping = _stepping(_made(bench, name, way.partition(" ")[0]), small)
        candidates[way] = [stepping, lambda: synchronize(device)]

    def before() -> None:
        bench.before()
        synchronize(device)

    with mock.patch.object(calls, "SMALL", calls.SMALL), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of compilers
        for parts in candidates.values():
            for _ in range(5):  # what has to be made, or compiled, is made now
                parts[0]()
        seconds = paired(candidates, rounds or ROUNDS, before)
    found = {
        way: {
            "host": _of_the_fastest(seconds[way][:, 0]),
            "whole": _of_the_fastest(seconds[way].sum(1)),
        }
        for way in ways
    }
    return {"dtype": dtype, "model": model, "tensors": len(bench.params), "rule": name, **found}


def _made(bench: Workbench, name: str, implementation: str) -> Optimizer:
    settings = {**ADAM, "lr": PEAK, "weight_decay": WEIGHT_DECAY}
    made = halflife.AdamW(
        bench.params, decay=RULES[name], implementation=implementation, **settings
    )
    made.param_groups[0]["lr"] = LR
    return bench.sharing(bench.adamw, made)


def _stepping(optimizer: Optimizer, small: int) -> Callable[[], None]:
    def step() -> None:
        calls.SMALL = small
        optimizer.step()

    return step


def _of_the_fastest(seconds: np.ndarray) -> float:
    """Milliseconds, the median of the fastest quarter."""
    return float(np.median(np.sort(seconds)[: max(1, len(seconds) // 4)])) * 1e3


def main(
    models: list[str],
    device: str,
    rounds: int | None = None,
    show: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure every rule on the models in each dtype, showing each row as it is ready."""
    where = torch.device(device)
    rows = []
    show("milliseconds until step() returns / until the device has done its work")
    for dtype in DTYPES:
        for model in models:
            for name in RULES:
                rows.append(measure(model, dtype, name, where, rounds))
                show(line(rows[-1]))
    return {"device": name_of(where), "rounds": rounds or ROUNDS, "rows": rows}


def line(row: dict[str, Any]) -> str:
    """One measurement, as text."""
    ways = [way for way in row if way.startswith(("native", "compiled"))]
    told = [f"{way} {row[way]['host']:.2f} / {row[way]['whole']:.2f}" for way in ways]
    return f"{row['dtype']:9} {row['model']:9} {row['rule']:15} {'   '.join(told)}"
