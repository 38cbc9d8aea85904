"""Stable decay: whose gradients it follows, and its edges; its closed form is in `test_rules`."""

from __future__ import annotations

import pytest
import torch

import cases
import halflife
from cases import IMPLEMENTATIONS, PEAK, weights
from halflife import AdamW


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
