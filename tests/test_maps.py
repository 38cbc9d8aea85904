"""Maps: each against its formula around torch's native step, under a changing lr.

The oracle, `oracles.map_weights`, steps torch's own optimizer without decay, in float64, and
applies the formula of the paper to the weights before or after it. The update direction that
`Cautious` masks by is read off the native step itself.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import MAPS, PEAK, MapCase
from halflife import AdamW
from halflife.rules import Cautious, NormControl, PowerDecay, ProximalL1, ProximalNorm, View
from halflife.tensors.reduction import PerMember
from oracles import MAP_BASES, map_optimizer, map_weights

SCHEDULES = cases.schedules()
LRS = SCHEDULES["cosine"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("base", MAP_BASES)
@pytest.mark.parametrize("case", MAPS, ids=lambda c: c.id)
def test_against_the_formula(case: MapCase, base: str, schedule: str) -> None:
    if cases.optimizer(base).refuses(case.rule):
        with pytest.raises(ValueError, match="needs the optimizer's preconditioner, and SGD"):
            map_optimizer(case, base)
        return
    lrs = SCHEDULES[schedule]
    gradients = cases.make_gradients()
    if "direction" in case.rule.needs and lrs[0] == 0.0:
        gradients, lrs = gradients[1:], lrs[1:]  # the oracle reads the direction off the update
    optimizer, params = map_optimizer(case, base)
    cases.train(optimizer, params, gradients, [lrs, [lr / 2 for lr in lrs]])
    for p, expected in zip(params, map_weights(case, base, lrs, gradients), strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", MAPS, ids=lambda c: c.id)
def test_every_map_differs_from_its_inner_rule(case: MapCase) -> None:
    optimizer, params = map_optimizer(case, "AdamW")
    plain = MapCase("plain", case.rule.rule, case.formula, case.weight_decay)  # type: ignore[arg-type]
    if case.amount == "independent" or case.weight_decay < 50:
        other, twins = map_optimizer(plain, "AdamW")
    gradients = cases.make_gradients()
    for o, ps in ((optimizer, params), (other, twins)):
        cases.train(o, ps, gradients, [LRS, [lr / 2 for lr in LRS]])
    difference = max((p - q).abs().max().item() for p, q in zip(params, twins, strict=True))
    assert difference > 1e-4


@pytest.mark.parametrize("case", MAPS, ids=lambda c: c.id)
def test_stacked_ensemble_equals_its_members(case: MapCase) -> None:
    """A view of stacked weights, one amount per member, does to each what it does alone."""
    members, amounts = 3, torch.tensor([0.0, 0.02, 0.3], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)

    def stack() -> list[Tensor]:
        return [
            torch.nn.Parameter(torch.randn(members, *s, generator=generator, dtype=torch.float64))
            for s in [(4, 3), (5,)]
        ]

    params, weights = stack(), stack()
    native = torch.optim.AdamW(params, lr=1.0, weight_decay=0.0)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    native.step()
    singles = []
    for e in range(members):
        own = [torch.nn.Parameter(p.detach()[e].clone()) for p in params]
        alone = torch.optim.AdamW(own, lr=1.0, weight_decay=0.0)
        for o, p in zip(own, params, strict=True):
            o.grad = p.grad[e].clone()  # type: ignore[index]
            entries = native.state[p]
            alone.state[o] = {k: v[e].clone() if v.dim() else v for k, v in entries.items()}
        single = [w.detach()[e].clone() for w in weights]
        view = View(case.rule, alone, alone.param_groups[0], own, float(amounts[e]), single)
        type(case.rule).apply_all([view])
        singles.append(single)
    stacked = [w.detach().clone() for w in weights]
    view = View(case.rule, native, native.param_groups[0], params, amounts, stacked, PerMember())
    type(case.rule).apply_all([view])
    for e in range(members):
        for i, w in enumerate(stacked):
            torch.testing.assert_close(w[e], singles[e][i], rtol=1e-13, atol=1e-15)


def test_l1_makes_exact_zeros_and_the_norm_collapses_the_model() -> None:
    params = cases.make_params()
    optimizer = AdamW(params, PEAK, weight_decay=0.5, decay=ProximalL1("independent"))
    cases.train(optimizer, params, cases.make_gradients(3, missing=False), [[PEAK] * 3])
    assert sum(int((p == 0).sum()) for p in params) > 10
    params = cases.make_params()
    optimizer = AdamW(params, PEAK, weight_decay=1e3, decay=ProximalNorm("independent"))
    cases.train(optimizer, params, cases.make_gradients(1, missing=False), [[PEAK]])
    assert all(not p.any() for p in params)


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**9])
@pytest.mark.parametrize("case", MAPS, ids=lambda c: c.id)
def test_scale_freeness(case: MapCase, scale: float) -> None:
    """With eps 0, power-of-two gradients scales change nothing bitwise, but for AdamP's family."""
    results = []
    for factor in (1.0, scale):
        params = cases.make_params()
        optimizer = AdamW(params, PEAK, weight_decay=case.weight_decay, decay=case.rule, eps=0.0)
        gradients = [[g * factor for g in row] for row in cases.make_gradients(8, missing=False)]
        cases.train(optimizer, params, gradients, [LRS])
        results.append(torch.cat([p.detach().flatten() for p in params]))
    assert torch.equal(*results) == ("preconditioner" not in case.rule.needs)


