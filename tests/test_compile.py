"""``torch.compile(optimizer.step)``: one set of graphs, whatever the scalars are.

The lr and the weight decay are tensors without dimensions that a scheduler writes in place. What
is compiled at the first two steps (before and with a state) serves all later ones. torch's own
optimizers break the graph once, where they set the grad mode, so a step is a few graphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import cases
import halflife
from cases import PEAK, MapCase, OptimizerCase, RuleCase
from torch_versions import GRAPHS, before, since

pytestmark = pytest.mark.slow

STEPS = 5
LRS = cases.schedule("cosine", total=STEPS)
EVERY: list[RuleCase | MapCase] = [*cases.RULES, *cases.MAPS]
ADAMW = cases.optimizer("AdamW")
BASES: dict[str, OptimizerCase] = {
    "AdamW": ADAMW,
    "AdamW-capturable": ADAMW.only(capturable=True, eps=1e-3),
    "AdamW-uncaptured": ADAMW.only(eps=1e-3),  # what the above is compared with
    "AMSGrad": cases.optimizer("AMSGrad").given(eps=1e-3),
    "SGD-momentum": cases.optimizer("SGD-momentum"),
}
AOT = ("l2-SGD-momentum", "independent-AdamW", "stable-AdamW", "cautious-SGD-momentum", "l1-AdamW")
# AdamW takes every rule; on SGD, one of each kind of call.
ON_SGD = ("l2", "decoupled", "proximal", "stable", "cautious", "anchored", "l1", "norm")
PAIRS = [
    pytest.param(case, base, id=f"{case.id}-{base}")
    for case in EVERY
    for base in BASES
    if base == "AdamW"
    or (base == "SGD-momentum" and case.id in ON_SGD)
    or (base in ("AdamW-capturable", "AMSGrad") and case.id in ("l2", "stable", "preconditioned"))
]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make(case: RuleCase | MapCase, base: str, params: list[Tensor]) -> tuple[Any, Tensor, Tensor]:
    """The optimizer and its two scalars."""
    lr = torch.tensor(PEAK, dtype=torch.float64)
    decay = torch.tensor(case.weight_decay, dtype=torch.float64)
    optimizer = BASES[base].make(params, case, lr=lr, weight_decay=decay, peak_lr=PEAK)
    return optimizer, lr, decay


def run(
    case: RuleCase | MapCase, base: str, backend: Any = None, dtype: torch.dtype = torch.float64
) -> tuple[list[int], Tensor]:
    """The number of graphs after each step, and the weights at the end."""
    params = cases.make_params(dtype=dtype)
    optimizer, lr, decay = make(case, base, params)
    counter = CompileCounterWithBackend(backend or "eager")
    step = torch.compile(optimizer.step, backend=counter) if backend else optimizer.step
    graphs = []
    for t, row in enumerate(cases.make_gradients(STEPS, missing=False)):
        for p, g in zip(params, row, strict=True):
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            p.grad.copy_(g)
        lr.fill_(LRS[t])
        decay.fill_(case.weight_decay * (1.0 - t / 20.0))
        step()
        graphs.append(counter.frame_count)
    return graphs, torch.cat([p.detach().flatten() for p in params])


@pytest.mark.parametrize(("case", "base"), PAIRS)
def test_scalars_may_change(case: RuleCase | MapCase, base: str) -> None:
    """Nothing is compiled after the second step, and the weights are those of eager mode."""
    if base == "AdamW-capturable":  # which torch has on the CPU in compiled steps only
        _, expected = run(case, "AdamW-uncaptured")
    else:
        _, expected = run(case, base)
    graphs, weights = run(case, base, "eager")
    assert graphs[0] > 0
    assert graphs[1:] == [graphs[1]] * (STEPS - 1)
    assert graphs[1] <= GRAPHS
    # A compiled step of torch's Adam has its bias correction in the step's own float32.
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


def test_a_large_tensor_is_one_piece_of_the_graph() -> None:
    """In eager mode an elementwise map goes over it in pieces; a graph is not unrolled so."""

    def operations(size: int) -> int:
        p = torch.nn.Parameter(torch.ones(size))
        p.grad = torch.ones(size)
        decay = halflife.Cautious()
        optimizer = halflife.AdamW([p], lr=torch.tensor(0.1), decay=decay, peak_lr=0.1)
        counter = CompileCounterWithBackend("eager")
        torch.compile(optimizer.step, backend=counter)()
        return counter.op_count

    assert operations(300_000) == operations(300)


@pytest.mark.parametrize(
    ("case", "base"),
    [
        pytest.param(case, base, id=f"{case.id}-{base}")
        for case in EVERY
        for base in ("AdamW", "SGD-momentum")
        if base == "AdamW" or case.id in ON_SGD
    ],
)
def test_groups_whose_gradients_are_replaced(case: RuleCase | MapCase, base: str) -> None:
    """As ``zero_grad`` does it: a graph for one group does not hang on another's gradients."""

    def run(compiled: bool) -> tuple[list[int], Tensor, list[Tensor]]:
        params = cases.make_params()
        groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.0}]
        lr, graphs, wd = torch.tensor(PEAK), [], case.weight_decay
        optimizer = BASES[base].make(groups, case, lr=lr, weight_decay=wd, peak_lr=PEAK)
        counter = CompileCounterWithBackend("eager")
        step = torch.compile(optimizer.step, backend=counter) if compiled else optimizer.step
        for t, row in enumerate(cases.make_gradients(STEPS, missing=False)):
            cases.set_gradients(params, row)
            lr.fill_(LRS[t])
            step()
            graphs.append(counter.frame_count)
        anchors = [s["anchor"] for s in map(optimizer.state.get, params) if "anchor" in s]
        return graphs, torch.cat([p.detach().flatten() for p in params]), anchors

    graphs, weights, anchors = run(compiled=True)
    _, expected, captured = run(compiled=False)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(anchors, captured, rtol=0.0, atol=0.0)
    assert graphs[1:] == [graphs[1]] * (STEPS - 1)


@pytest.mark.parametrize(("case", "base"), [p for p in PAIRS if p.id in AOT])
def test_graphs_without_writes(case: RuleCase | MapCase, base: str) -> None:
    """As backends that generate code get them: writes become outputs that are copied back.

    In float32: dynamo takes a float64 CPU tensor without dimensions for a Python number, and what
    such a graph writes to one is lost, with torch's own optimizers and without any.
    """
    _, expected = run(case, base, dtype=torch.float32)
    graphs, weights = run(case, base, "aot_eager", dtype=torch.float32)
    assert graphs[1:] == [graphs[1]] * (STEPS - 1)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)


@before(2, 7, "a graph loses what it writes to a float64 number")
@since(2, 14, "a graph keeps what it writes to a float64 number")
def test_what_a_graph_writes_to_a_float64_number_is_lost() -> None:
    """The limitation of torch that the test above leaves out; if this fails, it is gone."""

    def add(number: Tensor) -> None:
        number.add_(1.0)

    for dtype, written in ((torch.float64, 1.0), (torch.float32, 2.0)):
        number = torch.ones((), dtype=dtype)
        torch.compile(add, backend="aot_eager")(number)
        assert number.item() == written
