"""Small tensors of an accelerator in one buffer, on a CPU that is taken for one: the odd cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import accelerator
import halflife
from halflife.bases.mean_rate import MeanRate
from halflife.optim import adai
from halflife.optim.base import of_each
from halflife.rules import DecayMap, View, facts
from halflife.tensors.packs import Packs
from halflife.tensors.reduction import WholeModel


@pytest.fixture(params=["host", "accelerator"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "accelerator":
        accelerator.cpu_is_one(monkeypatch)
    return str(request.param)


@pytest.fixture
def taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator.cpu_is_one(monkeypatch)


def ones(*shapes: tuple[int, ...], **how: Any) -> list[Parameter]:
    params = [Parameter(torch.ones(shape, **how)) for shape in shapes]
    for p in params:
        p.grad = torch.ones_like(p)
    return params


class Counting(torch.optim.SGD):
    """It counts each parameter's steps as a Python number, as optimizers of others do."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                self.state[p]["step"] = self.state[p].get("step", 0) + 1


def _steps(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    return torch.full_like(grad, state.get("step", 0) + 1.0)


facts.declare(
    Counting, effective_rate=lambda optimizer, reduction=None: MeanRate(
        optimizer, reduction, inverse_square=_steps
    )
)  # fmt: skip


@pytest.mark.usefixtures("place")
def test_a_python_number_of_the_state_is_each_tensors_own() -> None:
    first, second = ones((3,), (1,))
    optimizer = halflife.decayed(Counting)([first, second], lr=0.1, decay="stable")
    second.grad, grad = None, second.grad
    optimizer.step()
    second.grad = grad
    optimizer.step()  # the first one's second step, the second one's first
    assert optimizer.last_effective_rate == pytest.approx(((3 * 2 + 1 * 1) / 4) ** -0.5)


@pytest.mark.usefixtures("place")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_a_sparse_gradient_goes_by_itself() -> None:
    table, vectors = torch.nn.Embedding(4, 2, sparse=True), ones((2,), (3,))
    table(torch.tensor([1, 2])).sum().backward()
    params = [table.weight, *vectors]
    optimizer = halflife.Adagrad(params, lr=0.1, weight_decay=0.1, decay="stable")
    optimizer.step()
    # E^-2 is the sum of squares of the gradients: 4 ones of 8, and 5 of 5.
    assert optimizer.last_effective_rate == pytest.approx(((4 + 5) / 13) ** -0.5)


@dataclass
class Scaled:
    """What compares by value cannot be hashed."""

    factor: float

    def __call__(self, w: Tensor) -> Tensor:
        return self.factor * w


@dataclass(frozen=True)
class Own(DecayMap):
    """A map of the user's, with a function for each weight and a field that cannot be hashed."""

    name = "planted_with_a_list"
    elementwise = True
    factors: Any = ()

    def apply(self, view: View) -> None:
        columns = zip(self.factors, view.weights, strict=True)
        pulls = [facts.Deferred(Scaled(factor), (w,)) for factor, w in columns]
        view.elementwise(lambda w, d, pull: w.sub_(pull * d), pulls)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("compiles", [False, True])
def test_a_function_for_each_weight_is_its_own(
    compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it compiled where another map would be: its kernel could not be kept."""
    monkeypatch.setattr("halflife.versions.compiles_for", lambda device: compiles)
    params = ones((2,), (3,), (2,), dtype=torch.bfloat16 if compiles else torch.float32)
    rule = Own(factors=[1.0, 2.0, 3.0])
    halflife.SGD(params, lr=0.1, weight_decay=1.0, decay=rule, momentum=0.5).step()
    for factor, p in zip(rule.factors, params, strict=True):
        torch.testing.assert_close(p.detach(), torch.full_like(p, 1.0 - 0.1 * factor - 0.1))


@pytest.mark.usefixtures("taken_for_one")
def test_a_step_under_inference_mode_spoils_no_buffer() -> None:
    params = ones((2,), (3,))
    optimizer = halflife.SGD(params, lr=0.1, weight_decay=1.0, decay="huber")
    with torch.inference_mode():
        optimizer.step()
    optimizer.step()
    expected = 0.9 * (0.9 * 1.0 - 0.1) - 0.1
    assert params[0].tolist() == pytest.approx([expected] * 2)


def fill_one_more_each_time(packs: Packs) -> None:
    tensors = [torch.ones(1000) for _ in range(50)]
    for count in range(2, 50):
        packs.fill(0, tensors[:count])


def spread_over_ever_others(packs: Packs) -> None:
    for count in range(1000):
        tensors = [torch.ones(count + 1), torch.ones(2)]
        packs.spread([torch.ones(()), torch.ones(())], tensors)


@pytest.mark.parametrize("use", [fill_one_more_each_time, spread_over_ever_others])
def test_what_is_kept_has_a_bound(use: Callable[[Packs], None]) -> None:
    """Experts, layers that are thawed: the tensors with a gradient may be others at every step."""
    packs = Packs()
    use(packs)
    views = [view for _, some in packs._layouts.values() for view in some]
    kept = [*packs._buffers.values(), *packs._sizes.values(), *views]
    memory = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    assert sum(memory.values()) <= 2 * 50 * 1000 * 4
    assert len(packs._sizes) <= 256


@pytest.mark.usefixtures("place")
def test_products_of_complex_tensors() -> None:
    one, other = torch.tensor([1 + 2j, 3 - 1j]), torch.tensor([2 - 1j, 1 + 1j])
    found = WholeModel().products([(one, other), (torch.ones(2), torch.ones(2))])
    assert found.tolist() == [0.0 + 2.0, 2.0]


def test_counts_on_several_devices() -> None:
    """Adai's correction, where a model is spread over them and their counts with it."""
    counts = [torch.tensor(3.0), torch.empty((), device="meta")]
    doubled = of_each(lambda t: 2 * t, counts)
    assert [t.device.type for t in doubled] == ["cpu", "meta"]
    assert adai._column([*doubled, 1.0], torch.empty(3, device="meta")).shape == (3,)
