"""Effective rates of the other optimizers: (mean E^-2)^(-1/2), read off the state after a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cases
from halflife import decayed
from halflife.bases.effective_rate import effective_rate_of
from halflife.bases.mean_rate import MeanRate
from halflife.optim.adadelta import Adadelta
from halflife.optim.adagrad import Adagrad
from halflife.optim.adamax import Adamax


def second(s: Any, group: Any, key: str = "exp_avg_sq", correct: bool = True) -> np.ndarray:
    return s[key].numpy() / (1 - group["betas"][1] ** float(s["step"]) if correct else 1.0)


def of_radam(s: Any, group: Any) -> np.ndarray:
    b2, t = group["betas"][1], float(s["step"])
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
    if rho <= 5:
        return np.ones_like(s["exp_avg_sq"].numpy())
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return second(s, group) / r**2


def of_padam(s: Any, group: Any) -> np.ndarray:
    key = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
    return s[key].numpy() ** (2 * group["partial"]) / (1 - group["betas"][1] ** float(s["step"]))


def of_rmsprop(s: Any, group: Any) -> np.ndarray:
    centre = s["grad_avg"].numpy() ** 2 if group["centered"] else 0.0
    return (s["square_avg"].numpy() - centre) * (1 - group["momentum"]) ** 2


def of_adagrad(s: Any, group: Any) -> np.ndarray:
    return s["sum"].numpy() * (1 + (float(s["step"]) - 1) * group["lr_decay"]) ** 2


INVERSE_SQUARES: dict[str, Callable[[Any, Any], np.ndarray]] = {
    "NAdam": second,
    "RAdam": of_radam,
    "Adagrad": of_adagrad,
    "Adamax": lambda s, group: s["exp_inf"].numpy() ** 2,
    "RMSprop": of_rmsprop,
    "RMSprop-centered": of_rmsprop,
    "Yogi": second,
    "Padam": of_padam,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
@pytest.mark.parametrize("name", INVERSE_SQUARES)
def test_effective_rate_from_the_state(name: str, dtype: torch.dtype) -> None:
    case = cases.optimizer(name)
    params = cases.make_params(dtype=dtype)
    groups = [{"params": params[:2]}, {"params": params[2:]}]
    optimizer = case.cls(groups, lr=1e-3, decay="stable", weight_decay=0.01, **case.arguments)
    for row in cases.make_gradients(12):
        cases.set_gradients(params, row)
        optimizer.step()
        terms = []
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = {
                        k: (torch.view_as_real(v) if v.is_complex() else v).double()
                        for k, v in optimizer.state[p].items()
                    }
                    terms.append(INVERSE_SQUARES[name](state, group).ravel())
        expected = float(np.mean(np.concatenate(terms))) ** -0.5
        tolerance = 1e-6 if dtype == torch.float32 else 1e-12
        assert optimizer.last_effective_rate == pytest.approx(expected, rel=tolerance)


def test_effective_rate_of_adadelta() -> None:
    """Its update's mean square is from before the step, so the state after it does not tell."""
    params = cases.make_params()
    optimizer = Adadelta(params, decay="stable", weight_decay=1e-3, eps=1e-3)
    for row in cases.make_gradients(6):
        cases.set_gradients(params, row)
        updates = [optimizer.state[p].get("acc_delta", torch.zeros_like(p)).clone() for p in params]
        optimizer.step()
        terms = [
            ((optimizer.state[p]["square_avg"] + 1e-3) / (u + 1e-3)).flatten()
            for p, u in zip(params, updates, strict=True)
            if p.grad is not None
        ]
        expected = float(torch.cat(terms).mean()) ** -0.5
        assert optimizer.last_effective_rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["AdaBound", "AMSBound", "RAdam", "Yogi"])
def test_where_the_update_is_adams_so_is_the_effective_rate(name: str) -> None:
    """A band that clips nothing; RAdam long after its warm-up; Yogi's first step."""
    cls = cases.optimizer(name).cls
    settings = {
        "AdaBound": {"gamma": 1e-12},
        "AMSBound": {"gamma": 1e-12, "amsbound": True},
        "RAdam": {"betas": (0.0, 0.9)},
        "Yogi": {"initial_accumulator": 0.0},
    }[name]
    steps = {"RAdam": 200, "Yogi": 1}.get(name, 10)
    rates = []
    arguments = {"lr": 1e-3, "decay": "stable", "weight_decay": 1e-3}
    betas = settings.get("betas", (0.9, 0.999))
    adam = decayed(torch.optim.Adam)
    for make in (
        lambda p: cls(p, **arguments, **settings),
        lambda p: adam(p, **arguments, betas=betas, amsgrad=name == "AMSBound"),
    ):
        params = cases.make_params()
        optimizer = make(params)
        for row in cases.make_gradients(steps):
            cases.set_gradients(params, row)
            optimizer.step()
        rates.append(optimizer.last_effective_rate)
    assert rates[0] == pytest.approx(rates[1], rel=1e-6)


def test_fused_adagrad_under_a_gradient_scaler() -> None:
    """The rate is of the unscaled gradients; a skipped step decays nothing."""
    params, twins = (cases.make_params(dtype=torch.float32) for _ in range(2))
    arguments: dict[str, Any] = {"lr": 0.02, "decay": "stable", "weight_decay": 0.5, "fused": True}
    ours, plain = Adagrad(params, **arguments), Adagrad(twins, **arguments)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1000)
    for t, row in enumerate(cases.make_gradients(6)):
        scaler.scale(torch.ones(1))  # creates the scale
        scale = scaler.get_scale()
        cases.set_gradients(params, [None if g is None else g * scale for g in row])
        before = [p.detach().clone() for p in params]
        if t == 2:
            params[0].grad[0] = float("inf")  # type: ignore[index]
        scaler.step(ours)
        scaler.update()
        if t == 2:
            assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
        else:
            cases.set_gradients(twins, row)
            plain.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_no_gradient_and_zero_gradients_have_no_rate() -> None:
    params = cases.make_params()
    optimizer = Adamax(params, decay="stable", weight_decay=0.1, eps=0.0)
    rates = effective_rate_of(optimizer)
    assert isinstance(rates, MeanRate)
    assert rates.of(optimizer.param_groups[0]) == 0.0
    rates.finish(False)
    for p in params:
        p.grad = torch.zeros_like(p)
    assert rates.of(optimizer.param_groups[0]) == 0.0


def test_a_rate_changes_nothing() -> None:
    """Asking for it leaves state and gradients as they were."""
    for name in INVERSE_SQUARES:
        case = cases.optimizer(name)
        params = cases.make_params()
        optimizer = case.cls(params, **case.arguments)
        for row in cases.make_gradients(3):
            cases.set_gradients(params, row)
            optimizer.step()
        before = {(id(p), k): v.clone() for p in params for k, v in optimizer.state[p].items()}
        rates: Any = effective_rate_of(optimizer)
        rates.of(optimizer.param_groups[0])
        rates.finish(True)
        own = {"exp_avg_sq_sum"}  # Adam's rate keeps its sum there
        after = {
            (id(p), k): v for p in params for k, v in optimizer.state[p].items() if k not in own
        }
        assert before.keys() == after.keys(), name
        assert all(torch.equal(after[key], value) for key, value in before.items()), name
