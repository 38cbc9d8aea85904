"""Betas, and whatever else is some numbers: in every form in which a configuration holds them."""

from __future__ import annotations

import io
from collections import UserList
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cases
import halflife
from cases import OPTIMIZERS, PEAK, OptimizerCase

FORMS: dict[str, Callable[[tuple[float, ...]], Any]] = {
    "list": list,
    "sequence": UserList,  # as omegaconf's ListConfig, no list by its type
    "array": np.array,
    "single precision": lambda pair: np.array(pair, dtype=np.float32),
    "numpy numbers": lambda pair: tuple(map(np.float64, pair)),
    "tensors": lambda pair: torch.tensor(pair, dtype=torch.float64),
}
PAIRED = [o for o in OPTIMIZERS if "betas" in o.make(
    [torch.nn.Parameter(torch.ones(2, 2))], cases.RULES[1]
).param_groups[0]]  # fmt: skip


TENSORS = (torch.optim.Adam, torch.optim.AdamW)  # take tensors for them, alone of torch's


@pytest.mark.parametrize(
    ("optimizer", "form"),
    [
        pytest.param(case, form, id=f"{case.id}-{form}")
        for case in PAIRED
        for form in FORMS
        if form != "tensors" or case.native in TENSORS
    ],
)
def test_betas_in_any_form_train_alike(optimizer: OptimizerCase, form: str) -> None:
    plain, made = (0.8, 0.95), FORMS[form]((0.8, 0.95))
    if form == "single precision":
        plain = tuple(map(float, made))
    found = []
    for betas in (plain, made):
        params = cases.make_params()
        ours = optimizer.make(params, cases.RULES[1], betas=betas)
        cases.train(ours, params, cases.make_gradients(), [cases.schedule("cosine")])
        found.append(cases.weights(params))
    exact = form != "tensors"  # which a kernel may compute with otherwise
    torch.testing.assert_close(found[1], found[0], rtol=0 if exact else 1e-12, atol=0)


def test_a_group_may_have_its_own_and_a_checkpoint_is_plain() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    group = {"params": [p], "betas": np.array([0.8, 0.95])}
    ours = halflife.AdamW([group], lr=PEAK, betas=UserList([0.9, 0.99]))
    assert ours.param_groups[0]["betas"] == (0.8, 0.95)
    assert ours.defaults["betas"] == (0.9, 0.99)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    assert torch.load(file)["param_groups"][0]["betas"] == (0.8, 0.95)


@pytest.mark.parametrize(
    "value", [{0.9, 0.99}, {0: 0.9, 1: 0.99}, "09", np.ones((2, 2)), np.float64(1)]
)
def test_what_is_not_some_numbers_in_order_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"(?s)betas=.*must be 2 numbers"):
        halflife.AdamW([torch.nn.Parameter(torch.ones(2))], betas=value)


def test_other_numbers_than_two() -> None:
    """Muon's three coefficients, Rprop's bounds."""
    w = torch.nn.Parameter(torch.eye(3))
    coefficients = (3.4445, -4.775, 2.0315)
    ours = halflife.Muon([w], ns_coefficients=np.array(coefficients))
    assert ours.param_groups[0]["ns_coefficients"] == coefficients
    rprop = halflife.decayed(torch.optim.Rprop)([w], step_sizes=UserList([1e-6, 50.0]))
    assert rprop.param_groups[0]["step_sizes"] == (1e-6, 50.0)
