"""Accelerators without one: meta tensors that count operations, and a CPU that is taken for one.

Meta tensors are on no host and have no values. torch's lists of devices are told that theirs has
foreach, fused and capturable kernels.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = "meta"


def has_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch think that the device has all kernels, as CUDA does."""
    from torch.utils import _foreach_utils

    for name in ("_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices"):
        listed = [*getattr(_foreach_utils, name)(), DEVICE]
        for module in _modules_with(name):
            monkeypatch.setattr(module, name, lambda listed=listed: listed)
    for module in _modules_with("_get_capturable_supported_devices"):
        monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda *_, **__: [DEVICE])


def cpu_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let halflife treat tensors of the CPU as it treats those of an accelerator."""
    for module in _modules_with("on_host"):
        monkeypatch.setattr(module, "on_host", lambda tensor: False)


def _modules_with(name: str) -> list[Any]:
    found = [m for n, m in sys.modules.items() if n.startswith(("torch.optim", "torch.utils"))]
    found += [m for n, m in sys.modules.items() if n.startswith("halflife")]
    return [m for m in found if name in vars(m)]


class Counting(TorchDispatchMode):
    """Counts every operation that is dispatched on the device's tensors, views included.

    Args:
        everywhere: on tensors of the CPU too.
    """

    def __init__(self, everywhere: bool = False) -> None:
        super().__init__()
        self.devices = {DEVICE, "cpu"} if everywhere else {DEVICE}
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        # A fused one has no meta kernel.
        result = None if name.startswith("aten::_fused_") else func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        if any(isinstance(t, Tensor) and t.device.type in self.devices for t in leaves):
            self.operations[name] += 1
        return result
