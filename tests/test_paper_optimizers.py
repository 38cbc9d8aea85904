"""AdamDelta and HeavyBall, which papers write and nobody ships: every rule, torch's conventions."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

import cases
import halflife
import reference
import reference_papers
from cases import PEAK, RULES, RuleCase
from compiled_runs import steps_compile_once
from halflife.optim.adam_delta import AdamDelta, AdamDeltaBase
from halflife.optim.heavy_ball import HeavyBall, HeavyBallBase

LRS = cases.schedule("cosine")
PAPERS = {o.name: o for o in cases.PAPERS}
IMPLEMENTATIONS = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}}


def groups_of(params: list[Any], weight_decay: float) -> list[dict[str, Any]]:
    second = {"params": params[2:], "lr": PEAK / 2, "weight_decay": weight_decay / 3}
    return [{"params": params[:2]}, second]


def expected(name: str, rule: str, weight_decay: float) -> list[np.ndarray]:
    """The weights by the papers; `reference.update` puts the rule on a direction."""
    settings = {"betas": (0.9, 0.999), "delta": 1e-4, "moments": "gradient", "momentum": 0.9}
    settings |= PAPERS[name].arguments
    settings["paper_betas"] = tuple(1 - beta for beta in settings["betas"])
    weights = [p.detach().numpy().copy() for p in cases.make_params()]
    halves = [lr / 2 for lr in LRS]
    groups = [
        reference.Group(weights[:2], LRS, weight_decay, PEAK),
        reference.Group(weights[2:], halves, weight_decay / 3, PEAK / 2),
    ]
    state: dict[tuple[int, int], dict[str, Any]] = {}
    for t, row in enumerate(cases.make_gradients()):
        directions, squares = {}, []
        for (i, j), g in zip([(0, 0), (0, 1), (1, 0), (1, 1)], row, strict=True):
            if g is None:
                continue
            group, s = groups[i], state.setdefault((i, j), {"k": 0})
            s["k"] += 1
            gradient = -g.numpy() if settings.get("maximize") else g.numpy()
            if rule == "l2":
                gradient = gradient + group.weight_decay * group.weights[j]
            if name.startswith("HeavyBall"):
                s["m"] = settings["momentum"] * s.get("m", 0.0) + group.lrs[t] * gradient
                directions[i, j] = s["m"] / group.lrs[t]
            else:
                m, v = reference_papers.moments_003(settings, s, gradient, s["k"])
                directions[i, j] = m / v
                squares.append(v.ravel() ** 2)
        if name.startswith("HeavyBall"):
            scale = 1 / (1 - settings["momentum"])
        else:
            scale = 1 / math.sqrt(np.concatenate(squares).mean())
        if rule == "adaptive":
            arrays = [None if g is None else g.numpy() for g in row]
            scale = reference.ratio_of_norms(groups, [arrays[:2], arrays[2:]])
        for (i, j), direction in directions.items():
            reference.update(rule, groups[i], j, t, direction, scale)
    return [w for group in groups for w in group.weights]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_every_rule(rule: RuleCase, name: str, implementation: str) -> None:
    case = PAPERS[name]
    params, weight_decay = cases.make_params(), rule.weight_decay / 2
    settings = {"weight_decay": weight_decay, **IMPLEMENTATIONS[implementation]}

    def make() -> Any:
        return case.make(groups_of(params, weight_decay), rule, **settings)

    if case.refuses(rule.rule):
        with pytest.raises(ValueError, match="a step of HeavyBall is not proportional"):
            make()
        return
    halves = [lr / 2 for lr in LRS]
    cases.train(make(), params, cases.make_gradients(), [LRS, halves])
    for p, w in zip(params, expected(name, rule.id, weight_decay), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", PAPERS)
def test_cautious_decay_follows_the_coming_update(name: str) -> None:
    """Against the native step, off which the direction is read."""
    cls, native, settings = PAPERS[name].cls, PAPERS[name].native, PAPERS[name].arguments
    params, twins = cases.make_params(), cases.make_params()
    rule = halflife.Cautious("constant")
    optimizer = cls(params, PEAK, weight_decay=0.04, decay=rule, **settings)
    observer = native(twins, PEAK, **settings)
    for t, row in enumerate(cases.make_gradients()):
        before = [p.detach().clone() for p in twins]
        for ps, o in ((params, optimizer), (twins, observer)):
            cases.set_gradients(ps, row)
            o.param_groups[0]["lr"] = LRS[t]
            o.step()
        for p, w, g in zip(twins, before, row, strict=True):
            if g is not None:
                aligned = w * (w - p.detach()) >= 0
                p.data -= torch.where(aligned, 0.04 * w, 0.0)
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex64])
@pytest.mark.parametrize("name", PAPERS)
def test_for_loop_and_foreach_agree(name: str, dtype: torch.dtype) -> None:
    cls, settings = PAPERS[name].native, PAPERS[name].arguments
    results = []
    for flags in IMPLEMENTATIONS.values():
        params = cases.make_params(dtype=dtype)
        cases.train(cls(params, PEAK, **settings, **flags), params, cases.make_gradients(), [LRS])
        results.append(params)
    for p, q in zip(*results, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", PAPERS)
def test_complex_parameters_are_pairs_of_real_ones(name: str) -> None:
    cls, settings = PAPERS[name].native, PAPERS[name].arguments
    z = torch.nn.Parameter(torch.randn(5, dtype=torch.complex128))
    pairs = torch.nn.Parameter(torch.view_as_real(z.detach()).clone())
    one, two = cls([z], **settings), cls([pairs], **settings)
    for _ in range(4):
        z.grad = torch.randn_like(z)
        pairs.grad = torch.view_as_real(z.grad).clone()
        one.step()
        two.step()
    assert torch.equal(torch.view_as_real(z.detach()), pairs.detach())


@pytest.mark.parametrize("way", ["state_dict", "deepcopy"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", PAPERS)
def test_resuming_equals_not_stopping(name: str, dtype: torch.dtype, way: str) -> None:
    cls, settings = PAPERS[name].cls, PAPERS[name].arguments
    params = cases.make_params(dtype=dtype)
    first = cls(params, PEAK, weight_decay=0.01, **settings)
    gradients = cases.make_gradients()
    cases.train(first, params, gradients[:9], [LRS[:9]])
    if way == "deepcopy":
        second = copy.deepcopy(first)
        resumed = second.param_groups[0]["params"]
    else:
        resumed = [torch.nn.Parameter(p.detach().clone()) for p in params]
        second = cls(resumed, PEAK, weight_decay=0.01, **settings)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
    for o, ps in ((first, params), (second, resumed)):
        cases.train(o, ps, gradients[9:], [LRS[9:]])
    assert all(torch.equal(p, q) for p, q in zip(params, resumed, strict=True))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ["AdamDelta", "HeavyBall"])
def test_lr_as_a_tensor(name: str, implementation: str) -> None:
    cls, settings = PAPERS[name].native, PAPERS[name].arguments
    flags = {**settings, **IMPLEMENTATIONS[implementation]}
    results = []
    for lr in (PEAK, torch.tensor(PEAK, dtype=torch.float64)):
        params = cases.make_params()
        optimizer = cls(params, lr=lr, **flags)
        for row in cases.make_gradients(5):
            cases.set_gradients(params, row)
            optimizer.step()
        results.append(params)
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("cls", [AdamDeltaBase, HeavyBallBase])
def test_compiled_step_is_the_same_and_compiles_once(cls: Any, implementation: str) -> None:
    steps_compile_once(cls, **IMPLEMENTATIONS[implementation])


def test_heavy_ball_at_a_constant_lr_is_torchs_sgd() -> None:
    params, twins = cases.make_params(), cases.make_params()
    pairs = (
        (HeavyBallBase(params, PEAK, momentum=0.9), params),
        (torch.optim.SGD(twins, PEAK, momentum=0.9), twins),
    )
    for optimizer, ps in pairs:
        cases.train(optimizer, ps, cases.make_gradients(), [[PEAK] * cases.STEPS])
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


BAD = {
    "beta": (lambda p: AdamDelta(p, betas=(1.0, 0.9)), "Invalid beta parameter at index 0: 1.0"),
    "delta": (lambda p: AdamDelta(p, delta=-1.0), "Invalid delta value: -1.0"),
    "delta nan": (lambda p: AdamDelta(p, delta=math.nan), "Invalid delta value: nan"),
    "moments": (lambda p: AdamDelta(p, moments="one"), "Invalid moments value: 'one', must be"),
    "momentum": (lambda p: HeavyBall(p, momentum=1.0), "Invalid momentum value: 1.0"),
    "lr": (lambda p: HeavyBall(p, lr=-1.0), "Invalid learning rate: -1.0"),
    "late": (
        lambda p: HeavyBall(p[:1]).add_param_group({"params": p[1:], "decay": "proximal"}),
        "a step of HeavyBall is not proportional",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make(cases.make_params())


def test_sparse_gradients_are_refused() -> None:
    for cls in (AdamDelta, HeavyBall):
        w = torch.nn.Parameter(torch.zeros(3))
        w.grad = torch.ones(3).to_sparse()
        with pytest.raises(RuntimeError, match="does not support sparse gradients"):
            cls([w]).step()
