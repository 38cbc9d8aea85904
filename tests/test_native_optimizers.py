"""Our own base optimizers: against float64 transcriptions, and their identities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import cases
import reference
import reference_optimizers
from cases import PEAK, RULES, OptimizerCase, RuleCase
from halflife.bases.mean_rate import UnitRate
from halflife.optim.adabound import AdaBoundBase
from halflife.optim.adai import Adai, AdaiBase
from halflife.optim.padam import PadamBase
from halflife.optim.yogi import YogiBase

SCHEDULES = cases.schedules()
OURS = {o.name: o for o in cases.OURS}
IMPLEMENTATIONS = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}}


def run_ours(
    case: OptimizerCase, rule: RuleCase, lrs: list[list[float]], **flags: Any
) -> tuple[Any, list[torch.Tensor]]:
    """Two groups with their own lr and decay; one parameter misses every other gradient."""
    params = cases.make_params()
    groups = [
        {"params": params[:2]},
        {"params": params[2:], "lr": PEAK / 2, "weight_decay": rule.weight_decay / 3},
    ]
    ours = case.make(groups, rule, **flags)
    cases.train(ours, params, cases.make_gradients(), lrs)
    return ours, params


def run_reference(
    case: OptimizerCase, rule: RuleCase, lrs: list[list[float]]
) -> tuple[list[np.ndarray], dict]:
    weights = [p.detach().numpy().copy() for p in cases.make_params()]
    groups = [
        reference.Group(weights[:2], lrs[0], rule.weight_decay, PEAK),
        reference.Group(weights[2:], lrs[1], rule.weight_decay / 3, PEAK / 2),
    ]
    gradients = [
        [[None if g is None else g.numpy() for g in part] for part in (row[:2], row[2:])]
        for row in cases.make_gradients()
    ]
    state = reference_optimizers.run(
        str(case.oracle), case.arguments, rule.reference, groups, gradients
    )
    return [*groups[0].weights, *groups[1].weights], state


@pytest.mark.parametrize(("schedule", "implementation"), cases.ways(IMPLEMENTATIONS))
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_float64_oracle(rule: RuleCase, name: str, schedule: str, implementation: str) -> None:
    case = OURS[name]
    if case.refuses(rule.rule):
        pytest.skip("Lion declares no effective rate: refused, see below")
    lrs = [SCHEDULES[schedule], [lr / 2 for lr in SCHEDULES[schedule]]]
    optimizer, ours = run_ours(case, rule, lrs, **IMPLEMENTATIONS[implementation])
    expected, state = run_reference(case, rule, lrs)
    for p, weights in zip(ours, expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), weights, rtol=1e-12, atol=1e-14)
    for p, s in zip(ours, [state[key] for key in sorted(state)], strict=True):
        for ours_key, key in {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "max"}.items():
            if ours_key in optimizer.state[p]:
                got = optimizer.state[p][ours_key].numpy()
                np.testing.assert_allclose(got, s[key], rtol=1e-12, atol=1e-14)
        if "step" in optimizer.state[p]:
            assert optimizer.state[p]["step"] == s["k"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex64, torch.bfloat16])
@pytest.mark.parametrize("name", OURS)
def test_for_loop_and_foreach_agree(name: str, dtype: torch.dtype) -> None:
    cls, settings = OURS[name].native, OURS[name].arguments
    results = []
    for flags in IMPLEMENTATIONS.values():
        params = cases.make_params(dtype=dtype)
        optimizer = cls(params, lr=PEAK, **settings, **flags)
        cases.train(optimizer, params, cases.make_gradients(), [SCHEDULES["cosine"]])
        results.append(params)
    for p, q in zip(*results, strict=True):
        if dtype is torch.bfloat16:  # torch's foreach rounds a factor to bfloat16 first, on the CPU
            torch.testing.assert_close(p, q, rtol=0.02, atol=0.02)
        else:
            assert torch.equal(p, q)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", OURS)
def test_complex_parameters_are_pairs_of_real_ones(name: str, implementation: str) -> None:
    cls, settings = OURS[name].native, OURS[name].arguments
    z = torch.nn.Parameter(torch.randn(5, dtype=torch.complex128))
    pairs = torch.nn.Parameter(torch.view_as_real(z.detach()).clone())
    flags = IMPLEMENTATIONS[implementation]
    one, two = cls([z], **settings, **flags), cls([pairs], **settings, **flags)
    for _ in range(4):
        z.grad = torch.randn_like(z)
        pairs.grad = torch.view_as_real(z.grad).clone()
        one.step()
        two.step()
    assert torch.equal(torch.view_as_real(z.detach()), pairs.detach())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", OURS)
def test_scalars_on_the_device_give_the_same(name: str, implementation: str) -> None:
    """lr as a tensor, and, where there is a count of steps, ``capturable``."""
    cls, settings = OURS[name].native, OURS[name].arguments
    results = []
    for on_device in (False, True):
        params = cases.make_params()
        lr: Any = torch.tensor(PEAK, dtype=torch.float64) if on_device else PEAK
        flags = dict(IMPLEMENTATIONS[implementation])
        if on_device and cls._counts_steps:
            flags["capturable"] = True
            torch.set_default_dtype(torch.float64)  # for the step count
        optimizer = cls(params, lr=lr, **settings, **flags)
        for row in cases.make_gradients(8):
            cases.set_gradients(params, row)
            optimizer.step()
        results.append(params)
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OURS)
def test_maximize_descends_the_negative(name: str) -> None:
    cls, settings = OURS[name].native, OURS[name].arguments
    results = []
    for maximize in (False, True):
        params = cases.make_params()
        optimizer = cls(params, lr=PEAK, **{**settings, "maximize": maximize})
        for row in cases.make_gradients(5):
            signed = [None if g is None else (-g if maximize else g) for g in row]
            cases.set_gradients(params, signed)
            optimizer.step()
        results.append(params)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))


def test_tensor_lr_of_one_dimension() -> None:
    params = cases.make_params()
    optimizer = YogiBase(params, lr=torch.tensor([0.1]), foreach=True)
    cases.set_gradients(params, cases.make_gradients(1)[0])
    optimizer.step()
    assert params[2].shape == ()


@pytest.mark.parametrize("name", OURS)
def test_zero_gradients_move_nothing(name: str) -> None:
    cls, settings = OURS[name].native, OURS[name].arguments
    params = cases.make_params()
    start = [p.detach().clone() for p in params]
    extra = {"initial_accumulator": 0.0, "eps": 1e-3} if cls is YogiBase else {}
    optimizer = cls(params, lr=PEAK, **{**settings, **extra})
    for _ in range(3):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(torch.equal(p, before) for p, before in zip(params, start, strict=True))


# --- identities -----------------------------------------------------------------------------------


def steps_of(optimizer: Any, params: list[torch.Tensor]) -> torch.Tensor:
    cases.train(optimizer, params, cases.make_gradients(), [SCHEDULES["cosine"]])
    return torch.cat([p.detach().flatten() for p in params])


def test_padam_at_one_half_is_adam_with_eps_before_the_correction() -> None:
    a, b = cases.make_params(), cases.make_params()
    ours = steps_of(PadamBase(a, lr=PEAK, partial=0.5, eps=0.0), a)
    theirs = steps_of(torch.optim.Adam(b, lr=PEAK, amsgrad=True, eps=0.0), b)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_adabound_with_a_wide_band_is_adam() -> None:
    a, b = cases.make_params(), cases.make_params()
    ours = steps_of(AdaBoundBase(a, lr=PEAK, gamma=1e-12, eps=0.0), a)
    theirs = steps_of(torch.optim.Adam(b, lr=PEAK, eps=0.0), b)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_adai_without_adaptation_is_momentum() -> None:
    """All gradients of one size: k is beta0 for every weight, a bias-corrected average."""
    w = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = AdaiBase([w], lr=0.5)
    expected, m = 0.0, 0.0
    for t in range(1, 8):
        sign = -1.0 if t % 3 == 0 else 1.0
        w.grad = torch.full_like(w, sign)
        optimizer.step()
        m = 0.9 * m + 0.1 * sign
        expected -= 0.5 * m / (1 - 0.9**t)
    torch.testing.assert_close(w.detach(), torch.full_like(w, expected), rtol=1e-12, atol=0)


def test_adai_is_one_model_however_it_is_grouped() -> None:
    a, b = cases.make_params(), cases.make_params()
    together = steps_of(AdaiBase(a, lr=PEAK), a)
    groups = [{"params": [p]} for p in b]
    apart = AdaiBase(groups, lr=PEAK)
    cases.train(apart, b, cases.make_gradients(), [SCHEDULES["cosine"]] * 4)
    apart_weights = torch.cat([p.detach().flatten() for p in b])
    torch.testing.assert_close(together, apart_weights, rtol=1e-12, atol=1e-14)


def test_adai_has_unit_rate() -> None:
    """So that stable and decoupled decay are one and the same: AdaiS."""
    results = []
    for rule in ("stable", "decoupled"):
        params = cases.make_params()
        optimizer = Adai(params, lr=PEAK, decay=rule, weight_decay=0.5)
        results.append(steps_of(optimizer, params))
    assert torch.equal(*results)
    assert UnitRate().of({}) == 1.0
