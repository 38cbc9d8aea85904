"""Adaptive weight decay from its definition: ``d = lr wd ||g|| / ||w||`` over the whole model."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch

import cases
import halflife
from cases import IMPLEMENTATIONS, PEAK
from halflife import Adaptive, Independent
from halflife.algorithms import create

SCHEDULES = cases.schedules()


def norm(tensors: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("cls", [halflife.SGD, halflife.AdamW, halflife.Lion])
def test_the_norm_falls_by_the_length_of_the_gradient(cls: Any, schedule: str) -> None:
    """Closed form: w has no gradient of the loss, another parameter has, at lr 0.

    Then ``||w||_T = ||w||_0 - wd ||g|| sum lr``.
    """
    w, other = (torch.nn.Parameter(torch.randn(5, dtype=torch.float64)) for _ in range(2))
    with torch.no_grad():
        other.zero_()
    gradient = torch.full((5,), 0.7, dtype=torch.float64)
    optimizer = cls([{"params": [w]}, {"params": [other], "lr": 0.0, "peak_lr": 1.0}],
                    lr=PEAK, weight_decay=0.8, decay="adaptive")  # fmt: skip
    start, direction = norm([w]), w.detach() / w.detach().norm()
    for lr in SCHEDULES[schedule]:
        w.grad, other.grad = torch.zeros_like(w), gradient
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    left = start - 0.8 * norm([gradient]) * sum(SCHEDULES[schedule])
    torch.testing.assert_close(w.detach(), left * direction, rtol=1e-12, atol=0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("cls", [halflife.SGD, halflife.AdamW, halflife.Lion])
def test_the_formula_by_hand_around_the_native_step(cls: Any, implementation: str) -> None:
    """To 1e-15: by hand, the weights are multiplied before a native step without decay."""
    if cls is halflife.Lion and implementation == "fused":
        pytest.skip("Lion has no fused kernel")
    flags = dict(IMPLEMENTATIONS[implementation])
    if cls is halflife.Lion:
        flags.pop("fused", None)
    params, twins = cases.make_params(), cases.make_params()
    ours = cls([{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.0}],
               lr=PEAK, weight_decay=0.6, decay=Adaptive(), **flags)  # fmt: skip
    native = cls(twins, lr=PEAK, weight_decay=0.0, **flags)
    for lr, row in zip(SCHEDULES["cosine"], cases.make_gradients(missing=False), strict=True):
        cases.set_gradients(params, row)
        cases.set_gradients(twins, row)
        fraction = lr * 0.6 * norm([g for g in row if g is not None]) / norm(twins)
        for optimizer in (ours, native):
            for group in optimizer.param_groups:
                group["lr"] = lr
        with torch.no_grad():
            for q in twins[:2]:
                q.mul_(1.0 - fraction)
        ours.step()
        native.step()
    for p, q in zip(params, twins, strict=True):
        assert float((p - q).detach().abs().max()) <= 2e-15 * max(
            1.0, float(q.detach().abs().max())
        )


def test_it_runs_inside_the_native_kernel() -> None:
    """No pass over the weights: AdamW is called with another weight_decay, and restored."""
    w = torch.nn.Parameter(torch.randn(64))
    optimizer = halflife.AdamW([w], lr=0.1, weight_decay=0.5, decay="adaptive")
    w.grad = torch.randn(64)
    (call,) = [optimizer._call(optimizer._known_at(0), 0, optimizer._measures())]
    assert call.factor is None
    assert call.swap["fused"]
    assert call.swap["weight_decay"] == pytest.approx(0.5 * norm([w.grad]) / norm([w]), rel=1e-6)


def test_clipping_hands_its_norm_over(monkeypatch: pytest.MonkeyPatch) -> None:
    params, twins = cases.make_params(), cases.make_params()
    runs = []
    for tensors, hands in ((params, True), (twins, False)):
        optimizer = halflife.AdamW(tensors, lr=PEAK, weight_decay=0.6, decay="adaptive")
        for row in cases.make_gradients(3, missing=False):
            cases.set_gradients(tensors, row)
            if hands:
                halflife.clip_grad_norm_(optimizer, 0.5)
                assert optimizer._measures().handed
            else:
                torch.nn.utils.clip_grad_norm_(tensors, 0.5)
            optimizer.step()
            assert not optimizer._measures().handed
            assert optimizer.last_measured("gradient_norm") == pytest.approx(0.5, rel=1e-5)
        runs.append(tensors)
    for p, q in zip(*runs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)


def test_a_fraction_above_one_is_clamped_with_one_warning() -> None:
    w = torch.nn.Parameter(torch.full((4,), 1e-3))
    optimizer = halflife.SGD([w], lr=1e-9, weight_decay=1e12, decay="adaptive", peak_lr=1.0)
    w.grad = torch.ones(4)
    with pytest.warns(UserWarning, match=r"Adaptive\(\) asked for the fraction .* clamped to 1"):
        optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((4,), -1e-9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w.data.fill_(1e-3)
        optimizer.step()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_spoils_no_other_weight(bad: float) -> None:
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = halflife.SGD([a, b], lr=0.1, weight_decay=0.5, decay="adaptive")
    a.grad, b.grad = torch.full((3,), bad), torch.zeros(3)
    optimizer.step()
    assert torch.equal(b, torch.ones(3))
    assert not a.isfinite().any()


def test_zero_weights_and_no_gradients() -> None:
    w = torch.nn.Parameter(torch.zeros(3))
    optimizer = halflife.SGD([w], lr=0.1, weight_decay=0.5, decay="adaptive")
    optimizer.step()
    w.grad = torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((3,), -0.1))


def test_a_sparse_gradient_is_measured() -> None:
    table, dense = (torch.nn.Embedding(5, 3, sparse=sparse) for sparse in (True, False))
    dense.load_state_dict(table.state_dict())
    for embedding in (table, dense):
        optimizer = halflife.SGD(embedding.parameters(), lr=0.1, weight_decay=0.5, decay="adaptive")
        embedding(torch.tensor([1, 3, 3])).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(table.weight, dense.weight)


def test_what_is_said_of_it_before_and_after_a_step() -> None:
    w = torch.nn.Parameter(torch.full((4,), 2.0))
    optimizer = halflife.AdamW([w], lr=0.1, weight_decay=0.5, decay="adaptive")
    row = halflife.describe(optimizer).groups[0]
    assert (row.fraction, row.half_life, row.rms) == (None, None, None)
    assert row.note == "the fraction follows the gradients: known in a training step only."
    w.grad = torch.ones(4)
    optimizer.step()
    assert halflife.describe(optimizer).groups[0].fraction == pytest.approx(0.1 * 0.5 * 2.0 / 4.0)
    with pytest.raises(ValueError, match="known in a training step only, not when a strength"):
        halflife.AdamW([w], weight_decay=halflife.HalfLife(steps=10), decay="adaptive")
    with pytest.raises(ValueError, match="known in a training step only"):
        halflife.averaging_of("adaptive", [0.1, 0.1], 0.5)


def test_the_catalogue_has_it() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = create("awd", [w], lr=0.1)
    assert type(optimizer) is halflife.SGD
    assert optimizer.param_groups[0]["decay"] == Adaptive()


def test_other_groups_may_have_another_rule() -> None:
    a, b = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    optimizer = halflife.SGD(
        [{"params": [a], "decay": Adaptive()}, {"params": [b], "decay": Independent()}],
        lr=0.1, weight_decay=0.5,
    )  # fmt: skip
    a.grad, b.grad = torch.zeros(3, dtype=torch.float64), torch.full((3,), 2.0).double()
    optimizer.step()
    ratio = 2.0 / math.sqrt(2.0)  # ||g|| = 2 sqrt(3), ||w|| = sqrt(6)
    torch.testing.assert_close(a.detach(), torch.full_like(a, 1.0 - 0.1 * 0.5 * ratio))
    torch.testing.assert_close(b.detach(), torch.full_like(b, 1.0 - 0.5 - 0.2))


def test_beside_stable_each_measure_is_its_own() -> None:
    a, b = (torch.nn.Parameter(torch.full((3,), 2.0, dtype=torch.float64)) for _ in range(2))
    optimizer = halflife.AdamW(
        [{"params": [a], "decay": Adaptive()}, {"params": [b], "decay": "stable"}],
        lr=0.01, weight_decay=0.1,
    )  # fmt: skip
    for p in (a, b):
        p.grad = torch.full_like(p, 0.5)
    optimizer.step()
    assert optimizer.last_effective_rate == pytest.approx(2.0)  # v_hat = g^2
    assert optimizer.last_measured("gradient_norm") == pytest.approx(0.5 * math.sqrt(6.0))
    assert optimizer.last_measured("weight_norm") == pytest.approx(2.0 * math.sqrt(6.0))


def test_a_name_just_written_beside_it_is_taken() -> None:
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = halflife.AdamW([{"params": [a]}, {"params": [b]}], lr=0.01, decay="adaptive")
    optimizer.param_groups[1]["decay"] = "independent"
    for p in (a, b):
        p.grad = torch.ones(3)
    halflife.clip_grad_norm_(optimizer, 1.0)
    optimizer.step()
    assert optimizer.param_groups[1]["decay"] == Independent()


def test_the_norm_is_of_the_unscaled_gradients() -> None:
    w = torch.nn.Parameter(torch.full((4,), 2.0))
    optimizer = halflife.AdamW([w], lr=0.01, weight_decay=0.1, decay="adaptive", fused=True)
    w.grad = torch.full((4,), 512.0)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
    optimizer.step()
    assert optimizer.last_measured("gradient_norm") == pytest.approx(1.0)
    assert optimizer.last_measured("weight_norm") == pytest.approx(4.0)
