"""What a step dispatches on an accelerator, where the launch of an operation is what it costs.

Counted on meta tensors, views included, beside torch's own step of the same optimizer. And what the
packing of small tensors changes in the weights, which is nothing: a CPU that is taken for an
accelerator trains as a CPU.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from benchmarks.operations import operations
from benchmarks.shapes import gpt2
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import accelerator
import cases
import halflife
from accelerator import DEVICE, Counting, has_all_kernels  # noqa: F401
from cases import PEAK, OptimizerCase
from halflife.rules import DecayMap

SMALL = [(8, 8), (8,), (1,), (3, 4)]
LARGE = (300, 300)  # more than 65,536 elements
RULES = [*cases.RULES, *cases.MAPS]
HALVES = [torch.bfloat16, torch.float16]
LARGE_ONES, SMALL_ONES = 4, 80
FIXED = 60  # operations that a rule may add to a step, whatever the model
SEEDS = 24
EACH, EACH_HALF = 8, 24  # and for each large tensor: of float32 under a map, or rounded
# The second moment of other optimizers than Adam is a formula over each tensor; AMSGrad's too.
MEAN = 24


def shapes(large: int, small: int) -> list[tuple[int, ...]]:
    return [LARGE] * large + [SMALL[i % len(SMALL)] for i in range(small)]


def implementations(case: OptimizerCase) -> list[dict[str, Any]]:
    """The multi-tensor ones that a class has; torch's Muon has none."""
    known = inspect.signature(case.cls.__init__).parameters
    # torch's ASGD reads a number of the device, unless it may be captured.
    found: list[dict[str, Any]] = (
        [{"foreach": True}] if "foreach" in known and case.id != "ASGD" else []
    )
    if "fused" in known and "amsgrad" not in case.arguments:
        found.append({"fused": True})
    if "capturable" in known:
        found.append({"foreach": True, "capturable": True})
    return found


QUICK = {"SGD-momentum-foreach", "AdamW-fused", "Lion-foreach"}
# What else a base has for its other settings is in its native step, whose count is taken off; the
# second moment that AMSGrad's and AMSBound's rates are of is another tensor.
NATIVE_ONLY = {
    "SGD-nesterov",
    "RMSprop-centered",
    "Padam-no-amsgrad",
    "AdamDelta-zero",
    "HeavyBall-plain",
}
# On the other bases: a number, a norm, a pass of its own; and maps with what they look at.
OF_ALL_KINDS = [
    rule
    for rule in RULES
    if rule.id in {"l2", "decoupled", "stable", "adaptive", "cautious", "preconditioned", "norm"}
]


def bases() -> list[Any]:
    """Each optimizer in two precisions; bfloat16 takes the way of float16, in fewer operations."""
    found = []
    for case in cases.OPTIMIZERS:
        if "maximize" in case.id or case.id in NATIVE_ONLY:  # the first negates all gradients
            continue
        ways = implementations(case)
        for how in ways:
            name = "-".join([case.id, *how])
            for dtype, way in ((torch.float32, ways[0]), (torch.float16, ways[-1])):
                # Of the slow ones, the first in float32 and the last in half precision.
                if name in QUICK or how is way:
                    marks = [] if name in QUICK else pytest.mark.slow
                    found.append(pytest.param(case, how, dtype, id=f"{name}-{dtype}", marks=marks))
    return found


@pytest.mark.usefixtures("has_all_kernels")
@pytest.mark.parametrize(("case", "how", "dtype"), bases())
def test_a_rule_adds_few_operations(
    case: OptimizerCase, how: dict[str, Any], dtype: torch.dtype
) -> None:
    """So many small tensors that one operation more for each would be too many."""
    if how.get("fused") and case.cls is halflife.SGD and dtype in HALVES:
        pytest.skip("our SGD refuses it: torch's fused one takes no half precision on the CPU")
    arguments = {**case.arguments, **how}
    sizes = shapes(LARGE_ONES, SMALL_ONES)
    native = operations(lambda ps: case.native(ps, lr=PEAK, **arguments), sizes, dtype)
    for rule in RULES if f"{case.id}-{'-'.join(how)}" in QUICK else OF_ALL_KINDS:
        if case.refuses(rule.rule):
            continue
        ours = operations(lambda ps, rule=rule: case.make(ps, rule, **how), sizes, dtype)
        each = (EACH if isinstance(rule.rule, DecayMap) else 0) + EACH_HALF * (dtype in HALVES)
        if "effective_rate" in rule.rule.needs and takes_a_pass(case):
            each += MEAN
        # A step that may be captured makes its seeds on the device.
        fixed = FIXED + (SEEDS if dtype in HALVES and how.get("capturable") else 0)
        # The small ones together are as one large one.
        assert ours - native <= fixed + (LARGE_ONES + 1) * each, rule.id


def takes_a_pass(case: OptimizerCase) -> bool:
    """Whether the effective rate is a formula over the second moments."""
    known = issubclass(case.native, (torch.optim.Adam, torch.optim.SGD, torch.optim.NAdam))
    return not known or bool(case.arguments.get("amsgrad"))


@pytest.mark.usefixtures("has_all_kernels")
def test_gpt2() -> None:
    """148 tensors, 50 of them large: the whole step, torch's with it."""
    found = {}
    for name in ("decoupled", "stable", "cautious", "preconditioned"):
        found[name] = operations(
            lambda ps, name=name: halflife.AdamW(ps, weight_decay=0.1, decay=name),
            gpt2(),
            torch.float32,
        )
    assert found["decoupled"] < 12
    assert found["stable"] < 60
    assert found["cautious"] < 60 + 8 * 50
    assert found["preconditioned"] < 60 + 8 * 50


