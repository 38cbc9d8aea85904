"""What a run was trained on, and how much of its memory it took."""

from __future__ import annotations

import platform
import sys

import torch

__all__ = ["machine_of", "peak_mib"]


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


def peak_mib(device: torch.device) -> float | None:
    """The most memory that was held: on CUDA by tensors, on a CPU by the process; else None."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(held / (2**20 if sys.platform == "darwin" else 2**10), 1)
