"""What looks at a training says of one on the device what it says of one on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_device import LRS, made, written
from torch import nn

import cases
import halflife
from halflife.diagnostics import Monitor, audit


def model_on(device: torch.device, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 300), nn.LayerNorm(300), nn.Linear(300, 300))
    return model.to(device, dtype)


@pytest.mark.parametrize("preset", ["economy", "standard", "full"])
def test_the_monitors_numbers(preset: str, there: Callable[[], torch.device]) -> None:
    found = []
    rule = next(r for r in cases.RULES if r.id == "decoupled")
    for where in (lambda: torch.device("cpu"), there):
        optimizer, params = made(cases.optimizer("AdamW"), rule, where(), torch.float64)
        monitor = Monitor(optimizer, every=2, preset=preset)
        for t in range(len(LRS)):
            written(optimizer, params, t)
            optimizer.step()
        found.append(monitor.history)
    here, on_device = found
    assert len(here) == len(on_device) > 0
    for one, other in zip(on_device, here, strict=True):
        numbers = {k: v for k, v in other.items() if isinstance(v, (int, float))}
        assert len(numbers) > 5
        assert {k: one[k] for k in numbers} == pytest.approx(numbers, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", ["decoupled", "stable", "cautious"])
def test_audit_and_describe(
    rule: str, dtype: torch.dtype, there: Callable[[], torch.device]
) -> None:
    """The same words; and neither weights nor state nor random numbers move."""
    told: list[Any] = []
    for where in (lambda: torch.device("cpu"), there):
        device = where()
        model = model_on(device, dtype)
        optimizer = halflife.AdamW(model.parameters(), 1e-3, weight_decay=0.1, decay=rule)
        data = torch.ones(4, 6, device=device, dtype=dtype)
        model(data).square().mean().backward()
        optimizer.step()
        before = [p.detach().clone() for p in model.parameters()]
        random = torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
        result = audit(model, optimizer, schedule=schedule, steps=1000)
        told.append(([f.code for f in result.findings], str(halflife.describe(optimizer))))
        after = torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()
        assert torch.equal(random, after)
        assert all(map(torch.equal, before, model.parameters()))
    assert told[0] == told[1]
