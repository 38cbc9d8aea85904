"""Maps: each against its formula around torch's native step, under a changing lr.

The oracle steps torch's own optimizer without decay, in float64, and applies the formula of the
paper to the weights before or after it. The update direction that `Cautious` masks by is read off
the native step itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
import own_optimizers
from cases import PEAK, STEPS
from halflife import AdamW, Independent
from halflife.rules import (
    Anchored,
    Cautious,
    DecayMap,
    HuberDecay,
    NormControl,
    PowerDecay,
    Preconditioned,
    ProximalL1,
    ProximalNorm,
    View,
    facts,
)
from halflife.tensors.reduction import PerMember

SCHEDULES = cases.schedules()
LRS = SCHEDULES["cosine"]


@dataclass
class Seen:
    """What an oracle may look at: one parameter around one native step without decay."""

    start: Tensor  # the weights before anything
    u: Tensor  # update direction: (before - after) / lr
    D: Tensor | None  # sqrt(v_hat) + eps
    initial: Tensor
    norm: float  # of all decayed weights after the step


def cautious(w: Tensor, x: float, s: Seen) -> Tensor:
    return torch.where(w * s.u >= 0, w - x * w, w)


def soft(w: Tensor, threshold: Any) -> Tensor:
    return torch.sign(w) * torch.clamp(w.abs() - threshold, min=0)


@dataclass(frozen=True)
class MapCase:
    id: str
    rule: DecayMap
    formula: Callable[[Tensor, float, Seen], Tensor]
    weight_decay: float
    amount: str = "decoupled"  # which rule gives the amount
    adam_only: bool = False


def norm_control(w: Tensor, x: float, s: Seen) -> Tensor:
    rms = w.square().mean().sqrt()
    return w - x * (1 - 0.5 / rms) * w


def anchored(w: Tensor, x: float, s: Seen) -> Tensor:
    return w - x * (w - s.initial)


CASES = [
    MapCase("cautious", Cautious(), cautious, 2.0),
    MapCase("cautious-independent", Cautious("independent"), cautious, 0.04, "independent"),
    MapCase("anchored", Anchored(), anchored, 2.0),
    MapCase("anchored-1", Anchored(to=1.0), lambda w, x, s: w - x * (w - 1), 2.0),
    MapCase("huber", HuberDecay(delta=0.4), lambda w, x, s: w - x * w.clamp(-0.4, 0.4), 2.0),
    MapCase("norm_control", NormControl(target=0.5), norm_control, 2.0),
    MapCase("l1", ProximalL1(Independent()), lambda w, x, s: soft(w, x), 0.02, "independent"),
    MapCase(
        "l1-preconditioned",
        ProximalL1(metric="preconditioned"),
        lambda w, x, s: soft(w, x / s.D),
        0.3,
        adam_only=True,
    ),
    MapCase("norm", ProximalNorm(), lambda w, x, s: max(1 - x / s.norm, 0.0) * w, 2.0),
    MapCase(
        "norm-tensor",
        ProximalNorm(per_tensor=True),
        lambda w, x, s: torch.clamp(1 - x / w.norm(), min=0) * w,
        0.5,
    ),
    MapCase(
        "preconditioned",
        Preconditioned(),
        lambda w, x, s: w / (1 + x / s.D),
        1.0,
        adam_only=True,
    ),
    MapCase("power-1", PowerDecay(power=1.0), lambda w, x, s: w / (1 + x / w.abs()), 0.5),
    MapCase("power-3", PowerDecay(power=3.0), lambda w, x, s: w / (1 + x * w.abs()), 2.0),
]
BASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "AdamW": (halflife.AdamW, torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-3}),
    "AMSGrad": (halflife.Adam, torch.optim.Adam, {"amsgrad": True, "eps": 1e-3}),
    "maximize": (halflife.AdamW, torch.optim.AdamW, {"maximize": True, "eps": 1e-3}),
    "SGD": (halflife.SGD, torch.optim.SGD, {}),
    "momentum": (halflife.SGD, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.4}),
    "nesterov": (halflife.SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


def oracle(case: MapCase, base: str, lrs: list[float], gradients: Any) -> list[Tensor]:
    _, native_class, arguments = BASES[base]
    twins = cases.make_params()
    initial = [p.detach().clone() for p in twins]
    groups = [{"params": twins[:2]}, {"params": twins[2:], "lr": PEAK / 2}]
    native = native_class(groups, lr=PEAK, weight_decay=0.0, foreach=False, **arguments)
    factor = [1.0, 1.0, 0.5, 0.5]  # lr and weight decay of the second group, by parameter
    for t, row in enumerate(gradients):
        cases.set_gradients(twins, row)
        for group, scale in zip(native.param_groups, (1.0, 0.5), strict=True):
            group["lr"] = lrs[t] * scale
        start = [p.detach().clone() for p in twins]
        amounts = [
            case.weight_decay * f * (lrs[t] * f if case.amount == "decoupled" else lrs[t] / PEAK)
            for f in factor
        ]
        native.step()
        moved = [p.detach() - s for p, s in zip(twins, start, strict=True)]
        live = [i for i, g in enumerate(row) if g is not None]
        after = {i: start[i] + moved[i] for i in live}
        norm = math.sqrt(sum(float(after[i].square().sum()) for i in live))
        for i in live:
            state = native.state[twins[i]]
            metric = None
            if "exp_avg_sq" in state:
                second = state["max_exp_avg_sq" if arguments.get("amsgrad") else "exp_avg_sq"]
                beta2 = arguments.get("betas", (0, 0.999))[1]
                metric = (second / (1 - beta2 ** state["step"].double())).sqrt() + 1e-3
            u = -moved[i] / max(lrs[t] * factor[i], 1e-30)
            seen = Seen(start[i], u, metric, initial[i], norm)
            if case.rule.acts == "before":
                new = case.formula(start[i], amounts[i], seen) + moved[i]
            else:
                new = case.formula(after[i], amounts[i], seen)
            with torch.no_grad():
                twins[i].copy_(new)
    return [p.detach() for p in twins]


def ours(case: MapCase, base: str, **arguments: Any) -> tuple[Any, list[Tensor]]:
    cls, _, own = BASES[base]
    params = cases.make_params()
    groups = [
        {"params": params[:2]},
        {"params": params[2:], "lr": PEAK / 2, "weight_decay": case.weight_decay / 2},
    ]
    settings = {"lr": PEAK, "weight_decay": case.weight_decay, "decay": case.rule, **own}
    return cls(groups, **settings, **arguments), params


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_against_the_formula(case: MapCase, base: str, schedule: str) -> None:
    if case.adam_only and BASES[base][0] is halflife.SGD:
        with pytest.raises(ValueError, match="needs the optimizer's preconditioner, and SGD"):
            ours(case, base)
        return
    lrs = SCHEDULES[schedule]
    gradients = cases.make_gradients()
    if case.id.startswith("cautious") and lrs[0] == 0.0:
        gradients, lrs = gradients[1:], lrs[1:]  # the oracle reads the direction off the update
    optimizer, params = ours(case, base)
    cases.train(optimizer, params, gradients, [lrs, [lr / 2 for lr in lrs]])
    for p, expected in zip(params, oracle(case, base, lrs, gradients), strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_every_map_differs_from_its_inner_rule(case: MapCase) -> None:
    optimizer, params = ours(case, "AdamW")
    plain = MapCase("plain", case.rule.rule, case.formula, case.weight_decay)  # type: ignore[arg-type]
    if case.amount == "independent" or case.weight_decay < 50:
        other, twins = ours(plain, "AdamW")
    gradients = cases.make_gradients()
    for o, ps in ((optimizer, params), (other, twins)):
        cases.train(o, ps, gradients, [LRS, [lr / 2 for lr in LRS]])
    difference = max((p - q).abs().max().item() for p, q in zip(params, twins, strict=True))
    assert difference > 1e-4


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
@pytest.mark.parametrize("way", ["state_dict", "deepcopy"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_resuming_equals_not_stopping(case: MapCase, way: str, dtype: torch.dtype) -> None:
    def make(params: list[Tensor]) -> Any:
        return AdamW(params, PEAK, weight_decay=case.weight_decay, decay=case.rule, eps=1e-3)

    params = cases.make_params(dtype=dtype)
    first = make(params)
    gradients = cases.make_gradients()
    half = STEPS // 2 + 1
    cases.train(first, params, gradients[:half], [LRS[:half]])
    if way == "deepcopy":
        second = copy.deepcopy(first)
        resumed = second.param_groups[0]["params"]
    else:
        resumed = [torch.nn.Parameter(p.detach().clone()) for p in params]
        second = make(resumed)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
    for o, ps in ((first, params), (second, resumed)):
        cases.train(o, ps, gradients[half:], [LRS[half:]])
    assert all(torch.equal(p, q) for p, q in zip(params, resumed, strict=True))


@pytest.mark.parametrize("implementation", ["fused", "for-loop"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_grad_scaler(case: MapCase, implementation: str) -> None:
    """A skipped step changes nothing, and maps see unscaled gradients."""
    flags = cases.IMPLEMENTATIONS[implementation]
    (scaled, params), (plain, twins) = (ours(case, "AdamW", **flags) for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    for t, row in enumerate(cases.make_gradients(6, missing=False)):
        for o in (scaled, plain):
            o.param_groups[0]["lr"], o.param_groups[1]["lr"] = LRS[t], LRS[t] / 2
        scaler.scale(torch.ones(1))
        scale = scaler.get_scale()
        cases.set_gradients(params, [g * scale for g in row if g is not None])
        before = [p.detach().clone() for p in params]
        if t == 2:
            params[1].grad[0] = float("inf")  # type: ignore[index]
        scaler.step(scaled)
        scaler.update()
        if t == 2:
            assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
        else:
            cases.set_gradients(twins, row)
            plain.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
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


def test_large_tensors_go_piece_by_piece_to_the_same_result() -> None:
    big, small = torch.randn(300, 1000), torch.randn(300, 1000)
    wholes = [p.clone() for p in (big, small)]
    for rule in (Cautious(), HuberDecay(delta=0.5), ProximalL1()):
        w = torch.nn.Parameter(big.clone())
        rows = torch.nn.Parameter(big.clone().t())  # not contiguous: taken whole
        results = []
        for p, g in ((w, small), (rows, small.t())):
            optimizer = AdamW([p], 0.1, weight_decay=0.5, decay=rule)
            p.grad = g.clone()
            optimizer.step()
            results.append(p.detach())
        torch.testing.assert_close(results[0], results[1].t())
    assert torch.equal(wholes[0], big)


def test_anchors_are_the_weights_when_the_group_is_added() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([w], lr=0.1, weight_decay=5.0, decay=Anchored())
    with torch.no_grad():
        w.fill_(3.0)  # a checkpoint loaded after the optimizer was built
    w.grad = torch.zeros(3)
    optimizer.step()
    assert torch.allclose(w, torch.full((3,), 2.0))  # half way back to 1


def test_given_anchors_in_low_precision() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    rule = Anchored(to=[torch.full((3,), 3.0)], dtype="bfloat16", device="cpu")
    optimizer = AdamW([w], lr=0.1, weight_decay=5.0, decay=rule)
    w.grad = torch.zeros(3)
    optimizer.step()
    assert torch.allclose(w, torch.full((3,), 2.0))
    assert optimizer.state[w]["anchor"].dtype == torch.bfloat16
    assert optimizer.state_dict()["param_groups"][0]["decay"]["to"] == "given"
    clone = AdamW([w], lr=0.1, weight_decay=5.0, decay=rule)
    clone.load_state_dict(optimizer.state_dict())
    assert clone.state[w]["anchor"].dtype == torch.bfloat16


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
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_scale_freeness(case: MapCase, scale: float) -> None:
    """With eps 0, power-of-two gradients scales change nothing bitwise, but for AdamP's family."""
    results = []
    for factor in (1.0, scale):
        params = cases.make_params()
        optimizer = AdamW(params, PEAK, weight_decay=case.weight_decay, decay=case.rule, eps=0.0)
        gradients = [[g * factor for g in row] for row in cases.make_gradients(8, missing=False)]
        cases.train(optimizer, params, gradients, [LRS])
        results.append(torch.cat([p.detach().flatten() for p in params]))
    scale_free = case.id not in ("preconditioned", "l1-preconditioned")
    assert torch.equal(*results) == scale_free


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "map of a map": (
        lambda: Cautious(Anchored()),
        "Cautious takes its strength from a rule that is",
    ),
    "map of proximal": (
        lambda: ProximalL1("proximal"),
        "ProximalL1 takes its strength from a rule",
    ),
    "map of L2": (lambda: HuberDecay("l2"), "HuberDecay takes its strength from a rule"),
    "metric": (
        lambda: ProximalL1(metric="adam"),
        "ProximalL1: metric='adam' must be 'identity' or",
    ),
    "delta": (lambda: HuberDecay(delta=0.0), "HuberDecay: delta=0.0 must be a positive number."),
    "target": (
        lambda: NormControl(target=-1.0),
        "NormControl: target=-1.0 must be a finite number",
    ),
    "power": (
        lambda: PowerDecay(power=math.nan),
        "PowerDecay: power=nan must be a positive, finite",
    ),
    "dtype": (lambda: Anchored(dtype="bf16"), "dtype='bf16': must be the name of a torch dtype"),
    "anchors": (
        lambda: AdamW(cases.make_params(), decay=Anchored(to=[torch.zeros(2)])),
        "to=1 tensors: Anchored needs one anchor of the same shape for each parameter",
    ),
    "fraction": (
        lambda: AdamW(cases.make_params(), lr=1.0, weight_decay=2.0, decay=Cautious()),
        "would remove the fraction 2 of each weight in a step",
    ),
    "direction": (
        lambda: halflife.decayed(torch.optim.Rprop)(cases.make_params(), decay=Cautious()),
        "needs the optimizer's direction, and Rprop declares none",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    run, message = BAD[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        run()
    assert message in str(caught.value)


MASKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "NAdam": (torch.optim.NAdam, {}),
    "RAdam": (torch.optim.RAdam, {}),
    "Adamax": (torch.optim.Adamax, {}),
    "Adagrad": (torch.optim.Adagrad, {}),
    "Adadelta": (torch.optim.Adadelta, {}),
    "RMSprop": (torch.optim.RMSprop, {}),
    "RMSprop-momentum": (torch.optim.RMSprop, {"momentum": 0.9}),
    "RMSprop-centered": (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
    **{
        base.__name__: (base, {})
        for _, base, _, _ in own_optimizers.OPTIMIZERS.values()
        if facts.fact("direction", base) is not None
    },
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


@pytest.mark.parametrize("base", [halflife.AdamW, halflife.SGD, halflife.Lion])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_large_tensor_is_cut_into_pieces_and_decays_as_small_ones(
    case: MapCase, base: Any
) -> None:
    """The same elements as one tensor and as three: pieces, and facts evaluated on them."""
    if (case.adam_only and base is not AdamW) or case.id in {"norm_control", "norm-tensor"}:
        pytest.skip("undefined, or by tensor")
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(90_000, generator=generator, dtype=torch.float64)
    gradients = [torch.randn(90_000, generator=generator, dtype=torch.float64) for _ in range(3)]
    kwargs = {"momentum": 0.9, "nesterov": True} if base is halflife.SGD else {}
    ends = []
    for sizes in ([90_000], [40_000, 40_000, 10_000]):
        params = [torch.nn.Parameter(part.clone()) for part in start.split(sizes)]
        optimizer = base(params, PEAK, weight_decay=case.weight_decay, decay=case.rule, **kwargs)
        for lr, gradient in zip((PEAK, PEAK / 2, PEAK / 5), gradients, strict=True):
            optimizer.param_groups[0]["lr"] = lr
            for p, part in zip(params, gradient.split(sizes), strict=True):
                p.grad = part.clone()
            optimizer.step()
        ends.append(torch.cat([p.detach() for p in params]))
    torch.testing.assert_close(*ends, rtol=1e-13, atol=1e-15)  # vector tails round differently
    assert not torch.equal(ends[0], start)
