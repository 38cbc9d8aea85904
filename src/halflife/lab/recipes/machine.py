"""What a run was trained on, and how much of its memory it took."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator

import torch

from ..trials.surroundings import determinism, set_determinism

__all__ = ["begin_peak", "machine_of", "peak_mib", "repeatable"]


@contextlib.contextmanager
def repeatable(wanted: bool) -> Iterator[None]:
    """Inside, if it is wanted, torch takes kernels that give the same bits each time."""
    if not wanted:
        yield
        return
    # Read when cuBLAS is first used; which of its two values matters little.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = determinism()
    set_determinism((True, False, before[2], False))
    try:
        yield
    finally:
        set_determinism(before)


def machine_of(device: torch.device) -> dict[str, str]:
    """The device and the versions that decide a run's bits."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "device": f"{device.type}: {name}",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def begin_peak(device: torch.device) -> None:
    """Measure the most memory from now on, where a device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float | None:
    """The most memory that was held; None where it is not known.

    On CUDA by tensors since the run began; on a CPU by the process since it did.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(held / (2**20 if sys.platform == "darwin" else 2**10), 1)
