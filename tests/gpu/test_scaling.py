"""Under a gradient scaler: float16 autocast that overflows, and steps that are skipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_device import LRS, bases, no_waiting, rules_of, torchs_own
from torch import Tensor

import cases
from cases import OptimizerCase

OVERFLOWS = {0, 4}
SCALED = [
    b
    for b in bases()
    if b.values[0].id in ("SGD-momentum", "AdamW", "Lion") and "capturable" not in b.values[1]
]


def model_on(device: torch.device) -> torch.nn.Sequential:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 300), torch.nn.Tanh(), torch.nn.Linear(300, 300))
    return model.to(device)


@pytest.mark.parametrize("unscaled_first", [False, True])
@pytest.mark.parametrize(("case", "how"), SCALED)
def test_skipped_steps_change_nothing_and_others_are_those_without_a_scaler(
    case: OptimizerCase,
    how: dict[str, Any],
    unscaled_first: bool,
    there: Callable[[], torch.device],
) -> None:
    device = there()
    torchs_own(case, how, device, torch.float32)
    case = case.given(eps=1e-3) if "Adam" in case.id else case
    if case.id == "SGD-momentum":  # the fused kernel's first step has no dampening
        case = case.only(momentum=0.9)
    apart = []
    for rule in rules_of(case, how):
        taken, end = scaled(case, rule, how, device, unscaled_first)
        assert len(taken) == len(LRS) - len(OVERFLOWS)
        params = list(model_on(device).parameters())
        optimizer = case.make(params, rule, weight_decay=0.02 * rule.weight_decay, **how)
        for t, grads in taken.items():
            optimizer.param_groups[0]["lr"] = LRS[t]
            for p, g in zip(params, grads, strict=True):
                p.grad = g
            optimizer.step()
        for p, q in zip(end, params, strict=True):
            # A scale is a power of 2: only the order of operations differs.
            if not torch.allclose(p, q.detach(), rtol=1e-4, atol=1e-5):
                apart.append(rule.id)
    assert not apart


def scaled(
    case: OptimizerCase, rule: Any, how: dict[str, Any], device: torch.device, unscaled_first: bool
) -> tuple[dict[int, list[Tensor]], list[Tensor]]:
    """The unscaled gradients of each step that was taken, and the weights at the end."""
    model = model_on(device)
    params = list(model.parameters())
    optimizer = case.make(params, rule, weight_decay=0.02 * rule.weight_decay, **how)
    scaler = torch.amp.GradScaler(device.type, init_scale=256.0, growth_interval=1000)
    taken = {}
    for t, lr in enumerate(LRS):
        optimizer.param_groups[0]["lr"] = lr
        data = torch.randn(8, 6, generator=torch.Generator().manual_seed(t)).to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16):
            loss = model(data).float().square().mean() * (1e9 if t in OVERFLOWS else 1e2)
        scaler.scale(loss).backward()
        scale = scaler.get_scale()
        grads = [p.grad.clone() / scale for p in params]  # type: ignore[union-attr]
        before = [p.detach().clone() for p in params]
        if unscaled_first:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        if all(map(torch.equal, before, params)):
            assert scaler.get_scale() < scale
        else:
            taken[t] = grads
    return taken, [p.detach() for p in params]


@pytest.mark.parametrize("rule", ["decoupled", "l2", "stable", "cautious"])
def test_a_fused_step_under_a_scaler_waits_for_nothing(
    rule: str, there: Callable[[], torch.device]
) -> None:
    """It is torch's fused kernel that skips, by a number on the device."""
    device = there()
    case = next(r for r in (*cases.RULES, *cases.MAPS) if r.id == rule)
    w = torch.nn.Parameter(torch.ones(300, 300, device=device))
    optimizer = cases.optimizer("AdamW").make([w], case, weight_decay=1e-3, fused=True)
    for t in range(4):
        w.grad = torch.ones_like(w)
        optimizer.grad_scale = torch.full((), 256.0, device=device)
        optimizer.found_inf = torch.zeros((), device=device)
        if t < 2:
            optimizer.step()
        else:
            with no_waiting(device):
                optimizer.step()