# Every base that declares a direction. AdamDelta and HeavyBall have such a test of their own; ASGD
# moves the weights by more than its update. Two more ways of RMSprop.
MASKED: dict[str, tuple[Any, dict[str, Any]]] = {
    **{
        o.native.__name__: (o.native, {})
        for o in (*cases.TORCHS, *cases.OURS)
        if "direction" not in o.lacks and o.name != "ASGD"
    },
    "RMSprop-momentum": (torch.optim.RMSprop, {"momentum": 0.9}),
    "RMSprop-centered": (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("maximize", [False, True])
def test_cautious_masks_by_the_update_of_every_base(name: str, maximize: bool) -> None:
    """Which elements decay is read off the native update; a decay of 0.3 shows each of them."""
    base, arguments = MASKED[name]
    params, twins = cases.make_params(), cases.make_params()
    arguments = {"lr": 1e-3, "maximize": maximize, **arguments}
    ours = halflife.decayed(base)(params, weight_decay=0.3, decay=Cautious("constant"), **arguments)
    native = base(twins, **arguments)
    for row in cases.make_gradients(8):
        cases.set_gradients(params, row)
        cases.set_gradients(twins, row)
        start = [p.detach().clone() for p in params]
        with torch.no_grad():
            for p, q in zip(params, twins, strict=True):
                q.copy_(p)
        ours.step()
        native.step()
        for p, q, s, g in zip(params, twins, start, row, strict=True):
            moved = q.detach() - s
            masked = (s * -moved >= 0).double() * 0.3 if g is not None else 0.0
            torch.testing.assert_close(p.detach(), s - masked * s + moved, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_the_power_of_a_tiny_weight_is_no_reason_for_nan(power: float) -> None:
    """|w|^(p-2) overflows for a denormal w; without decay nothing changes, with it w goes to 0."""
    w = torch.tensor([1e-39, -1e-39, 0.0, 1.0])
    for amount in (0.0, 0.25):
        p = torch.nn.Parameter(w.clone())
        optimizer = AdamW([p], lr=0.25, weight_decay=4 * amount, decay=PowerDecay(power=power))
        p.grad = torch.zeros_like(p)
        optimizer.step()
        expected = w.double() / (1 + amount * w.double().abs().pow(power - 2))
        expected[2] = 0.0
        torch.testing.assert_close(p.double(), expected, rtol=1e-6, atol=1e-44)


@pytest.mark.parametrize("power", [0.3, 0.5, 0.8, 1.3, 1.5, 2.0, 2.2, 2.5, 3.6, 4.0, 5.0])
def test_every_power_is_as_defined(power: float) -> None:
    """``z / (1 + x |z|^(p-2))``, whichever functions torch has for the exponent."""
    w = torch.nn.Parameter(torch.tensor([2.0, -0.7, 1e-3, 0.0, -30.0], dtype=torch.float64))
    optimizer = halflife.SGD([w], PEAK, weight_decay=3.0, decay=PowerDecay(power=power))
    expected = w.detach().clone()
    for lr, gradient in ((PEAK, 0.5), (PEAK / 3, -0.2)):
        optimizer.param_groups[0]["lr"] = lr
        w.grad = torch.tensor([gradient, -gradient, 0.0, 0.0, gradient], dtype=torch.float64)
        optimizer.step()
        z = expected - lr * w.grad
        kept = 1 / (1 + 3.0 * lr * z.abs() ** (power - 2.0))
        expected = torch.where(z == 0.0, 0.0, z * kept)
    torch.testing.assert_close(w.detach(), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("implementation", cases.IMPLEMENTATIONS)
def test_a_norm_of_zero_stays(implementation: str) -> None:
    """Zeros have no direction to grow in, and the other tensors none of their part in it."""
    zeros = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    other = torch.nn.Parameter(torch.tensor([3.0, -4.0], dtype=torch.float64))
    flags = cases.IMPLEMENTATIONS[implementation]
    rule = NormControl("constant", target=2.0)
    optimizer = halflife.AdamW([zeros, other], PEAK, weight_decay=0.5, decay=rule, **flags)
    expected = other.detach().clone()
    for lr in (PEAK, PEAK / 2):
        optimizer.param_groups[0]["lr"] = lr
        cases.stepped(optimizer, [zeros, other], 1)
        rms = float(expected.square().mean()) ** 0.5
        expected *= 1 - 0.5 * (1 - 2.0 / rms)
    assert torch.equal(zeros, torch.zeros_like(zeros))
    torch.testing.assert_close(other.detach(), expected, rtol=1e-14, atol=0)


def test_cautious_masks_by_a_buffer_of_centered_gradients() -> None:
    """RMSprop's momentum averages gradients over their deviation, which decides the signs."""
    generator = torch.Generator().manual_seed(3)
    arguments = {"lr": 1e-3, "alpha": 0.6, "momentum": 0.7, "centered": True}
    p = torch.nn.Parameter(torch.randn(4000, dtype=torch.float64, generator=generator))
    q = torch.nn.Parameter(p.detach().clone())
    ours = halflife.RMSprop([p], weight_decay=0.3, decay=Cautious("constant"), **arguments)
    native = torch.optim.RMSprop([q], **arguments)
    for _ in range(5):
        start = p.detach().clone()
        q.data.copy_(start)
        p.grad = torch.randn(4000, dtype=torch.float64, generator=generator) + 0.3
        q.grad = p.grad.clone()
        ours.step()
        native.step()
        moved = q.detach() - start
        masked = (start * -moved >= 0).double() * 0.3
        expected = start - masked * start + moved
        torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-12)


def test_an_amount_that_is_no_fraction_may_be_above_one() -> None:
    """``z / (1 + x / D)``, with ``D = |g| + eps`` while the gradient has been the same."""
    start = torch.tensor([5.0, -3.0, 0.5], dtype=torch.float64)
    w = torch.nn.Parameter(start.clone())
    optimizer = AdamW([w], lr=1.0, weight_decay=3.0, decay="preconditioned", eps=1e-3)
    expected = start.clone()
    for lr in (1.0, 0.5):
        optimizer.param_groups[0]["lr"] = lr
        w.grad = torch.tensor([2.0, -0.5, 4.0], dtype=torch.float64)
        optimizer.step()
        metric = w.grad.abs() + 1e-3
        expected = (expected - lr * w.grad / metric) / (1.0 + lr * 3.0 / metric)
    torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=0)
    for rule in ("proximal_l1", "proximal_norm", "power"):
        AdamW([w], lr=1.0, weight_decay=3.0, decay=rule)
