"""What importing halflife costs over importing torch, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .timing import Measured, spread

ROUNDS = 5
TARGET = 1.2

# torch is imported in the same process, just before: the ratio then has no noise of another start.
# By processor time, because a start waits for the disk.
_PROGRAM = """
import time
start = time.process_time()
import torch
middle = time.process_time()
import halflife
print((time.process_time() - start) / (middle - start), middle - start)
"""


def measure(rounds: int | None = None) -> dict[str, Any]:
    """Ratio of importing halflife, torch included, to importing torch."""
    runs = []
    for _ in range(rounds or ROUNDS):
        done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True)
        runs.append([float(word) for word in done.stdout.split()])
    ratios, seconds = np.array(runs).T
    ratio = Measured(ratios)
    return {
        "rounds": len(runs),
        "torch_seconds": Measured(seconds).as_dict(),
        "ratio": ratio.as_dict(),
        "target": TARGET,
        "verdict": ratio.verdict(at_most=TARGET),
    }


def main(rounds: int | None = None, show: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure and show."""
    result = measure(rounds)
    show(
        f"import halflife / import torch: {spread(result['ratio'], digits=3)}, "
        f"torch {result['torch_seconds']['median']:.2f} s; <= {TARGET} {result['verdict']}\n"
    )
    return result
