"""Half-precision weights: what rounding does to a decay that is smaller than their spacing."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import halflife
from halflife import optim
from halflife.rules import Anchored, Cautious, HuberDecay, NormControl, PowerDecay
from halflife.tensors import pieces, rounding
from halflife.tensors.rounding import seed_at, stochastic

HALVES = [torch.bfloat16, torch.float16]
IMPLEMENTATIONS = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "open": {},
}
STEPS = 2000
LRS = [1e-4 * 0.5 * (1 + math.cos(math.pi * t / STEPS)) for t in range(STEPS)]
SIZE = 4096


# --- the rounding itself ------------------------------------------------------------------------


def neighbours(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The nearest numbers of a dtype at or below, and at or above."""
    near = x.to(dtype)
    down = torch.nextafter(near, torch.tensor(-math.inf, dtype=dtype)).double()
    up = torch.nextafter(near, torch.tensor(math.inf, dtype=dtype)).double()
    exact, near = x.double(), near.double()
    return torch.where(near <= exact, near, down), torch.where(near >= exact, near, up)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 2.0**-14, 1e-6])
def test_it_rounds_to_a_neighbour_with_the_right_probability(
    scale: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, generator=generator) * scale
    below, above = neighbours(x, dtype)
    wanted = torch.where(above > below, (x.double() - below) / (above - below), 0.0)
    draws = 4000
    rounded = stochastic(x.expand(draws, -1).contiguous(), dtype, seed_at(7, 1)).double()
    assert ((rounded == below) | (rounded == above)).all()
    ups = ((rounded > below) & (above > below)).double().mean(0)
    deviation = (ups - wanted) / (wanted * (1 - wanted) / draws).sqrt().clamp(min=1e-4)
    assert deviation.abs().max() < 5.0  # of 256 binomials
    assert deviation.square().mean().sqrt() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("dtype", HALVES)
def test_numbers_of_the_dtype_stay(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -2.5, math.inf, -math.inf, 2.0**-24, torch.finfo(dtype).max])
    x = torch.cat([x, torch.randn(1000)]).to(dtype)
    for step in range(20):
        assert torch.equal(stochastic(x.float(), dtype, seed_at(step)), x)
    assert stochastic(torch.tensor([math.nan]), dtype, 0).isnan().all()


def test_steps_tensors_and_elements_are_rounded_independently() -> None:
    x = torch.full((1 << 14,), 1 + 2.0**-8)  # half way between two numbers of bfloat16
    seeds = [seed_at(step, tensor) for step in (1, 2, 3, 4) for tensor in (0, 1)]
    assert len(set(seeds)) == len(seeds)
    bits = torch.stack([stochastic(x, torch.bfloat16, s).float() > 1 for s in seeds]).double() - 0.5
    bits = torch.cat([bits, bits.roll(1, 1), bits.roll(7, 1)])
    correlation = torch.corrcoef(bits) - torch.eye(len(bits), dtype=torch.float64)
    assert correlation.abs().max() < 5 / math.sqrt(len(x))


@pytest.mark.parametrize("dtype", HALVES)
def test_any_nan_stays_one(dtype: torch.dtype) -> None:
    """CUDA's has all bits set but the sign, and none may carry over into it."""
    patterns = [0x7FFFFFFF, -1, 0x7FC00000, 0x7F800001, -(1 << 16)]
    nans = torch.tensor(patterns, dtype=torch.int32).repeat(1000).view(torch.float32)
    assert stochastic(nans, dtype, 3).isnan().all()


@pytest.mark.parametrize("decay", ["decoupled", "cautious"])
def test_bits_do_not_depend_on_how_a_tensor_is_cut(decay: str, monkeypatch: Any) -> None:
    """The size of a piece is the number of threads' affair, in which replicas may differ."""
    left = []
    for size in (1 << 16, 3 << 15, 1 << 20):
        monkeypatch.setattr(pieces, "piece_size", lambda _, size=size: size)
        w = torch.nn.Parameter(torch.linspace(0.5, 1.0, 200_000).bfloat16())
        w.grad = torch.zeros_like(w)
        optim.SGD([w], lr=0.1, weight_decay=0.1, decay=decay).step()
        left.append(w.detach())
    assert torch.equal(left[0], left[1])
    assert torch.equal(left[0], left[2])


