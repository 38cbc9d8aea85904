"""What the compiled step makes of a compiler: one graph, which serves every schedule and shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import cases
import halflife
from cases import PEAK
from compiled_runs import COMPILED
from halflife import (
    Anchored,
    Cautious,
    Decoupled,
    HuberDecay,
    PowerDecay,
    Preconditioned,
    ProximalL1,
)
from halflife.mechanism.compiled import kernels
from torch_versions import RECOMPILE_LIMIT

pytestmark = pytest.mark.slow

SHAPES = [(300, 100), (8, 5, 30, 30), (20_000,), (7, 3), (5,), (1,), (), (0, 3), (9, 1)]


def train_compiled(
    optimizer: Any, params: list[Tensor], counter: CompileCounterWithBackend
) -> list[int]:
    """A cosine schedule of lr, weight decay and momentum; the number of graphs after each step."""
    generator = torch.Generator().manual_seed(2)
    graphs = []
    for t, lr in enumerate(cases.schedule("cosine", total=6)):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, generator=generator)
            if i in (1, 3) and t % 2:
                p.grad = None
        group = optimizer.param_groups[0]
        group.update(lr=lr, weight_decay=0.5 - 0.01 * t)
        group.update({"betas": (0.9 - 0.01 * t, 0.99)} if "betas" in group else {"momentum": 0.9})
        optimizer.step()
        graphs.append(counter.frame_count)
    return graphs


def weights() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    params = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in SHAPES]
    image = params[1].detach().contiguous(memory_format=torch.channels_last)
    return [params[0], torch.nn.Parameter(image), *params[2:]]


COMPILER_CASES = [
    pytest.param(halflife.AdamW, Cautious(), {}, "eager", id="AdamW-cautious"),
    pytest.param(halflife.AdamW, Decoupled(), {}, "eager", id="AdamW-decoupled"),
    pytest.param(halflife.Adam, Preconditioned(), {"amsgrad": True}, "aot_eager", id="AMSGrad"),
    pytest.param(halflife.AdamW, PowerDecay(power=1.5), {}, "eager", id="AdamW-power"),
    pytest.param(halflife.SGD, Anchored(), {"momentum": 0.9, "nesterov": True}, "eager", id="SGD"),
    pytest.param(halflife.SGD, HuberDecay(delta=0.4), {}, "eager", id="plain-SGD"),
    pytest.param(halflife.AdamW, ProximalL1(), {}, "inductor", id="AdamW-l1-inductor"),
    pytest.param(halflife.SGD, Cautious(), {"momentum": 0.9}, "inductor", id="SGD-inductor"),
    # A number of the rule's own that inductor cannot keep as a symbol.
    pytest.param(halflife.SGD, HuberDecay(delta=0.4), {}, "inductor", id="SGD-huber-inductor"),
]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(("cls", "rule", "own", "backend"), COMPILER_CASES)
def test_one_graph_for_every_step_and_shape(
    cls: Any, rule: Any, own: dict[str, Any], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lr, weight decay, momentum, step counts and sizes are; weights as without one."""
    counter = CompileCounterWithBackend(backend)
    monkeypatch.setattr(kernels, "BACKEND", counter)
    settings = {"lr": PEAK, "weight_decay": 0.5, "decay": rule, **own}
    params, twins = weights(), weights()
    graphs = train_compiled(cls(params, **settings, **COMPILED), params, counter)
    assert graphs == [1] * 6
    train_compiled(cls(twins, **settings, foreach=False, fused=False), twins, counter)
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("fresh_compiler")
def test_more_rules_than_torch_recompiles_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels share their code but not their compilations, whose number torch bounds."""
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(kernels, "BACKEND", counter)
    count = getattr(torch._dynamo.config, RECOMPILE_LIMIT) + 2
    for i in range(count):
        w = torch.nn.Parameter(torch.ones(3))
        optimizer = halflife.SGD([w], decay=HuberDecay(delta=1.0 + i), **COMPILED)
        w.grad = torch.ones(3)
        optimizer.step()
    assert counter.frame_count == count


@pytest.mark.usefixtures("fresh_compiler")
def test_inside_a_compiled_step_it_is_that_one() -> None:
    """``torch.compile(optimizer.step)`` makes its own graph of torch's implementation."""
    results = []
    for compiles in (False, True):
        params = cases.make_params()
        lr = torch.tensor(PEAK, dtype=torch.float64)
        optimizer = halflife.AdamW(params, lr, decay="cautious", weight_decay=0.5, **COMPILED)
        step = torch.compile(optimizer.step, backend="eager") if compiles else optimizer.step
        for row in cases.make_gradients(2, missing=False):
            cases.set_gradients(params, row)
            step()
        results.append(params)
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
