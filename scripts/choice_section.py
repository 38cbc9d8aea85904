"""The section of the benchmarks page on what is chosen on a GPU, from benchmarks/choice.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from benchmarks.choice import RULES, SMALLS

from halflife.mechanism.compiled.choice import pays

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "choice.json"

HEAD = """\
### What is chosen on a GPU

Milliseconds of an AdamW step until the device has done its work, the median of the fastest quarter
of {rounds} rounds (`python -m benchmarks choice --device cuda --json benchmarks/choice.json`).
**Bold** is what a group takes that leaves its implementation open: elementwise maps of
half-precision weights, and maps that need the preconditioner, are compiled, the rest is native. A
compiled step takes what the host takes to call it, whatever the rule; a native one what the device
takes for a pass for each operation of the map and of the rounding. 2^14, 2^16, 2^18: elements below
which tensors share a compiled call; the package's number is the first.

In half precision a native step under `Decoupled` gathers its decay until the weights can show it.
In bfloat16, at a decay of 1e-5 a step, it is due and rounded in one of 49 steps, which then takes
about as long as one of `HuberDecay`, and is not among the fastest quarter.

A native map also holds temporaries in float32, each of the largest tensor or 128 MiB at most: up to
four, and up to six if the weights are in half precision. A compiled step holds none, only the
buffers that small tensors share. Where memory is what lacks, `implementation="compiled"` is the
better choice for any elementwise map.
"""


def section() -> list[str]:
    """The section's lines."""
    results = json.loads(RESULTS.read_text("utf-8"))
    machine, measured = results["machine"], results["choice"]
    ways = ["native", *(f"compiled {small}" for small in SMALLS)]
    heads = ["native", *(f"compiled, 2^{small.bit_length() - 1}" for small in SMALLS)]
    lines = [
        HEAD.format(rounds=measured["rounds"]),
        f"Device: {measured['device']}, torch {machine['torch']}, Python {machine['python']}.",
        "",
        f"| weights | model | rule | {' | '.join(heads)} |",
        f"|---|---|---|{'---|' * len(heads)}",
    ]
    for row in measured["rows"]:
        told = [
            f"**{row[way]['whole']:.2f}**" if way == chosen(row) else f"{row[way]['whole']:.2f}"
            for way in ways
        ]
        model = f"{row['model']} ({row['tensors']})"
        lines.append(f"| {row['dtype']} | {model} | {row['rule']} | {' | '.join(told)} |")
    return lines


def chosen(row: dict[str, Any]) -> str:
    """Which way of a row an open group takes."""
    halves = getattr(torch, row["dtype"]) is not torch.float32
    return f"compiled {SMALLS[0]}" if pays(RULES[row["rule"]], halves) else "native"