def test_a_part_of_a_huge_tensor_has_a_seed_that_an_int32_index_can_follow() -> None:
    seeds = [rounding.seed_of_part((1 << 30) - 1, start) for start in range(0, 1 << 32, 1 << 25)]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) + (1 << 25) <= (1 << 31) - 1


def test_the_seed_may_be_a_tensor() -> None:
    x = torch.randn(1000)
    step = torch.tensor(12345)
    from_tensor = stochastic(x, torch.bfloat16, seed_at(step, 3))
    assert torch.equal(from_tensor, stochastic(x, torch.bfloat16, seed_at(12345, 3)))


# --- decay in half precision --------------------------------------------------------------------


def initial(generator: torch.Generator) -> Tensor:
    """The weights before the first step, which a decay of 0 without gradients leaves for ever."""
    return ((1.0 + torch.rand(SIZE, generator=generator)) * 0.05).to(torch.bfloat16)


def train(
    cls: Any, dtype: torch.dtype, weight_decay: float, noise: float, scale: float = 1.0, **own: Any
) -> Tensor:
    """The weights after 2,000 steps under a cosine schedule."""
    generator = torch.Generator().manual_seed(0)
    w = torch.nn.Parameter(initial(generator).to(dtype))
    optimizer = cls([w], lr=LRS[0] * scale, weight_decay=weight_decay / scale, **own)
    w.grad = torch.zeros_like(w)
    for lr in LRS:
        optimizer.param_groups[0]["lr"] = lr * scale
        if noise:
            w.grad.copy_(noise * torch.randn(SIZE, generator=generator))
        optimizer.step()
    return w.detach().double()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("implementation", ["for-loop", "foreach", "fused"])
@pytest.mark.parametrize("cls", [optim.AdamW, optim.SGD])
def test_decay_alone_is_unbiased(cls: Any, implementation: str, dtype: torch.dtype) -> None:
    """Without gradients the weights are multiplied by the product of all 1 - d, in the mean."""
    if cls is optim.SGD and implementation == "fused":
        implementation = "open"  # asked for, it is refused: see below
    own = IMPLEMENTATIONS[implementation] | ({"eps": 1e-3} if cls is optim.AdamW else {})
    # The mean d is 2e-4: a twentieth of bfloat16's spacing, a third of float16's.
    left = train(cls, dtype, 4.0, noise=0.0, decay="decoupled", **own)
    start = initial(torch.Generator().manual_seed(0)).double()
    product = math.prod(1.0 - 4.0 * lr for lr in LRS)
    assert float((left / start).mean()) == pytest.approx(product, rel=4e-3)


