"""Our own base optimizers do as torch's: compiled, with closures, bad values, empty tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import cases
from cases import PEAK
from compiled_runs import steps_compile_once
from halflife.optim.adabound import AdaBoundBase
from halflife.optim.adai import AdaiBase
from halflife.optim.lion import Lion, LionBase
from halflife.optim.padam import PadamBase
from halflife.optim.yogi import YogiBase

OURS = {o.name: o for o in cases.OURS}
IMPLEMENTATIONS = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}}


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("cls", dict.fromkeys(o.native for o in OURS.values()))
def test_compiled_step_is_the_same_and_compiles_once(cls: Any, implementation: str) -> None:
    steps_compile_once(cls, **IMPLEMENTATIONS[implementation])


NAN = float("nan")
INVALID: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lr": (YogiBase, {"lr": -1e-2}, "Invalid learning rate: -0.01"),
    "lr nan": (LionBase, {"lr": NAN}, "Invalid learning rate: nan"),
    "lr tensor": (PadamBase, {"lr": torch.ones(2)}, "Tensor lr must be 1-element"),
    "beta1": (LionBase, {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    "beta2": (YogiBase, {"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
    "eps": (AdaBoundBase, {"eps": -1.0}, "Invalid epsilon value: -1.0"),
    "accumulator": (
        YogiBase,
        {"initial_accumulator": -1.0},
        "Invalid initial_accumulator value: -1.0",
    ),
    "final_lr": (AdaBoundBase, {"final_lr": -0.1}, "Invalid final learning rate: -0.1"),
    "gamma": (AdaBoundBase, {"gamma": 0.0}, "Invalid gamma value: 0.0"),
    "base_lr": (
        AdaBoundBase,
        {"lr": 0.0},
        "Invalid base_lr value: 0.0 (final_lr is scaled by lr / base_lr; pass base_lr= where the "
        "lr starts at 0)",
    ),
    "partial": (PadamBase, {"partial": 0.6}, "Invalid partial value: 0.6"),
    "partial nan": (PadamBase, {"partial": NAN}, "Invalid partial value: nan"),
    "beta0": (AdaiBase, {"betas": (-0.1, 0.9)}, "Invalid beta parameter at index 0: -0.1"),
    "adai beta2": (AdaiBase, {"betas": (0.1, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
    "adai eps": (AdaiBase, {"eps": 0.0}, "Invalid epsilon value: 0.0"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_values(case: str) -> None:
    cls, arguments, message = INVALID[case]
    with pytest.raises(ValueError, match=r"Invalid|Tensor") as caught:
        cls([torch.nn.Parameter(torch.ones(2))], **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", OURS)
def test_sparse_gradients_are_refused(name: str) -> None:
    cls, settings = OURS[name].native, OURS[name].arguments
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = cls(table.parameters(), **settings)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{cls.__name__} does not support sparse gradients"):
        optimizer.step()


def test_stable_is_refused_on_lion() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="needs the optimizer's effective rate, and Lion declares"):
        Lion([w], decay="stable", weight_decay=0.1)


@pytest.mark.parametrize("name", OURS)
def test_closure_groups_without_gradients_and_late_groups(name: str) -> None:
    cls, settings = OURS[name].native, OURS[name].arguments
    a, b = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))
    optimizer = cls([a], lr=PEAK, **settings)
    assert optimizer.step() is None  # no gradient at all
    assert not optimizer.state

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = a.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    optimizer.add_param_group({"params": [b]})
    b.grad = torch.ones(2)
    optimizer.step()
    assert not torch.equal(b, torch.ones(2))


@pytest.mark.parametrize("name", OURS)
def test_a_foreign_entry_in_the_state_is_none_of_ours(name: str) -> None:
    """A rule may keep an anchor there before the first step."""
    cls, settings = OURS[name].native, OURS[name].arguments
    params = cases.make_params()
    optimizer = cls(params, lr=PEAK, foreach=True, **settings)
    optimizer.state[params[1]]["anchor"] = torch.ones(3)
    cases.set_gradients(params, cases.make_gradients(1)[0])
    optimizer.step()
    assert torch.equal(optimizer.state[params[1]]["anchor"], torch.ones(3))


@pytest.mark.parametrize("name", OURS)
def test_left_alone_they_are_the_bases(name: str) -> None:
    cls, base, settings = OURS[name].cls, OURS[name].native, OURS[name].arguments
    a, b = cases.make_params(), cases.make_params()
    ours, theirs = cls(a, **settings), base(b, **settings)
    for optimizer, params in ((ours, a), (theirs, b)):
        for row in cases.make_gradients(5):
            cases.set_gradients(params, row)
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    extra = {"decay", "peak_lr", "weight_decay", "strength"}
    assert set(ours.param_groups[0]) - extra == set(theirs.param_groups[0])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", OURS)
def test_a_model_of_empty_tensors_can_be_stepped(name: str, implementation: str) -> None:
    """As torch's optimizers can; Adai has a mean over no element then."""
    cls, settings = OURS[name].native, OURS[name].arguments
    w = torch.nn.Parameter(torch.zeros(0, 3))
    optimizer = cls([w], lr=PEAK, **settings, **IMPLEMENTATIONS[implementation])
    w.grad = torch.zeros(0, 3)
    optimizer.step()
    assert w.shape == (0, 3)
