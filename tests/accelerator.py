"""Accelerators without one: meta tensors that count operations, and a CPU that is taken for one.

Meta tensors are on no host and have no values. torch's lists of devices are told that theirs has
foreach, fused and capturable kernels.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks.operations import DEVICE as DEVICE
from benchmarks.operations import Counting as Counting
from benchmarks.operations import all_kernels, modules_with


@pytest.fixture
def has_all_kernels() -> Iterator[None]:
    """Let torch think that the device has all kernels, as CUDA does."""
    with all_kernels():
        yield


def cpu_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let halflife treat tensors of the CPU as it treats those of an accelerator."""
    for module in modules_with("on_host"):
        monkeypatch.setattr(module, "on_host", lambda tensor: False)
