"""What the compiled step refuses, and that nothing has changed then."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from compiled_runs import COMPILED
from halflife import NormControl, ProximalNorm


def adamw(**settings: Any) -> Any:
    return halflife.AdamW(cases.make_params(), **{**COMPILED, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"implementation": "complied"}, "implementation='complied' of parameter group 0: must be"),
        ({"fused": True}, "fused=True of parameter group 0: goes with torch's own"),
        ({"foreach": True}, "foreach=True of parameter group 0"),
        ({"differentiable": True}, "differentiable=True of parameter group 0"),
        ({"decay": NormControl()}, "is not declared elementwise"),
        ({"decay": "proximal_norm"}, "is not declared elementwise"),
        ({"decay": ProximalNorm(per_tensor=True)}, "is not declared elementwise"),
    ],
)
def test_refused_when_the_group_is_added(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adamw(**settings)
    optimizer = halflife.AdamW(cases.make_params())
    with pytest.raises(ValueError, match=message.replace("group 0", "group 1")):
        optimizer.add_param_group({"params": cases.make_params(), **COMPILED, **settings})
    assert len(optimizer.param_groups) == 1


def test_complex_parameters_and_sparse_gradients_are_refused() -> None:
    w = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    for params in ([w], iter([w]), [("w", w)], w):
        if isinstance(params, Tensor):
            params = [{"params": params}]
        with pytest.raises(ValueError, match="parameter group 0: a parameter is complex"):
            halflife.SGD(params, **COMPILED)
    w = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = halflife.SGD([w], **COMPILED)
    w.grad = torch.sparse_coo_tensor([[0], [1]], [1.0], (2, 2), check_invariants=True)
    with pytest.raises(ValueError, match="parameter group 0: a gradient is sparse"):
        optimizer.step()
    assert torch.equal(w, torch.ones(2, 2))
    assert optimizer.param_groups[0]["params"] == [w]


def test_errors_of_a_step_come_before_anything_changes() -> None:
    optimizer = adamw(decay="cautious")
    params = optimizer.param_groups[0]["params"]
    before = [p.detach().clone() for p in params]
    cases.set_gradients(params, cases.make_gradients(1)[0])
    for key, value, message in (
        ("implementation", "fast", "must be None or one of 'compiled'"),
        ("fused", True, "goes with torch's own"),
        ("decay", NormControl(), "not declared elementwise"),
        ("weight_decay", 1e4, "would remove the fraction"),
    ):
        saved, optimizer.param_groups[0][key] = optimizer.param_groups[0][key], value
        with pytest.raises(ValueError, match=message):
            optimizer.step()
        optimizer.param_groups[0][key] = saved
    assert all(map(torch.equal, params, before))
    assert not optimizer.state


@pytest.mark.usefixtures("uncompiled")
def test_stable_clamps_with_one_warning() -> None:
    w = torch.nn.Parameter(torch.ones(8, dtype=torch.float64))
    optimizer = halflife.AdamW([w], 0.1, weight_decay=1.0, decay="stable", **COMPILED)
    w.grad = torch.full_like(w, 1e-9)
    with pytest.warns(UserWarning, match="clamped to 1"):
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert w.abs().max() < 0.3  # the decay took all, and left the update of at most lr
