"""A training that goes from the CPU to the device and back is one that stayed on the CPU."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_device import (
    LRS,
    STEPS,
    bases,
    made,
    rules_of,
    state_of,
    torchs_own,
    train,
)
from test_half_precision import on_cpu
from test_parity import CAPTURED, CLOSE, MUON, assert_same, on_the_cpu

import halflife
from cases import OptimizerCase


@pytest.mark.parametrize(("case", "how"), bases())
def test_a_checkpoint_goes_there_and_back(
    case: OptimizerCase, how: dict[str, Any], there: Callable[[], torch.device]
) -> None:
    rules = rules_of(case, how)
    # What only the device has is chosen there.
    own = how if "capturable" not in how and "implementation" not in how else {}
    begun, wanted = {}, {}
    for rule in rules:
        optimizer, params = made(case, rule, "cpu", torch.float64, **own)
        train(optimizer, params, 0, 3)
        begun[rule.id] = on_cpu(optimizer.state_dict()), [on_cpu(p.detach()) for p in params]
        wanted[rule.id] = on_the_cpu(case.id, rule.id, torch.float64)
    device = there()
    torchs_own(case, how, device, torch.float64)
    apart = {}
    close = CLOSE[torch.float64] if "capturable" not in how else CAPTURED
    close = MUON if case.id == "Muon" else close
    for rule in rules:
        stored, weights = begun[rule.id]
        for where, last in ((device, 6), (torch.device("cpu"), STEPS)):
            settings = how if where.type == device.type else own
            optimizer, params = made(case, rule, where, torch.float64, **settings)
            optimizer.load_state_dict(with_flags(stored, settings))
            with torch.no_grad():
                for p, w in zip(params, weights, strict=True):
                    p.copy_(w)
            train(optimizer, params, 3 if last == 6 else 6, last)
            if where.type != "cpu":
                apart |= {f"{rule.id}: {told}": "" for told in misplaced(optimizer, settings)}
            stored, weights = on_cpu(optimizer.state_dict()), [on_cpu(p.detach()) for p in params]
        try:
            assert_same(weights, wanted[rule.id][0], close)
            for position, held in wanted[rule.id][1].items():
                found = state_of(optimizer)[position]
                assert_same([found[name] for name in held], held.values(), close)
        except AssertionError as error:
            apart[rule.id] = str(error)
    assert not apart


def with_flags(stored: dict[str, Any], how: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint whose groups ask for another implementation, as their owner writes them."""
    flags = {"foreach": None, "fused": None, "capturable": False, "implementation": None, **how}
    groups = [
        {**group, **{k: v for k, v in flags.items() if k in group}}
        for group in stored["param_groups"]
    ]
    return {**stored, "param_groups": groups}


def misplaced(optimizer: Any, how: dict[str, Any]) -> list[str]:
    """State that is not beside its weight; counts of steps are where their reader wants them.

    torch's fused and capturable kernels read them on the device, the others and ours on the host.
    """
    beside = how.get("fused") or how.get("capturable")
    found = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            for name, value in optimizer.state[p].items():
                if not isinstance(value, torch.Tensor) or value.dim() == 0 != p.dim():
                    continue
                if name == "step" or p.dim() == 0:
                    continue
                if value.device.type != p.device.type:
                    found.append(f"{name} on {value.device}")
            step = optimizer.state[p].get("step")
            if isinstance(step, torch.Tensor) and beside and step.device.type != p.device.type:
                found.append(f"step on {step.device}")
            if how.get("implementation") == "compiled" and step is not None and not step.is_cpu:
                found.append(f"step on {step.device}")
    return found


@pytest.mark.parametrize("decay", ["decoupled", "cautious"])
@pytest.mark.parametrize("how", [{}, {"implementation": "native"}, {"capturable": True}], ids=str)
def test_a_checkpoint_may_be_read_onto_the_device(
    how: dict[str, Any], decay: Any, there: Callable[[], torch.device]
) -> None:
    """All of it, as ``torch.load(map_location=device)`` does: what the host counts goes back."""
    device = there()
    ends = []
    for resumed in (False, True):
        w = torch.nn.Parameter(torch.ones(600, device=device, dtype=torch.bfloat16))
        optimizer = halflife.AdamW([w], 1e-3, weight_decay=0.5, decay=decay, **how)
        for t in range(8):
            if resumed and t == 4:
                file = io.BytesIO()
                torch.save(optimizer.state_dict(), file)
                file.seek(0)
                optimizer = halflife.AdamW([w], 1e-3, weight_decay=0.5, decay=decay, **how)
                optimizer.load_state_dict(torch.load(file, map_location=device))
            w.grad = torch.full_like(w, 0.1 * (t - 4.5))
            optimizer.step()
        ends.append(w.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("how", [{}, {"implementation": "native"}, {"implementation": "compiled"}])
def test_counts_of_steps_follow_who_reads_them(
    how: dict[str, Any], there: Callable[[], torch.device]
) -> None:
    """From compiled to torch's own steps and back within a training, as by torch's own alone."""
    device = there()
    ends = []
    for switching in (False, True):
        w = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 600, device=device, dtype=torch.float64))
        optimizer = halflife.AdamW([w], LRS[0], weight_decay=0.5, decay="preconditioned", eps=1e-3)
        group = optimizer.param_groups[0]
        group |= how
        for t, lr in enumerate(LRS):
            if switching and t in (3, 6):
                group["implementation"] = "compiled" if t == 3 else "native"
            group["lr"] = lr
            w.grad = torch.cos(torch.arange(600, device=device) * (t + 1.0)).double()
            optimizer.step()
        ends.append(w.detach())
    torch.testing.assert_close(*ends, rtol=1e-11, atol=1e-13)
