"""Accelerators without one: meta tensors that count operations, and a CPU that is taken for one.

Meta tensors are on no host and have no values. torch's lists of devices are told that theirs has
foreach, fused and capturable kernels.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

DEVICE = "meta"


def has_all_kernels(monkeypatch: pytest.MonkeyPatch, device: str = DEVICE) -> None:
    """Let torch think that the device has all kernels, as CUDA does."""
    from torch.utils import _foreach_utils

    for name in ("_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices"):
        listed = [*getattr(_foreach_utils, name)(), device]
        for module in _modules_with(name):
            monkeypatch.setattr(module, name, lambda listed=listed: listed)
    for module in _modules_with("_get_capturable_supported_devices"):
        monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda *_, **__: [device])


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


class Peak(TorchDispatchMode):
    """The most bytes that what was made under it held at a time; what is dead holds none."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.most = 0, 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            self._known.setdefault(storage, None)
        # A fused one has no meta kernel.
        fused = func._schema.name.startswith("aten::_fused_") and DEVICE in _devices((args, kwargs))
        result = None if fused else func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._known:
                self._known[storage] = None
                self._holds(storage.nbytes())
                weakref.finalize(storage, self._holds, -storage.nbytes())
        return result

    def _holds(self, more: int) -> None:
        self.held += more
        self.most = max(self.most, self.held)


def _storages(values: Any) -> list[Any]:
    return [t.untyped_storage() for t in tree_leaves(values) if isinstance(t, Tensor)]


def _devices(values: Any) -> set[str]:
    return {t.device.type for t in tree_leaves(values) if isinstance(t, Tensor)}
