"""Our own base optimizers stopped and resumed; and checkpoints of other implementations."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import cases
from cases import PEAK
from halflife import Stable
from halflife.optim.adabound import AdaBound
from halflife.optim.yogi import YogiBase
from resuming import WAYS

SCHEDULES = cases.schedules()
OURS = {o.name: o for o in cases.OURS}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("decayed", [False, True], ids=["native", "stable"])
@pytest.mark.parametrize("name", OURS)
def test_resuming_equals_not_stopping(
    name: str, decayed: bool, way: Any, dtype: torch.dtype
) -> None:
    case = OURS[name]
    settings = case.arguments
    if decayed:
        rule = "corrected" if case.refuses(Stable()) else "stable"
        settings = {**settings, "decay": rule, "weight_decay": 0.5}

    def make(params: list[torch.Tensor]) -> Any:
        groups = [{"params": params[:2], "lr": PEAK / 2}, {"params": params[2:]}]
        return (case.cls if decayed else case.native)(groups, lr=PEAK, **settings)

    lrs = [[lr / 2 for lr in SCHEDULES["cosine"]], SCHEDULES["cosine"]]
    gradients = cases.make_gradients()
    straight, params = make(a := cases.make_params(dtype=dtype)), a
    cases.train(straight, params, gradients, lrs)
    stopped, params = make(b := cases.make_params(dtype=dtype)), b
    cases.train(stopped, params, gradients[:10], lrs)
    resumed, params = way(stopped, params, make)
    cases.train(resumed, params, gradients[10:], [schedule[10:] for schedule in lrs])
    assert all(torch.equal(p, q) for p, q in zip(a, params, strict=True))


def test_adabound_keeps_each_groups_base_lr() -> None:
    """Built at its peak, resumed in the middle of a schedule: the band is the same."""
    params = cases.make_params()
    optimizer = AdaBound([{"params": params[:2], "lr": 0.3}, {"params": params[2:]}], lr=0.1)
    assert [group["base_lr"] for group in optimizer.param_groups] == [0.3, 0.1]
    for group in optimizer.param_groups:
        group["lr"] /= 10
    saved = optimizer.state_dict()
    twins = cases.make_params()
    resumed = AdaBound([{"params": twins[:2]}, {"params": twins[2:]}], lr=0.01)
    resumed.load_state_dict(saved)
    assert [group["base_lr"] for group in resumed.param_groups] == [0.3, 0.1]
    for group in saved["param_groups"]:
        del group["base_lr"]  # as another implementation's
    resumed.load_state_dict(saved)
    assert [group["base_lr"] for group in resumed.param_groups] == [0.03, 0.01]
    assert AdaBound(cases.make_params(), lr=0.0, base_lr=0.1).param_groups[0]["base_lr"] == 0.1


def test_counts_that_are_numbers_become_tensors() -> None:
    """Other implementations count in Python."""
    params = cases.make_params()
    optimizer = YogiBase(params)
    cases.set_gradients(params, cases.make_gradients(1)[0])
    optimizer.step()
    saved = optimizer.state_dict()
    for state in saved["state"].values():
        state["step"] = 5
    del saved["param_groups"][0]["capturable"]
    optimizer.load_state_dict(saved)
    assert all(torch.equal(s["step"], torch.tensor(5.0)) for s in optimizer.state.values())
    assert optimizer.param_groups[0]["capturable"] is False
    optimizer.step()


@pytest.mark.parametrize("name", OURS)
def test_loading_a_checkpoint_adds_no_setting(name: str) -> None:
    """Distributed checkpoints want the same keys saved and live."""
    cls, settings = OURS[name].native, OURS[name].arguments
    optimizer = cls(cases.make_params(), lr=PEAK, **settings)
    before = optimizer.state_dict()
    optimizer.load_state_dict(copy.deepcopy(before))
    assert optimizer.state_dict() == before
