"""Stable decay: whose gradients it follows, and its edges; its closed form is in `test_rules`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import cases
import halflife
from cases import IMPLEMENTATIONS, PEAK, weights
from halflife import AdamW, Stable
from halflife.algorithms import create


def test_stable_sees_the_gradient_of_the_closure() -> None:
    """The effective rate needs this step's gradient, which a closure makes inside the step."""
    runs = []
    for with_closure in (True, False):
        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.randn(4, dtype=torch.float64))
        ours = AdamW([w], lr=0.1, weight_decay=0.1, decay="stable")

        def closure(w: torch.Tensor = w) -> torch.Tensor:
            w.grad = None
            loss = (w**4).sum()
            loss.backward()
            return loss

        for _ in range(3):
            if with_closure:
                ours.step(closure)
            else:
                closure()
                ours.step()
        runs.append(w.detach())
    assert torch.equal(*runs)


def test_switching_the_rule_away_and_back_does_not_use_stale_sums() -> None:
    params, twins = cases.make_params(), cases.make_params()
    ours = AdamW(params, lr=PEAK, weight_decay=0.1, decay="stable")
    theirs = torch.optim.AdamW(twins, lr=PEAK)
    gradients = cases.make_gradients(9, missing=False)
    stable = ours.param_groups[0]["decay"]
    for t, row in enumerate(gradients):
        cases.set_gradients(params, row)
        cases.set_gradients(twins, row)
        ours.param_groups[0]["decay"] = halflife.Decoupled() if 3 <= t < 6 else stable
        ours.step()
        theirs.step()  # its second moments do not depend on the decay
    b2, t = 0.999, len(gradients)
    total = sum(theirs.state[q]["exp_avg_sq"].sum() for q in twins) / (1 - b2**t)
    mean = total / sum(q.numel() for q in twins)
    assert ours.last_effective_rate == pytest.approx(float(mean) ** -0.5, rel=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_stable_without_gradients_or_with_zero_ones_decays_nothing(
    amsgrad: bool, implementation: str
) -> None:
    params = cases.make_params()
    start = weights(params).clone()
    flags = IMPLEMENTATIONS[implementation]
    ours = halflife.Adam(params, 0.1, weight_decay=0.5, decay="stable", amsgrad=amsgrad, **flags)
    ours.step()  # no gradient at all
    for p in params:
        p.grad = torch.zeros_like(p)
    ours.step()
    assert torch.equal(weights(params), start)


def test_stable_is_clamped_at_one_and_says_so_once() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    ours = AdamW([w], lr=0.1, weight_decay=1.0, decay="stable")
    w.grad = torch.full((2,), 1e-6)
    with pytest.warns(UserWarning, match=r"asked for the fraction .* clamped to 1"):
        ours.step()
    for _ in range(2):
        ours.step()  # a warning would be an error here
    assert w.abs().max() <= 0.3 + 1e-6  # three steps of 0.1 on what was cleared, never a sign flip


def test_stable_does_not_spread_a_nan_to_other_parameters() -> None:
    params = cases.make_params()
    ours = AdamW(params, lr=0.1, weight_decay=0.1, decay="stable")
    cases.set_gradients(params, cases.make_gradients(1)[0])
    params[0].grad[0] = float("nan")  # type: ignore[index]
    ours.step()
    assert params[0].isnan().any()  # as torch does
    assert all(p.isfinite().all() for p in params[1:])


# --- the small value under the mean (Xie et al. 2023, section 4) ---------------------------------


def with_eps(params: Any, eps: float = 1e-4, **settings: Any) -> Any:
    """The catalogue's AdamS with it."""
    return create("adams", params, lr=0.1, decay=Stable(eps=eps), **settings)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_vanishing_gradients_decay_by_the_small_value_alone(
    amsgrad: bool, implementation: str
) -> None:
    """Full batches: 1 - lr wd / sqrt(0 + eps) a step, where 1 / sqrt(0) has no value."""
    params = cases.make_params()
    start = weights(params).clone()
    flags = IMPLEMENTATIONS[implementation]
    ours = with_eps(params, weight_decay=1e-2, amsgrad=amsgrad, **flags)
    cases.stepped(ours, params, 3)
    torch.testing.assert_close(weights(params), start * (1 - 0.1 * 1e-2 / 1e-2) ** 3)


def test_without_gradients_nothing_decays_and_nothing_warns() -> None:
    params = cases.make_params()
    start = weights(params).clone()
    ours = with_eps(params, eps=1e-20, weight_decay=1.0)
    ours.step()
    assert torch.equal(weights(params), start)
    assert ours.last_effective_rate == 0.0


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_mean_that_is_no_number_decays_nothing(bad: float) -> None:
    params = cases.make_params()
    ours = with_eps(params, weight_decay=1.0)
    cases.set_gradients(params, [torch.zeros_like(p) for p in params])
    params[0].grad[0] = bad  # type: ignore[index]
    start = weights(params[1:]).clone()
    ours.step()
    assert torch.equal(weights(params[1:]), start)


def test_the_small_value_is_plain_data_of_a_checkpoint() -> None:
    params = cases.make_params()
    ours = with_eps(params, eps=np.float64(1e-4))
    saved = ours.state_dict()
    assert saved["param_groups"][0]["decay"] == {"name": "stable", "eps": 1e-4}
    assert type(saved["param_groups"][0]["decay"]["eps"]) is float  # what torch.load reads
    theirs = create("adams", cases.make_params())
    theirs.load_state_dict(saved, keep="checkpoint")
    assert theirs.param_groups[0]["decay"] == Stable(eps=1e-4)
    saved["param_groups"][0]["decay"] = {"name": "stable"}  # of a version that had none
    theirs.load_state_dict(saved, keep="checkpoint")
    assert theirs.param_groups[0]["decay"] == Stable()


def test_a_strength_is_inverted_with_the_small_value() -> None:
    """On SGD the rate is known beforehand: 1 / sqrt(0.1^2 + 0.01), after 7 steps half is left."""
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    ours = halflife.SGD(
        [w], 0.1, momentum=0.9, decay=Stable(eps=0.01), weight_decay=halflife.HalfLife(steps=7)
    )
    survival = 1 - 0.1 * ours.param_groups[0]["weight_decay"] / math.sqrt(0.1**2 + 0.01)
    assert survival == pytest.approx(0.5 ** (1 / 7), rel=1e-12)
    cases.stepped(ours, [w], 7)
    torch.testing.assert_close(w.detach(), torch.full_like(w, 0.5), rtol=1e-12, atol=0)


@pytest.mark.parametrize("eps", [-1e-8, float("nan"), float("inf"), "1e-8", True, None])
def test_a_small_value_that_is_none_is_refused(eps: Any) -> None:
    with pytest.raises(ValueError, match=r"Stable: eps must be a finite number >= 0, got .*1e-8"):
        Stable(eps=eps)


def test_the_small_value_shows() -> None:
    assert (repr(Stable()), repr(Stable(eps=1e-8))) == ("Stable()", "Stable(eps=1e-08)")
    assert "decay=Stable(eps=1e-8)" in str(halflife.algorithms.algorithm("adams"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_tensor_is_clamped_at_one_too(implementation: str) -> None:
    """All of the weight goes and nothing else: what stays is the update, ``-lr g``."""
    w = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    coefficient = torch.tensor(30.0, dtype=torch.float64)
    flags = IMPLEMENTATIONS[implementation]
    optimizer = halflife.SGD([w], 0.1, weight_decay=coefficient, decay="stable", **flags)
    for lr, value in ((0.1, 20.0), (0.05, 1e6), (0.01, 50.0)):
        optimizer.param_groups[0]["lr"] = lr
        coefficient.fill_(value)
        before = w.detach().clone()
        w.grad = torch.tensor([1.0, -0.5], dtype=torch.float64)
        optimizer.step()
        removed = min(lr * value, 1.0)
        expected = (1 - removed) * before - lr * w.grad
        torch.testing.assert_close(w.detach(), expected, rtol=1e-14, atol=0)
