"""Accelerators without one: meta tensors that count operations, and a CPU that is taken for one.

Meta tensors are on no host and have no values. torch's lists of devices are told that theirs has
foreach, fused and capturable kernels.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from benchmarks.operations import DEVICE as DEVICE
from benchmarks.operations import Counting as Counting
from benchmarks.operations import all_kernels, modules_with
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


@pytest.fixture
def has_all_kernels() -> Iterator[None]:
    """Let torch think that the device has all kernels, as CUDA does."""
    with all_kernels():
        yield


def cpu_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let halflife treat tensors of the CPU as it treats those of an accelerator."""
    for module in modules_with("on_host"):
        monkeypatch.setattr(module, "on_host", lambda tensor: False)


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
