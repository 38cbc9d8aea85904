"""Maps in a training: checkpoints, scalers, large tensors, anchors; and what they refuse."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import MAPS, PEAK, STEPS, MapCase
from halflife import AdamW
from halflife.rules import Anchored, Cautious, HuberDecay, NormControl, PowerDecay, ProximalL1
from oracles import map_optimizer

LRS = cases.schedule("cosine")


@pytest.mark.parametrize("case", MAPS, ids=lambda c: c.id)
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


@pytest.mark.parametrize("eps", [1e-8, 0.0])
@pytest.mark.parametrize("implementation", ["fused", "for-loop"])
@pytest.mark.parametrize("case", MAPS, ids=lambda c: c.id)
def test_grad_scaler(case: MapCase, implementation: str, eps: float) -> None:
    """A skipped step changes nothing, also where a metric is 0; maps see unscaled gradients."""
    flags = cases.IMPLEMENTATIONS[implementation] | {"eps": eps}
    (scaled, params), (plain, twins) = (map_optimizer(case, "AdamW", **flags) for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    for t, row in enumerate(cases.make_gradients(6, missing=False)):
        for o in (scaled, plain):
            o.param_groups[0]["lr"], o.param_groups[1]["lr"] = LRS[t], LRS[t] / 2
        scaler.scale(torch.ones(1))
        scale = scaler.get_scale()
        cases.set_gradients(params, [g * scale for g in row if g is not None])
        before = [p.detach().clone() for p in params]
        if t < 3:
            params[2].grad = None  # its first gradient comes in a step that is skipped
        if t in (0, 3):
            params[1].grad[0] = float("inf")  # type: ignore[index]
        scaler.step(scaled)
        scaler.update()
        if t in (0, 3):
            assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
        else:
            cases.set_gradients(twins, [None if i == 2 and t < 3 else g for i, g in enumerate(row)])
            plain.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


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


@pytest.mark.parametrize("base", [halflife.AdamW, halflife.SGD, halflife.Lion])
@pytest.mark.parametrize("case", MAPS, ids=lambda case: case.id)
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


@pytest.mark.parametrize("way", ["constructed", "attached", "added"])
def test_anchors_are_the_weights_when_the_group_is_added(way: str) -> None:
    w = torch.nn.Parameter(torch.ones(3))
    if way == "attached":
        native = torch.optim.AdamW([w], lr=0.1, weight_decay=5.0)
        optimizer: Any = halflife.attach(native, Anchored())
    else:
        first = w if way == "constructed" else torch.nn.Parameter(torch.ones(1))
        optimizer = AdamW([first], lr=0.1, weight_decay=5.0, decay=Anchored())
        if way == "added":
            optimizer.add_param_group({"params": [w]})
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
    "inner rule": (
        lambda: halflife.Lion(cases.make_params(), decay=Cautious("stable")),
        "needs the optimizer's effective rate, and Lion declares none",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    run, message = BAD[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        run()
    assert message in str(caught.value)