@pytest.mark.parametrize(
    ("rule", "arguments"),
    [
        ("independent", {}),
        ("corrected", {}),
        ("proximal", {}),
        (Cautious(), {}),
        (HuberDecay(delta=0.04), {}),
        (NormControl(target=0.01), {}),
        (Anchored(to=0.02), {}),
        (PowerDecay(power=1.5), {}),
    ],
    ids=lambda x: getattr(x, "name", x) if x != {} else "",
)
def test_every_kind_of_rule_keeps_its_decay(rule: Any, arguments: dict[str, Any]) -> None:
    amount = 4e-4 if rule == "independent" else 4.0
    left = train(optim.AdamW, torch.bfloat16, amount, 0.0, decay=rule, **arguments)
    expected = train(optim.AdamW, torch.float64, amount, 0.0, decay=rule, **arguments)
    start = initial(torch.Generator().manual_seed(0)).double()
    lost = start - expected
    assert float((start - left).mean() / lost.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("cls", [optim.Lion, optim.Muon, optim.NAdam, optim.Adagrad, optim.Yogi])
def test_on_other_optimizers(cls: Any) -> None:
    shaped = halflife.decayed(cls)
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(16, 256, generator=generator).add_(1.0).mul_(0.05).bfloat16()
    w = torch.nn.Parameter(start.clone())
    optimizer = shaped([w], lr=1e-4, weight_decay=1.0, decay="decoupled")
    w.grad = torch.zeros_like(w)
    for lr in LRS:
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    product = math.prod(1.0 - lr for lr in LRS)
    assert float((w.detach() / start).double().mean()) == pytest.approx(product, rel=4e-3)


@functools.cache
def rms(ours: bool, dtype: torch.dtype, implementation: str, decay: float, scale: float) -> float:
    """Of the weights after 2,000 steps with noise for gradients."""
    cls = optim.AdamW if ours else torch.optim.AdamW
    left = train(cls, dtype, decay, 1.0, scale, **IMPLEMENTATIONS[implementation])
    return float(left.square().mean().sqrt())


@pytest.mark.parametrize(
    ("implementation", "scale"),
    [("for-loop", 0.1), ("foreach", 0.1), ("fused", 0.1), ("fused", 1.0)],
)
def test_share_of_the_decay_kept_under_noise(implementation: str, scale: float) -> None:
    """Beside updates, against float64; torch keeps none of it, or little in its fused kernel."""
    exact, half = torch.float64, torch.bfloat16

    def lost(ours: bool, dtype: torch.dtype, implementation: str) -> float:
        without, decayed = (rms(ours, dtype, implementation, d, scale) for d in (0.0, 5.0))
        return without - decayed

    wanted = lost(False, exact, "for-loop")
    assert lost(True, half, implementation) / wanted == pytest.approx(1.0, abs=0.03)
    assert lost(False, half, implementation) / wanted < 0.1


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_left_open_trains_half_precision(momentum: float, dtype: torch.dtype) -> None:
    """torch's fused SGD does not, on the CPU: all but the end of each tensor stays as it was."""
    ours, theirs = (torch.nn.Parameter(torch.ones(1000, dtype=dtype)) for _ in range(2))
    first = optim.SGD([ours], lr=0.1, momentum=momentum)
    second = torch.optim.SGD([theirs], lr=0.1, momentum=momentum)
    for _ in range(3):
        ours.grad, theirs.grad = torch.ones_like(ours), torch.ones_like(theirs)
        first.step()
        second.step()
    assert torch.equal(ours, theirs)
    assert float(ours.detach().max()) < 0.8


def test_a_fused_kernel_that_does_not_train_is_refused() -> None:
    from halflife.optim.sgd import _fused_moves

    w = torch.nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
    if _fused_moves(torch.bfloat16):  # another torch
        optim.SGD([w], lr=0.1, fused=True)
        return
    with pytest.raises(ValueError, match=r"fused=True of parameter group 0: .* leave fused out"):
        optim.SGD([w], lr=0.1, fused=True)


def test_a_refused_group_leaves_no_trace() -> None:
    """The groups after it decay as they would have without it."""
    from halflife.optim.sgd import _fused_moves

    weights = [torch.nn.Parameter(torch.ones(64)) for _ in range(2)]
    half = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    optimizer = optim.SGD(weights[:1], lr=0.1, momentum=0.9, weight_decay=0.1)
    if not _fused_moves(torch.bfloat16):  # another torch may take it
        with pytest.raises(ValueError, match="fused=True of parameter group 1"):
            optimizer.add_param_group({"params": [half], "fused": True, "decay": None})
    optimizer.add_param_group({"params": weights[1:]})
    assert [known.way for known in optimizer._known] == ["l2", "l2"]


@pytest.mark.parametrize("own", [{"foreach": False, "fused": False}, {"foreach": True}], ids=str)
def test_l2_joins_gradients_that_are_far_larger(own: dict[str, Any]) -> None:
    """g + wd w is g again in bfloat16 where wd w is below half the spacing of g."""
    w = torch.nn.Parameter(torch.full((1 << 20,), 0.5, dtype=torch.bfloat16))
    optimizer = optim.SGD([w], lr=1e-9, momentum=0.9, weight_decay=2e-4, decay="l2", **own)
    w.grad = torch.ones_like(w)
    optimizer.step()
    seen = optimizer.state[w]["momentum_buffer"].double()
    assert float(seen.mean()) - 1.0 == pytest.approx(1e-4, rel=0.03)


@pytest.mark.parametrize("dtype", HALVES)
def test_resuming_in_arrears_equals_not_stopping(dtype: torch.dtype) -> None:
    params = [torch.nn.Parameter(torch.randn(50).to(dtype)), torch.nn.Parameter(torch.randn(9))]
    optimizer = optim.AdamW(params, lr=1e-3, weight_decay=0.1)

    def go(optimizer: Any, params: list[Any], steps: range) -> None:
        for t in steps:
            optimizer.param_groups[0]["lr"] = 1e-3 * (1 - t / 100)
            for p in params:
                p.grad = torch.full_like(p, math.sin(t))
            if t % 3 == 0:
                params[0].grad = None
            optimizer.step()

    go(optimizer, params, range(17))
    saved, other = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(params)
    live = optimizer.state_dict()
    if dtype is torch.bfloat16:
        assert float(saved["param_groups"][0][rounding.OWED_KEY][0]) > 0.0
    go(optimizer, params, range(17, 60))
    for key in rounding.KEYS:  # what was saved does not go on counting
        assert torch.equal(live["param_groups"][0][key], saved["param_groups"][0][key])
    resumed = optim.AdamW(other, lr=1e-3, weight_decay=0.1)
    resumed.load_state_dict(saved)
    go(resumed, other, range(17, 60))
    for a, b in zip(params, other, strict=True):
        assert torch.equal(a, b)


def test_what_has_no_gradient_owes_nothing() -> None:
    params = [torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16)) for _ in range(2)]
    optimizer = optim.SGD(params, lr=1e-3, weight_decay=0.1, decay="decoupled")
    for _ in range(10):
        params[0].grad = torch.zeros_like(params[0])
        optimizer.step()
    owed = optimizer.param_groups[0][rounding.OWED_KEY]
    assert owed[1] == 0.0
    taken = -math.log(float(params[0].detach().double().mean()))
    assert float(owed[0]) < torch.finfo(torch.bfloat16).eps / 16
    assert float(owed[0]) + taken == pytest.approx(10 * -math.log1p(-1e-4), abs=4e-3)


