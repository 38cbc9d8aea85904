"""F_k of AdamW: a step is descent on it, a run ends at its stationary points, Corollary 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from halflife.diagnostics.dynamic import dynamic_loss_of
from halflife.theory.dynamic_loss import DynamicLoss
from halflife.theory.stagewise import adamw

F64 = torch.float64


def test_gradient_is_that_of_the_value() -> None:
    scale, x = torch.rand(5, dtype=F64) + 0.1, torch.randn(5, dtype=F64, requires_grad=True)
    decay = torch.tensor([0.5, 0.5, 0.0, 2.0, 2.0], dtype=F64)
    loss = DynamicLoss(scale, decay)
    target = torch.randn(5, dtype=F64)
    plain = 0.5 * (x - target).square().sum()
    (wanted,) = torch.autograd.grad(plain + loss.penalty(x), x)
    found = loss.gradient((x - target).detach(), x.detach())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize("l2", [False, True])
def test_a_run_ends_where_its_cosine_is_one(l2: bool) -> None:
    """AdamW as analysed, whose v stays that of the first gradient with b2 = 0; x* is solved for."""
    hessian = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]], dtype=F64)
    target = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    lam = 0.7

    def grad(x: Tensor) -> Tensor:
        return hessian @ (x - target)

    start = torch.tensor([3.0, 1.0, -2.0], dtype=F64)
    settings: dict[str, Any] = {"beta1": 0.2, "beta2": 0.0, "delta": 1.0, "l2": l2}
    steps = list(adamw(grad, start, steps=4000, lr=0.05, weight_decay=lam, **settings))
    x, v = steps[-1].next_x, steps[-1].scale
    loss = DynamicLoss(v, lam)
    pull = torch.eye(3, dtype=F64) if l2 else torch.diag(v)
    solved = torch.linalg.solve(hessian + lam * pull, hessian @ target)
    torch.testing.assert_close(x, solved, rtol=0, atol=1e-12)
    found = loss.alignment(grad(x), x)
    assert (found.plain if l2 else found.scaled) == pytest.approx(1.0, abs=1e-14)
    assert (found.scaled if l2 else found.plain) < 0.999
    assert (float(loss.gradient(grad(x), x).norm()) < 1e-12) == (not l2)


def directions(rule: Any, weight_decay: float) -> tuple[Any, list[Tensor], Callable[[int], float]]:
    """AdamW without momentum, in two groups of which one does not decay."""
    params = cases.make_params()
    groups = [{"params": params[:1]}, {"params": params[1:], "weight_decay": 0.0}]
    optimizer = halflife.AdamW(
        groups, lr=0.02, betas=(0.0, 0.9), decay=rule, weight_decay=weight_decay
    )
    return optimizer, params, lambda t: cases.schedule("cosine", total=7)[t]


@pytest.mark.parametrize(
    ("rule", "weight_decay"),
    [
        ("decoupled", 2.0),
        ("independent", 0.04),
        ("constant", 0.04),
        ("corrected", 2.0),
        ("proximal", 2.0),
        ("stable", 0.9),
    ],
)
def test_a_step_of_the_optimizer_is_descent_on_it(rule: str, weight_decay: float) -> None:
    """``w - w' = (s / D) grad F_k(w)`` with the D of the step, under a schedule."""
    optimizer, params, lr_at = directions(rule, weight_decay)
    for t, row in enumerate(cases.make_gradients(5, missing=False)):
        before = cases.weights(params).clone()
        cases.set_gradients(params, row)
        lr = lr_at(t)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        found = dynamic_loss_of(optimizer)
        gradient = found.flat([p.grad for p in found.params])
        size = torch.full_like(before, lr)
        if rule == "proximal":
            size[: params[0].numel()] /= 1.0 + lr * weight_decay
        wanted = found.loss.scale / size * (before - found.weights)
        torch.testing.assert_close(found.loss.gradient(gradient, before), wanted, rtol=1e-9, atol=0)
        decays = found.loss.weight_decay
        assert isinstance(decays, Tensor)
        assert not decays[params[0].numel() :].any()
    assert found.gradient().equal(found.loss.gradient(gradient, found.weights))
    assert found.alignment() == found.loss.alignment(gradient, found.weights)
    assert found.gradient_bound() == found.loss.gradient_bound(gradient, found.weights)


