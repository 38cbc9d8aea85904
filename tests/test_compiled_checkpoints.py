"""The compiled step under a scaler, resumed, handed to and from torch's, and switched."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import PEAK
from compiled_runs import COMPILED, assert_same_state, paired
from halflife import Anchored, Cautious, Decoupled, ProximalL1, Stable
from oracles import MAP_BASES

by_id = {"ids": lambda case: getattr(case, "id", None)}


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("own_scaling", [False, True])
@pytest.mark.parametrize("base", ["AdamW", "SGD-nesterov"])
def test_gradient_scaler(base: str, own_scaling: bool) -> None:
    """Gradients are unscaled, and a step with an infinite one changes nothing."""
    (ours, params), (theirs, twins) = paired(base, Cautious(), 0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
    if own_scaling:  # as an optimizer with another, fused group has it
        ours._step_supports_amp_scaling = True
    scaler.scale(torch.ones(()))
    for t, row in enumerate(cases.make_gradients(5, missing=False)):
        scale = scaler.get_scale()
        cases.set_gradients(params, [g * scale for g in row])
        cases.set_gradients(twins, row)
        overflow = t == 2
        if overflow:
            params[0].grad[0, 0] = torch.inf
        before = [p.detach().clone() for p in params]
        scaler.step(ours)
        scaler.update()
        if overflow:
            assert all(map(torch.equal, params, before))
        else:
            theirs.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    assert_same_state(ours, theirs)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("base", ["AMSGrad", "SGD-nesterov"])
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
@pytest.mark.parametrize("rule", [Cautious(), Anchored(), Stable(), ProximalL1()], **by_id)
def test_resumes_bitwise(rule: Any, way: str, base: str) -> None:
    (ours, params), _ = paired(base, rule, 0.3)
    gradients = cases.make_gradients(6)
    lrs = [cases.schedule("cosine", total=6)]
    cases.train(ours, params, gradients[:3], [lrs[0][:3]])
    if way == "state_dict":
        file = io.BytesIO()
        torch.save(ours.state_dict(), file)
        file.seek(0)
        (other, copies), _ = paired(base, rule, 0.1)
        for c, p in zip(copies, params, strict=True):
            c.data.copy_(p.data)
        other.load_state_dict(torch.load(file), keep="checkpoint")
    else:
        other = pickle.loads(pickle.dumps(ours)) if way == "pickle" else copy.deepcopy(ours)
        copies = other.param_groups[0]["params"]
    assert other.param_groups[0]["implementation"] == "compiled"
    for optimizer, tensors in ((ours, params), (other, copies)):
        cases.train(optimizer, tensors, gradients[3:], [lrs[0][3:]])
    assert all(map(torch.equal, params, copies))


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("theirs_first", [True, False])
@pytest.mark.parametrize("implementation", [{"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("base", ["AdamW", "AMSGrad", "SGD-momentum"])
def test_checkpoints_go_both_ways(
    base: str, implementation: dict[str, bool], theirs_first: bool
) -> None:
    """Half the steps in torch's optimizer and half compiled, in either order, are all of them."""
    case = MAP_BASES[base]
    rule = Decoupled() if base == "AdamW" else halflife.L2Regularization()
    settings = {"lr": PEAK, "weight_decay": 0.3, **case.arguments}

    def ours(params: list[Tensor]) -> Any:
        return case.cls(params, decay=rule, **settings, **COMPILED)

    def theirs(params: list[Tensor]) -> Any:
        return case.native(params, **settings, **implementation)

    gradients = cases.make_gradients(6, missing=False)
    params, twins = cases.make_params(), cases.make_params()
    reference = case.native(twins, **settings, foreach=False)
    cases.train(reference, twins, gradients, [[PEAK] * 6])
    first, second = (theirs, ours) if theirs_first else (ours, theirs)
    one = first(params)
    cases.train(one, params, gradients[:3], [[PEAK] * 3])
    two = second(params)
    two.load_state_dict(one.state_dict())
    if theirs_first:
        assert two.param_groups[0]["implementation"] == "compiled"
        for flag in ("fused", "foreach"):
            two.param_groups[0][flag] = None
    cases.train(two, params, gradients[3:], [[PEAK] * 3])
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("uncompiled")
def test_groups_may_differ_and_be_switched() -> None:
    """One group compiled and one not; then the other way round; the entries stay the user's."""
    results = []
    for choice in (("compiled", None), (None, "compiled"), (None, None)):
        params = cases.make_params()
        groups = [
            {"params": params[:2], "implementation": choice[0]},
            {"params": params[2:], "implementation": choice[1], "weight_decay": 0.1},
        ]
        optimizer = halflife.AdamW(groups, PEAK, weight_decay=0.4, decay=Cautious("stable"))
        for t, row in enumerate(cases.make_gradients(6)):
            cases.set_gradients(params, row)
            if t == 3 and choice[0] != choice[1]:
                for group, other in zip(optimizer.param_groups, choice[::-1], strict=True):
                    group["implementation"] = other
            optimizer.step()
            assert optimizer.param_groups[0]["params"] == params[:2]
        results.append(params)
    for other in results[:2]:
        for p, q in zip(other, results[2], strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
