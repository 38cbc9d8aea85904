"""``differentiable=True``: autograd passes through the step, its decay included, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import PEAK, MapCase, RuleCase
from halflife import decayed

RATES = {"l2": 0.3, "decoupled": 0.3, "independent": 0.05, "constant": 0.05, "corrected": 0.3}
BASES: dict[str, Any] = {
    "SGD": halflife.SGD,  # without momentum, whose first buffer torch detaches
    "Adam": halflife.Adam,
    "AdamW": halflife.AdamW,
    "NAdam": halflife.NAdam,
    "RMSprop": halflife.RMSprop,
    "Adagrad": halflife.Adagrad,
    "Adadelta": halflife.Adadelta,
    "decayed": decayed(torch.optim.RAdam),
}
LRS = (0.1, 0.07, 0.02)


def final(base: Callable[..., Any], w: Tensor, decay: str, amount: Any = None) -> Tensor:
    x = w.clone()
    amount = RATES.get(decay, 0.3) if amount is None else amount
    more = {"lr": LRS[0], "weight_decay": amount, "decay": decay, "differentiable": True}
    optimizer = base([x], **more)
    for lr in LRS:
        optimizer.param_groups[0]["lr"] = lr
        x.grad = torch.tanh(x.clone()) + 0.1
        optimizer.step()
    return x


def weight() -> Tensor:
    return torch.tensor([0.4, -1.5, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("decay", [*RATES, "proximal"])
def test_the_derivative_is_that_of_the_step(decay: str, name: str) -> None:
    """Against central differences; each element's end depends on its own start alone."""
    w, h = weight().requires_grad_(), 1e-5
    (found,) = torch.autograd.grad(final(BASES[name], w, decay).sum(), w)
    with torch.no_grad():
        above, below = (final(BASES[name], weight() + s, decay) for s in (h, -h))
    torch.testing.assert_close(found, (above - below) / (2 * h), rtol=1e-7, atol=1e-8)


def test_the_derivative_after_three_steps_is_torchs() -> None:
    """And that of the closed form: at a constant gradient, (1 - lr wd) at each step."""
    w = weight().requires_grad_()
    x = w.clone()
    optimizer = halflife.SGD([x], lr=LRS[0], weight_decay=0.3, differentiable=True)
    expected = 1.0
    for lr in LRS:
        optimizer.param_groups[0]["lr"] = lr
        x.grad = torch.ones_like(x)
        optimizer.step()
        expected *= 1.0 - lr * 0.3
    (found,) = torch.autograd.grad(x.sum(), w)
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=1e-14, atol=0)


@pytest.mark.parametrize("decay", ["l2", "decoupled", "independent", "constant", "corrected"])
def test_the_derivative_by_the_decay(decay: str) -> None:
    amount, h = torch.tensor(0.1, dtype=torch.float64, requires_grad=True), 1e-6
    (found,) = torch.autograd.grad(final(BASES["SGD"], weight(), decay, amount).sum(), amount)
    ends = [final(BASES["SGD"], weight(), decay, 0.1 + s).sum() for s in (h, -h)]
    torch.testing.assert_close(found, (ends[0] - ends[1]) / (2 * h), rtol=1e-7, atol=1e-8)


MEASURED = [case for case in cases.RULES if case.rule.needs]


@pytest.mark.parametrize("case", [*cases.MAPS, *MEASURED], ids=lambda case: case.id)
def test_what_autograd_does_not_see_is_refused(case: MapCase | RuleCase) -> None:
    """A map writes the weights by itself, and what is measured is a number."""
    x = weight().requires_grad_().clone()
    more = {"lr": PEAK, "weight_decay": case.weight_decay, "differentiable": True}
    with pytest.raises(ValueError, match=r"differentiable=True of parameter group 0: goes with"):
        halflife.AdamW([x], decay=case.rule, **more)
    ours = halflife.AdamW([x], **more)
    ours.param_groups[0]["decay"] = case.rule
    x.grad = torch.ones_like(x)
    with pytest.raises(ValueError, match=r"differentiable=True of parameter group 0: goes with"):
        ours.step()
    assert torch.equal(x, weight())


def test_half_precision_is_refused() -> None:
    x = weight().bfloat16().requires_grad_().clone()
    for given in (
        [x],
        [{"params": x}],
        [("half", x)],
        [weight(), x],
        [("full", weight()), ("half", x)],
    ):
        with pytest.raises(ValueError, match="no derivative"):
            halflife.AdamW(given, weight_decay=0.1, differentiable=True)


class Descent(torch.optim.Optimizer):
    """One that knows no decay, so that L2 is added to its gradients."""

    def __init__(self, params: Any, lr: float, differentiable: bool = False) -> None:
        super().__init__(params, {"lr": lr, "differentiable": differentiable})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            with torch.set_grad_enabled(group["differentiable"]):
                for p in group["params"]:
                    p.add_(p.grad, alpha=-group["lr"])


def test_the_derivative_of_l2_that_is_added_to_the_gradients() -> None:
    """At constant gradients the end is the start times each ``1 - lr wd``, and linear in wd."""
    w = weight().requires_grad_()
    amount = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x, exact = w.clone(), w
    optimizer = decayed(Descent)(
        [x], lr=LRS[0], weight_decay=amount, decay="l2", differentiable=True
    )
    for lr in LRS:
        optimizer.param_groups[0]["lr"] = lr
        x.grad = torch.ones_like(x)
        optimizer.step()
        exact = exact - lr * (1.0 + amount * exact)
    found = torch.autograd.grad(x.sum(), (w, amount))
    for ours, theirs in zip(found, torch.autograd.grad(exact.sum(), (w, amount)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)