def test_torch_adamw_and_a_parameter_without_a_gradient() -> None:
    w, never = (torch.nn.Parameter(torch.ones(2, dtype=F64)) for _ in range(2))
    optimizer = torch.optim.AdamW([w, never], lr=0.1, weight_decay=0.25)
    w.grad = torch.tensor([1.0, -2.0], dtype=F64)
    optimizer.step()
    found = dynamic_loss_of(optimizer)
    assert [id(p) for p in found.params] == [id(w)]
    metric = torch.tensor([1.0, 2.0], dtype=F64) + 1e-8
    wanted = w.grad + 0.25 * metric * w.detach()
    torch.testing.assert_close(found.gradient(), wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.gradient([None]), wanted - w.grad, rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="flat: tensors must be 1, one a parameter, got 2"):
        found.gradient([None, None])
    with pytest.raises(ValueError, match=r"a tensor must be of shape \(2,\), got \(3,\)"):
        found.gradient([torch.ones(3)])


def test_corollary_1() -> None:
    """Holds wherever its premise does, and is tight where all vectors are parallel."""
    held = 0
    for _ in range(300):
        loss = DynamicLoss(torch.rand(4, dtype=F64) + 0.01, 0.5)
        gradient, x = torch.randn(4, dtype=F64), torch.randn(4, dtype=F64)
        found = loss.gradient_bound(gradient, x)
        rho = float(loss.scale.norm() / gradient.norm())
        assert found.premise == pytest.approx(0.5 * rho * float(x.abs().max()), rel=1e-12)
        if found.holds:
            held += 1
            assert found.gradient <= found.bound
        else:
            assert found.bound == math.inf
    assert 50 < held < 290
    ones = torch.ones(4, dtype=F64)
    tight = DynamicLoss(ones, 0.5).gradient_bound(-2.0 * ones, ones)
    assert (tight.premise, tight.bound) == (0.25, pytest.approx(tight.gradient, rel=1e-15))
    # At a stationary point of F_k the premise cannot hold, or the gradient would be 0.
    assert not DynamicLoss(ones, 0.5).gradient_bound(-0.5 * ones, ones).holds
    assert DynamicLoss(ones, 0.0).gradient_bound(0.0 * ones, ones).bound == 0.0


def test_cosines_of_zero_vectors_are_zero() -> None:
    ones = torch.ones(2, dtype=F64)
    found = DynamicLoss(ones, 0.5).alignment(ones, 0.0 * ones)
    assert (found.scaled, found.plain) == (0.0, 0.0)


def stepped(cls: Any, **settings: Any) -> Any:
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = cls([w], **settings)
    w.grad = torch.ones(2)
    optimizer.step()
    return optimizer


def test_errors() -> None:
    ones = torch.ones(2)
    with pytest.raises(ValueError, match="scale must be finite and > 0"):
        DynamicLoss(torch.tensor([1.0, 0.0]), 0.1)
    with pytest.raises(ValueError, match="weight_decay must be finite and >= 0"):
        DynamicLoss(ones, -ones)
    with pytest.raises(ValueError, match="weight_decay must be a finite number >= 0, got -1"):
        DynamicLoss(ones, -1.0)
    with pytest.raises(ValueError, match=r"penalty: x must be of the scale's shape \(2,\)"):
        DynamicLoss(ones, 0.1).penalty(torch.ones(3))
    with pytest.raises(ValueError, match="SGD declares no preconditioner"):
        dynamic_loss_of(stepped(torch.optim.SGD, lr=0.1))
    with pytest.raises(ValueError, match="no state; take a step first"):
        dynamic_loss_of(torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]))
    with pytest.raises(ValueError, match=r"parameter group 0 is l2: F_k is of a decay"):
        dynamic_loss_of(stepped(torch.optim.Adam, lr=0.1, weight_decay=0.1))
    with pytest.raises(ValueError, match=r"parameter group 0 is cautious: F_k is of a decay"):
        dynamic_loss_of(stepped(halflife.AdamW, lr=0.1, weight_decay=0.1, decay="cautious"))
    optimizer = stepped(halflife.AdamW, lr=0.1, weight_decay=0.1)
    optimizer.param_groups[0]["lr"] = 0.0
    with pytest.raises(ValueError, match=r"lr of parameter group 0 must be above 0, got 0\.0"):
        dynamic_loss_of(optimizer)
