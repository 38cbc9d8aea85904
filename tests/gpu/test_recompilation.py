"""What is compiled by itself on a device, and that one compilation serves every size and schedule.

In a rehearsal the compiler's own back end is left out: the graphs run as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from on_device import HALVES, LRS, RULES
from torch._dynamo.testing import CompileCounterWithBackend

import cases
import halflife
from cases import PEAK, MapCase, RuleCase
from halflife import versions
from halflife.mechanism.compiled import choice, kernels
from halflife.rules import DecayMap
from oracles import MAP_BASES

# Large ones, which go by themselves, whatever their size; small ones together, however many.
SIZES = [(300, 220), (150, 120), (20_000,), (7, 3), (5,), (1,), (), (0, 3)]
pytestmark = pytest.mark.usefixtures("fresh_compiler")


@pytest.fixture
def counter(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Of graphs that kernels have been compiled into."""
    if device.type == "cpu":
        monkeypatch.setattr(versions, "compiles_for", lambda device: True)
    counter = CompileCounterWithBackend("eager" if device.type == "cpu" else kernels.BACKEND)
    monkeypatch.setattr(kernels, "BACKEND", counter)
    choice.works.cache_clear()
    yield counter
    choice.works.cache_clear()


def compiles(rule: RuleCase | MapCase, dtype: torch.dtype) -> bool:
    elementwise = isinstance(rule.rule, DecayMap) and rule.rule.elementwise
    return elementwise and (dtype in HALVES or "preconditioner" in rule.rule.needs)


CHOSEN = [
    pytest.param(rule, dtype, id=f"{rule.id}-{dtype}", marks=[] if quick else pytest.mark.slow)
    for rule in RULES
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
    if compiles(rule, dtype)
    for quick in [rule.id in ("cautious", "preconditioned") and dtype is not torch.float16]
]


@pytest.mark.parametrize("base", ["AdamW", "AMSGrad", "SGD-momentum"])
@pytest.mark.parametrize(("rule", "dtype"), CHOSEN)
def test_one_graph_by_itself_for_every_size_and_schedule(
    rule: RuleCase | MapCase, dtype: torch.dtype, base: str, device: torch.device, counter: Any
) -> None:
    """A warning that something could not be compiled is an error here."""
    case = MAP_BASES[base]
    if case.refuses(rule.rule):
        pytest.skip(f"{base} has not what {rule.id} needs")
    for count in (len(SIZES), 2):
        params = cases.make_params(dtype=dtype, shapes=SIZES[:count])
        params = [torch.nn.Parameter(p.detach().to(device)) for p in params]
        optimizer = case.make(params, rule, weight_decay=0.01 * rule.weight_decay)
        group = optimizer.param_groups[0]
        for t, lr in enumerate(LRS):
            group["lr"] = lr
            group["weight_decay"] *= 0.9
            for i, p in enumerate(params):
                p.grad = None if (i + t) % 5 == 0 else torch.full_like(p, 0.1 * (i - 2.5))
            optimizer.step()
        assert counter.frame_count == 1
    assert all(torch.isfinite(p).all() for p in params)


@pytest.mark.parametrize("how", ["foreach", "fused", "native", "capturable"])
def test_what_is_chosen_otherwise_is_not(how: str, device: torch.device, counter: Any) -> None:
    if how == "capturable" and device.type == "cpu":
        pytest.skip("torch captures no step on the CPU")
    flag: dict[str, Any] = {"implementation": "native"} if how == "native" else {how: True}
    w = torch.nn.Parameter(torch.ones(30, device=device))
    optimizer = halflife.AdamW([w], PEAK, weight_decay=0.5, decay="preconditioned", **flag)
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert counter.frame_count == 0


@pytest.mark.parametrize("decay", ["decoupled", "stable", "cautious"])
def test_a_compiled_step_is_compiled_no_more_after_its_second(
    decay: str, device: torch.device
) -> None:
    """``torch.compile(optimizer.step)`` with tensors: once without state, once with it."""
    cuda = device.type == "cuda"
    settings = {"capturable": True} if cuda else {}
    ends, graphs = [], []
    for compiled in (False, True):
        params = [torch.nn.Parameter(p.detach().to(device)) for p in cases.make_params()]
        lr, weight_decay = (torch.tensor(value, device=device) for value in (PEAK, 0.5))
        optimizer = halflife.AdamW(
            params, lr, weight_decay=weight_decay, decay=decay, eps=1e-3, peak_lr=PEAK, **settings
        )
        counted = CompileCounterWithBackend("inductor" if cuda else "eager")
        step = torch.compile(optimizer.step, backend=counted) if compiled else optimizer.step
        for t, row in enumerate(cases.make_gradients(5, missing=False)):
            for p, g in zip(params, row, strict=True):
                p.grad = g.to(device)  # type: ignore[union-attr]
            optimizer.param_groups[0]["lr"].fill_(LRS[t])
            step()
            graphs.append(counted.frame_count)
        ends.append(params)
    assert graphs[6:] == [graphs[6]] * 4
    assert graphs[6] > 0
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
