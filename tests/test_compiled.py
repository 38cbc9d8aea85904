"""``implementation="compiled"``: the whole step in one pass, every elementwise rule.

What the kernels compute is tested without a compiler, in float64: against the oracles, and against
torch's own implementations. What a compiler makes of it is in `test_compiled_graphs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import CORE, MAPS, PEAK, RULES, MapCase, OptimizerCase, RuleCase
from compiled_runs import COMPILED, LOOP, assert_same_state, paired
from oracles import MAP_BASES, map_optimizer, map_weights, run_ours, run_reference

WARM_UP = cases.schedule("warmup_from_zero")
ELEMENTWISE = [case for case in MAPS if case.rule.elementwise]
MAPPED = [
    pytest.param(case, base, id=f"{case.id}-{base}")
    for case in ELEMENTWISE
    for base in MAP_BASES
    if not MAP_BASES[base].refuses(case.rule)
]
by_id = {"ids": lambda case: getattr(case, "id", None)}


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("optimizer", CORE, **by_id)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_float64_oracle(rule: RuleCase, optimizer: OptimizerCase) -> None:
    """One implementation more of tests/test_rules.py, under the schedule that all have there."""
    lrs = [WARM_UP, [lr / 2 for lr in WARM_UP]]
    ours = run_ours(optimizer, rule, lrs, **COMPILED)
    expected = run_reference(optimizer, rule, lrs)
    for p, weights in zip(ours, expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), weights, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(("case", "base"), MAPPED)
def test_maps_against_the_formula(case: MapCase, base: str) -> None:
    """As tests/test_maps.py, which has the other schedules."""
    lrs, gradients = WARM_UP, cases.make_gradients()
    if "direction" in case.rule.needs and lrs[0] == 0.0:
        gradients, lrs = gradients[1:], lrs[1:]  # the oracle reads the direction off the update
    optimizer, params = map_optimizer(case, base, **COMPILED)
    cases.train(optimizer, params, gradients, [lrs, [lr / 2 for lr in lrs]])
    for p, expected in zip(params, map_weights(case, base, lrs, gradients), strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-11, atol=1e-13)


def every(base: str) -> list[Any]:
    return [
        (c.rule, c.weight_decay)
        for c in (*RULES, *ELEMENTWISE)
        if not MAP_BASES[base].refuses(c.rule)
    ]


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("base", MAP_BASES)
def test_weights_and_state_are_those_of_the_for_loop(base: str) -> None:
    """Also with a parameter that misses gradients, and with the momentum on a schedule."""
    for rule, decay in every(base):
        (ours, params), (theirs, twins) = paired(base, rule, decay)
        for t, row in enumerate(cases.make_gradients(8)):
            for optimizer, tensors in ((ours, params), (theirs, twins)):
                cases.set_gradients(tensors, row)
                group = optimizer.param_groups[0]
                group["lr"] = PEAK * (1 - t / 8)
                if "betas" in group:
                    group["betas"] = (0.9 - 0.01 * t, group["betas"][1])
                elif group["momentum"]:
                    group["momentum"] = 0.95 - 0.02 * t
                optimizer.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
        assert_same_state(ours, theirs)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("rule", ["cautious", "preconditioned", "decoupled", "l2", "anchored"])
def test_every_layout(rule: str) -> None:
    """Channels-last and transposed tensors, gradients in another order, empty ones."""

    def make() -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)
        tensors = [
            image.to(memory_format=torch.channels_last),
            torch.randn(6, 4, generator=generator, dtype=torch.float64).t(),
            torch.randn(6, 8, generator=generator, dtype=torch.float64)[:, ::2],
            torch.zeros(0, 3, dtype=torch.float64),
            torch.randn(1, generator=generator, dtype=torch.float64),
            torch.randn(40, generator=generator, dtype=torch.float64),
        ]
        return [torch.nn.Parameter(t.detach()) for t in tensors]

    results = []
    for choice in (COMPILED, LOOP):
        params = make()
        generator = torch.Generator().manual_seed(1)
        optimizer = halflife.AdamW(params, PEAK, weight_decay=0.5, decay=rule, **choice)
        for t in range(4):
            for i, p in enumerate(params):
                g = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                p.grad = g if i != 0 or t % 2 else g.to(memory_format=torch.channels_last)
            optimizer.param_groups[0]["lr"] = PEAK / (t + 1)
            optimizer.step()
        results.append((optimizer, params))
    for p, q in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
        assert p.stride() == q.stride()
    assert_same_state(results[0][0], results[1][0])


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("base", ["AdamW", "SGD-momentum"])
def test_half_precision_keeps_a_small_decay(dtype: torch.dtype, base: str) -> None:
    """Decay far below the weights' spacing, no gradient: the mean weight decays all the same."""
    cls, own = MAP_BASES[base].cls, MAP_BASES[base].arguments
    w = torch.nn.Parameter(torch.ones(20_000, dtype=dtype))
    optimizer = cls([w], lr=0.1, weight_decay=2.0**-10, decay="decoupled", **own, **COMPILED)
    w.grad = torch.zeros_like(w)
    for _ in range(100):
        optimizer.step()
    left = (1 - 0.1 * 2.0**-10) ** 100
    # 100 roundings of 20,000 elements, each of variance below spacing * decay
    assert w.double().mean().item() == pytest.approx(left, abs=4e-4)
    assert left < 1 - 9e-3
    assert all(v.dtype is dtype for k, v in optimizer.state[w].items() if k != "step")


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("base", MAP_BASES)
def test_no_lr_and_no_decay(base: str) -> None:
    """At lr 0 no weight changes and the moments advance; without decay it is the native step."""
    for rule, decay in every(base):
        (ours, params), (theirs, twins) = paired(base, rule, decay, peak_lr=PEAK)
        before = [p.detach().clone() for p in params]
        for optimizer, tensors in ((ours, params), (theirs, twins)):
            cases.set_gradients(tensors, cases.make_gradients(1)[0])
            optimizer.param_groups[0]["lr"] = 0.0
            optimizer.step()
        assert all(map(torch.equal, params, before))
        assert_same_state(ours, theirs)
        (ours, params), _ = paired(base, rule, 0.0)
        twins = cases.make_params()
        case = MAP_BASES[base]
        native = case.native(twins, lr=PEAK, weight_decay=0.0, **case.arguments)
        for optimizer, tensors in ((ours, params), (native, twins)):
            cases.set_gradients(tensors, cases.make_gradients(1)[0])
            optimizer.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@dataclass(frozen=True)
class WhereTheGradientAgrees(halflife.rules.DecayMap):
    """A user's map that reads gradients."""

    name = "planted_where_the_gradient_agrees_compiled"
    elementwise = True

    def apply(self, view: Any) -> None:
        view.elementwise(lambda w, d, g: w.sub_((w * g > 0).to(w) * w * d), view.gradients())


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("cls", [halflife.SGD, halflife.AdamW])
def test_a_map_may_read_the_gradient(cls: Any, maximize: bool) -> None:
    runs = []
    for flags in ({}, {"foreach": True}, {"implementation": "compiled"}):
        params = cases.make_params()
        settings = {"lr": PEAK, "weight_decay": 2.0, "decay": WhereTheGradientAgrees()}
        optimizer = cls(params, maximize=maximize, **settings, **flags)
        cases.train(optimizer, params, cases.make_gradients(6), [cases.schedule("cosine")])
        runs.append(params)
    for others in runs[1:]:
        for p, q in zip(runs[0], others, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
