"""Optimizers that evaluate their closure by themselves: native without a rule, refused with one."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import Tensor

import halflife
from halflife import attach, decayed


class Sharpened(torch.optim.SGD):
    """One that may be called without a closure, as its signature says, but refuses it."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if closure is None:
            raise RuntimeError("a closure is needed")
        with torch.enable_grad():
            closure()
            closure()
        return super().step()


BASES: dict[str, tuple[type, dict[str, Any]]] = {
    "LBFGS": (torch.optim.LBFGS, {"lr": 0.5, "max_iter": 3, "history_size": 4}),
    "line search": (torch.optim.LBFGS, {"line_search_fn": "strong_wolfe"}),
    "SAM": (pytorch_optimizer.SAM, {"base_optimizer": torch.optim.SGD, "lr": 0.1}),
    "planted": (Sharpened, {"lr": 0.1}),
}


def train(optimizer: Any, w: Tensor) -> tuple[Tensor, int]:
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = (w**4 + w[0] * w[1]).sum()
        loss.backward()
        return loss

    for factor in (1.0, 0.5, 0.25):
        optimizer.param_groups[0]["lr"] *= factor
        optimizer.step(closure)
    return w.detach(), calls


def weight() -> Tensor:
    return torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", BASES)
def test_without_a_rule_it_is_the_native_optimizer(name: str) -> None:
    base, arguments = BASES[name]
    native, ours = weight(), weight()
    expected = train(base([native], **arguments), native)
    found = train(decayed(base)([ours], **arguments), ours)
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]
    assert not torch.equal(found[0], weight())


@pytest.mark.parametrize("name", BASES)
def test_with_a_rule_it_is_refused_before_anything_changes(name: str) -> None:
    base, arguments = BASES[name]
    refused = pytest.raises(ValueError, match=rf"{base.__name__}: computes gradients by calling")
    w, native = weight(), base([weight()], **arguments)
    with refused:
        decayed(base)([w], decay="decoupled", weight_decay=0.1, **arguments)
    with refused:
        attach(native, "decoupled")
    assert type(native) is base
    assert "decay" not in native.param_groups[0]


def test_a_rule_that_is_written_or_comes_late_is_refused() -> None:
    w = weight()
    ours = decayed(Sharpened)([w], lr=0.1)
    with pytest.raises(ValueError, match="Sharpened: computes gradients"):
        ours.add_param_group({"params": [weight()], "decay": "decoupled"})
    assert len(ours.param_groups) == 1
    ours.param_groups[0]["decay"] = "decoupled"
    with pytest.raises(ValueError, match="Sharpened: computes gradients"):
        train(ours, w)
    assert torch.equal(w, weight())


@pytest.mark.parametrize("decay", ["decoupled", "cautious", "stable"])
def test_a_base_that_only_may_have_one_calls_it_once(decay: str) -> None:
    w = weight()
    ours = decayed(torch.optim.AdamW)([w], lr=0.1, weight_decay=0.1, decay=decay)
    assert train(ours, w)[1] == 3


@pytest.mark.parametrize("base", [torch.optim.SGD, halflife.AdamW], ids=lambda base: base.__name__)
def test_the_closure_finds_gradients_enabled_wherever_the_step_is_taken(base: Any) -> None:
    """As torch's steps do: the loop around them may be under ``no_grad``."""
    ends = []
    for surroundings in (torch.enable_grad, torch.no_grad):
        w = weight()
        optimizer = decayed(base)([w], lr=0.1, weight_decay=0.5, decay="decoupled")
        with surroundings():
            ends.append(train(optimizer, w))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1] == 3
    assert not torch.equal(ends[0][0], weight())