# --- and changes nothing -------------------------------------------------------------------------


def train_as(case: OptimizerCase, rule: Any, dtype: torch.dtype) -> list[Tensor]:
    """Weights after some steps under a changing lr: two groups, a gradient missing now and then."""
    shapes = [*case.shapes, *case.shapes[::-1]]
    params = cases.make_params(dtype=dtype, shapes=shapes)
    half = {"params": params[1::2], "weight_decay": 0.5 * rule.weight_decay}
    groups = [{"params": params[::2]}, half]
    optimizer = case.make(groups, rule)
    lrs = cases.schedule("cosine")
    cases.train(optimizer, params, cases.make_gradients(shapes=shapes), [lrs, lrs])
    return params


WITH_EVERY_RULE = {"SGD-momentum", "AdamW", "AMSGrad"}
ON_EVERY_BASE = {"stable", "cautious", "l2"}
PACKED = [
    pytest.param(case, rule, id=f"{case.id}-{rule.id}")
    for case in cases.OPTIMIZERS
    for rule in RULES
    if (case.id in WITH_EVERY_RULE or rule.id in ON_EVERY_BASE) and not case.refuses(rule.rule)
]


@pytest.mark.parametrize(("case", "rule"), PACKED)
def test_small_tensors_together_train_as_one_by_one(
    case: OptimizerCase, rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train_as(case, rule, torch.float64)
    accelerator.cpu_is_one(monkeypatch)
    for p, q in zip(train_as(case, rule, torch.float64), expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_together_they_keep_their_decay_in_half_precision(
    rule: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By other random bits; in the mean over many weights, as in float32."""
    accelerator.cpu_is_one(monkeypatch)
    case = cases.optimizer("AdamW").only(eps=1e-3)
    means = []
    for kind in (torch.float32, dtype):
        params = [torch.nn.Parameter(torch.linspace(0.5, 1.0, n).to(kind)) for n in (999, 3001)]
        optimizer = case.make(params, rule, weight_decay=0.1 * rule.weight_decay)
        for lr in cases.schedule("cosine"):
            for p in params:
                p.grad = torch.zeros_like(p)
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
        means.append([float(p.detach().double().mean()) for p in params])
    start = [float(torch.linspace(0.5, 1.0, n).double().mean()) for n in (999, 3001)]
    for full, half, begun in zip(*means, start, strict=True):
        assert half - begun == pytest.approx(full - begun, rel=0.03, abs=2e-4)


# --- what looks at a step -------------------------------------------------------------------------


@pytest.mark.usefixtures("has_all_kernels")
def test_clipping_and_the_cheap_monitor_look_at_lists() -> None:
    params = [torch.nn.Parameter(torch.empty(s, device=DEVICE)) for s in shapes(4, 80)]
    optimizer = halflife.AdamW(params, weight_decay=0.1, decay="stable")
    for p in params:
        p.grad = torch.empty_like(p)
    optimizer.step()
    with Counting() as counting:
        halflife.clip_grad_norm_(optimizer, 1.0)
        optimizer.step()
    assert counting.operations.total() <= FIXED


@pytest.mark.parametrize("preset", ["economy", "standard"])
def test_a_sampled_step(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU in an accelerator's place: the monitor reads numbers."""
    from halflife.diagnostics import Monitor

    def records() -> tuple[Any, int]:
        params = cases.make_params(dtype=torch.float32, shapes=shapes(4, 80))
        optimizer = halflife.AdamW(params, lr=PEAK, weight_decay=0.1, eps=1e-3)
        monitor = Monitor(optimizer, every=1, preset=preset)
        generator = torch.Generator().manual_seed(0)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
        with Counting(everywhere=True) as counting:
            optimizer.step()
        return monitor.history, counting.operations.total()

    expected, _ = records()
    accelerator.cpu_is_one(monkeypatch)
    found, operations = records()
    for one, other in zip(found, expected, strict=True):
        numbers = {k: v for k, v in other.items() if isinstance(v, float)}
        assert {k: one[k] for k in numbers} == pytest.approx(numbers, rel=1e-4, abs=1e-3)
    assert operations <= 2 * FIXED + 4 * EACH


@pytest.mark.usefixtures("has_all_kernels")
@pytest.mark.parametrize(
    ("base", "rule"),
    [("SGD", "decoupled"), ("SGD", "l2"), ("AdamW", "l2"), ("AdamW", "cautious")],
)
def test_a_number_of_the_host_goes_to_the_device_before_it_meets_a_list(
    base: str, rule: str
) -> None:
    """Foreach kernels of CUDA take no scalar tensor of another device."""

    class Together(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func._schema.name in ("aten::_foreach_mul", "aten::_foreach_mul_"):
                (tensors, other), *_ = [args]
                if isinstance(other, Tensor):
                    assert other.device == tensors[0].device
            return func(*args, **(kwargs or {}))

    params = [torch.nn.Parameter(torch.empty(s, device=DEVICE)) for s in SMALL]
    cls = getattr(halflife, base)
    lr = torch.tensor(PEAK) if base == "SGD" else PEAK
    optimizer = cls(params, lr=lr, weight_decay=0.1, decay=rule, foreach=True)
    for p in params:
        p.grad = torch.empty_like(p)
    optimizer.param_groups[0]["weight_decay"] = torch.tensor(0.1)
    with Together():
        optimizer.step()
