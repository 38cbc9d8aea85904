"""On ``--device``, else on CUDA; ``--device cpu`` rehearses all that is not CUDA's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

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
            accelerator.has_all_kernels(monkeypatch, "cpu")
            accelerator.cpu_is_one(monkeypatch)
            monkeypatch.setattr(versions, "compiles_for", lambda device: True)
            request.getfixturevalue("uncompiled")
            choice.works.cache_clear()
        return device

    yield go
    if device.type == "cpu":
        choice.works.cache_clear()