def test_a_fraction_of_one_leaves_nothing() -> None:
    w = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    optimizer = optim.AdamW([w], lr=1e-3, weight_decay=1e12, decay="stable")
    w.grad = torch.full_like(w, 1e-3)
    with pytest.warns(UserWarning, match="clamped to 1"):
        optimizer.step()
    assert float(w.detach().abs().max()) <= 1.1e-3  # the step itself


def test_other_optimizers_keep_no_count() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    for optimizer in (optim.AdamW([w]), halflife.attach(torch.optim.SGD([w]), "decoupled")):
        assert not rounding.KEYS & optimizer.param_groups[0].keys()


@pytest.mark.parametrize("rule", ["decoupled", Cautious("constant")], ids=["pass", "map"])
def test_parts_of_a_large_tensor_are_rounded_independently(rule: Any) -> None:
    """However it is cut: each number is rounded up or down with bits of its own."""
    size = 1 << 18
    w = torch.nn.Parameter(torch.ones(size, dtype=torch.bfloat16))
    fraction = 2.0**-9  # half way down to the next number, 1 - 2^-8
    optimizer = optim.SGD([w], lr=1.0, weight_decay=fraction, decay=rule)
    w.grad = torch.zeros_like(w)
    optimizer.step()
    down = (w.detach() < 1.0).double()
    assert set(w.tolist()) == {1.0, 1.0 - 2.0**-8}
    assert float(down.mean()) == pytest.approx(0.5, abs=5 * 0.5 / size**0.5)
    for apart in (1 << n for n in range(18)):
        correlation = ((down - 0.5) * (down.roll(apart) - 0.5)).mean() * 4
        assert abs(float(correlation)) < 5 / size**0.5


@pytest.mark.parametrize("rule", ["decoupled", "l2", Cautious()], ids=str)
def test_a_fresh_group_has_what_a_checkpoint_fills(rule: Any) -> None:
    """torch.distributed.checkpoint loads into the entries it is given, and into no others."""
    w = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = optim.SGD([w], lr=0.1, weight_decay=0.1, decay=rule)
    fresh = optimizer.state_dict()["param_groups"][0].keys()
    w.grad = torch.zeros_like(w)
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0].keys() == fresh
