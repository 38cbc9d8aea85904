"""On ``--device``, else on CUDA; ``--device cpu`` rehearses all that is not CUDA's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from benchmarks.operations import all_kernels

import accelerator
from halflife import versions
from halflife.mechanism.compiled import choice

pytest.register_assert_rewrite("on_device")


@pytest.fixture
def there(
    request: pytest.FixtureRequest, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], torch.device]]:
    """What leads to the device; until it is called, the CPU is a CPU.

    In a rehearsal the CPU is then taken for an accelerator with all kernels, which torch.compile
    has a backend for; what would be compiled runs as it is written.
    """

    def go() -> torch.device:
        if device.type == "cpu":
            patched.enter_context(all_kernels("cpu"))
            accelerator.cpu_is_one(monkeypatch)
            monkeypatch.setattr(versions, "compiles_for", lambda device: True)
            request.getfixturevalue("uncompiled")
            choice.works.cache_clear()
        return device

    with contextlib.ExitStack() as patched:
        yield go
    if device.type == "cpu":
        choice.works.cache_clear()
