"""A compiled function is called again without the compiler only where that would do the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import cases
import halflife
from cases import PEAK
from compiled_runs import COMPILED
from halflife import versions
from halflife.mechanism.compiled import kernels
from halflife.mechanism.compiled.direct import Direct
from halflife.rules import DecayMap, View

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_compiler")]


class Asked:
    """A function's compiled form, and how often the compiler was asked."""

    def __init__(self) -> None:
        self.times = 0
        self.call = Direct(
            lambda out, *others: out.copy_(sum(t for t in others if t is not None)), "eager"
        )
        compiled = self.call._compiled

        def counted(*tensors: Tensor | None) -> None:
            self.times += 1
            compiled(*tensors)

        self.call._compiled = counted


def ones(*shape: int, **kind: Any) -> Tensor:
    return torch.ones(shape, **kind)


@pytest.fixture
def asked() -> Asked:
    """One that knows the kind of three tensors of 6 elements."""
    asked = Asked()
    for _ in range(3):
        asked.call(ones(6), ones(6), ones(6))
    assert asked.times == 1
    return asked


@pytest.mark.parametrize(
    "tensors",
    [
        lambda: (ones(7), ones(7), ones(7)),
        lambda: (ones(3, 2), ones(3, 2), ones(3, 2)),
        lambda: (ones(6, dtype=torch.float64), ones(6), ones(6)),
        lambda: (ones(6), ones(6, dtype=torch.bfloat16), ones(6)),
        lambda: (ones(6), ones(12)[::2], ones(6)),
        lambda: (ones(6), ones(1).expand(6), ones(6)),
        lambda: (ones(6), ones(1), ones(6)),
        lambda: (ones(6), torch.nn.Parameter(ones(6), requires_grad=False), ones(6)),
        lambda: (ones(6), ones(6, requires_grad=True), ones(6)),
        lambda: (ones(6), ones(6)._neg_view(), ones(6)),
        lambda: (ones(6), None, ones(6)),
        lambda: (ones(6), ones(6), ones(6), ones(6)),
        lambda: (ones(6), *[ones(6)] * 2),
        lambda: tuple(ones(6, device="meta") for _ in range(3)),
    ],
)
def test_another_kind_of_tensors_is_asked_about(tensors: Any, asked: Asked) -> None:
    given = tensors()
    with torch.no_grad():
        asked.call(ones(6), ones(6), ones(6))  # without gradients it is asked about, too
        before = asked.times
        asked.call(*given)
    assert asked.times == before + 1
    if not given[0].is_meta:
        wanted = sum(t.detach().to(given[0].dtype) for t in given[1:] if t is not None)
        assert torch.equal(given[0], wanted)


class OfOperations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class OfFunctions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "around",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu"),
        lambda: torch.device("cpu"),
        lambda: torch.compiler.set_stance("force_eager"),
        default_dtype,
        deterministic,
        OfFunctions,
    ],
)
def test_other_surroundings_are_asked_about(
    around: Callable[[], AbstractContextManager[Any]], asked: Asked
) -> None:
    with around():
        out, *others = ones(6), ones(6), ones(6)
        asked.call(out, *others)
    assert asked.times == 2
    assert torch.equal(out, ones(6) * 2)


def test_torch_compiles_nothing_under_a_mode_of_operations() -> None:
    with OfOperations():
        assert not versions.calls_plainly()
    assert versions.calls_plainly()


def test_sizes_that_are_new_at_every_step_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    monkeypatch.setattr("halflife.mechanism.compiled.direct.MOST", 4)
    for size in range(2, 30):
        asked.call(ones(size), ones(size), ones(size))
        assert len(asked.call._answers) <= 4
        assert not asked.call._thread.ran  # nor do their tensors


def test_a_torch_that_cannot_say_is_asked_always(
    monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    monkeypatch.delattr(torch._C._dynamo.guards, "TensorGuards")
    for _ in range(3):
        asked.call(ones(9), ones(9), ones(9))
    assert asked.times == 4
    assert versions.same_call([ones(9)]) is None


class Own(DecayMap):
    """A rule of a user's own, which looks at something that changes."""

    name, elementwise, share = "own", True, 1.0

    def apply(self, view: View) -> None:
        view.elementwise(lambda w, d: w.mul_(1.0 - d * self.share))


def test_a_rule_of_the_users_own_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BACKEND", "eager")
    rule = Own()
    w = torch.nn.Parameter(ones(6))
    optimizer = halflife.AdamW([w], 0.1, weight_decay=1.0, decay=rule, **COMPILED)
    w.grad = torch.zeros(6)
    for share in (1.0, 0.5, 0.0):
        object.__setattr__(rule, "share", share)
        before = w.detach().clone()
        optimizer.step()
        torch.testing.assert_close(w.detach(), before * (1.0 - 0.1 * share))


@pytest.mark.parametrize("case", [c for c in cases.MAPS if c.rule.elementwise], ids=lambda c: c.id)
def test_what_ours_close_over_is_constant(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BACKEND", "eager")
    run = kernels.compiled(kernels.adam, case.rule, (False, False), torch.float32, "cpu", "eager")
    assert isinstance(run, Direct)
    assert type(case.rule).__dataclass_params__.frozen
    for field in dataclasses.fields(case.rule):
        value = getattr(case.rule, field.name)
        assert value is None or isinstance(value, (int, float, str, halflife.rules.DecayRule))


def test_steps_are_those_that_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large and small ones, some without a gradient now and then: every bit."""
    monkeypatch.setattr(kernels, "BACKEND", "eager")
    ends = []
    for asking in (False, True):
        if asking:
            monkeypatch.setattr(versions, "calls_plainly", lambda: False)
        params = cases.make_params(shapes=[(300, 100), (300, 100), (20_000,), (7, 3), (5,), ()])
        optimizer = halflife.AdamW(params, PEAK, weight_decay=0.5, decay="cautious", **COMPILED)
        generator = torch.Generator().manual_seed(1)
        for t in range(8):
            for i, p in enumerate(params):
                gone = (i + t) % 4 == 0
                p.grad = None if gone else torch.randn(p.shape, generator=generator, dtype=p.dtype)
            optimizer.step()
        ends.append(params)
    assert all(map(torch.equal, *ends))
