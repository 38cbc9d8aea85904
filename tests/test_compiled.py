"""``implementation="compiled"``: the whole step in one pass, every elementwise rule.

What the kernels compute is tested without a compiler, in float64: against the oracles of
`test_rules` and `test_maps`, and against torch's own implementations. That a compiler makes one
graph of it, which serves every schedule and shape, is tested with few rules.
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import cases
import halflife
import test_maps
import test_rules
from cases import OPTIMIZERS, PEAK, RULES, OptimizerCase, RuleCase
from halflife import (
    Anchored,
    Cautious,
    Decoupled,
    HuberDecay,
    NormControl,
    PowerDecay,
    Preconditioned,
    ProximalL1,
    ProximalNorm,
    Stable,
)
from halflife.mechanism.compiled import calls, kernels
from test_maps import BASES, MapCase

SCHEDULES = cases.schedules()
MAPS = [case for case in test_maps.CASES if case.rule.elementwise]
MAPPED = [
    pytest.param(case, base, id=f"{case.id}-{base}")
    for case in MAPS
    for base in BASES
    if not (case.adam_only and BASES[base][0] is halflife.SGD)
]
by_id = {"ids": lambda case: getattr(case, "id", None)}
COMPILED = {"implementation": "compiled"}


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels as they are written; and tensors of 6 elements count as large."""
    monkeypatch.setattr(
        kernels, "compiled", lambda kernel, rule, options, *_: kernel(rule, *options)
    )
    monkeypatch.setattr(calls, "SMALL", 6)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    kernels.compiled.cache_clear()
    yield
    torch._dynamo.reset()
    kernels.compiled.cache_clear()


# --- what a step computes ------------------------------------------------------------------------


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, **by_id)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_float64_oracle(rule: RuleCase, optimizer: OptimizerCase, schedule: str) -> None:
    lrs = [SCHEDULES[schedule], [lr / 2 for lr in SCHEDULES[schedule]]]
    ours = test_rules.run_ours(optimizer, rule, lrs, **COMPILED)
    expected = test_rules.run_reference(optimizer, rule, lrs)
    for p, weights in zip(ours, expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), weights, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("case", "base"), MAPPED)
def test_maps_against_the_formula(case: MapCase, base: str, schedule: str) -> None:
    lrs, gradients = SCHEDULES[schedule], cases.make_gradients()
    if case.id.startswith("cautious") and lrs[0] == 0.0:
        gradients, lrs = gradients[1:], lrs[1:]  # the oracle reads the direction off the update
    optimizer, params = test_maps.ours(case, base, **COMPILED)
    cases.train(optimizer, params, gradients, [lrs, [lr / 2 for lr in lrs]])
    for p, expected in zip(params, test_maps.oracle(case, base, lrs, gradients), strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-11, atol=1e-13)


def every(base: str) -> list[Any]:
    adam = BASES[base][0] is not halflife.SGD
    maps = [(c.rule, c.weight_decay) for c in MAPS if adam or not c.adam_only]
    return [(c.rule, c.weight_decay) for c in RULES] + maps


def paired(base: str, rule: Any, decay: float, **settings: Any) -> list[tuple[Any, list[Tensor]]]:
    """The same optimizer twice: compiled, and torch's for-loop."""
    cls, _, own = BASES[base]
    both = []
    for choice in (COMPILED, {"foreach": False, "fused": False}):
        params = cases.make_params()
        arguments = {"lr": PEAK, "weight_decay": decay, "decay": rule, **own, **settings}
        both.append((cls(params, **arguments, **choice), params))
    return both


def assert_same_state(ours: Any, theirs: Any) -> None:
    """Keys in torch's order, dtypes, and values; by the parameters' positions."""
    states = [o.state_dict()["state"] for o in (ours, theirs)]
    assert states[0].keys() == states[1].keys()
    for key, entries in states[0].items():
        assert list(entries) == list(states[1][key])
        for name, value in entries.items():
            expected = states[1][key][name]
            if isinstance(expected, Tensor):
                assert value.stride() == expected.stride()
                assert value.device == expected.device
                torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15)
            else:
                assert value == expected


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("base", BASES)
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
    for choice in (COMPILED, {"foreach": False, "fused": False}):
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
@pytest.mark.parametrize("base", ["AdamW", "momentum"])
def test_half_precision_keeps_a_small_decay(dtype: torch.dtype, base: str) -> None:
    """Decay far below the weights' spacing, no gradient: the mean weight decays all the same."""
    cls, _, own = BASES[base]
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
@pytest.mark.parametrize("base", BASES)
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
        native_class = BASES[base][1]
        twins = cases.make_params()
        native = native_class(twins, lr=PEAK, weight_decay=0.0, **BASES[base][2])
        for optimizer, tensors in ((ours, params), (native, twins)):
            cases.set_gradients(tensors, cases.make_gradients(1)[0])
            optimizer.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


# --- scalers, closures, checkpoints --------------------------------------------------------------


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("own_scaling", [False, True])
@pytest.mark.parametrize("base", ["AdamW", "nesterov"])
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
@pytest.mark.parametrize("base", ["AMSGrad", "nesterov"])
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
        other.load_state_dict(torch.load(file))
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
@pytest.mark.parametrize("base", ["AdamW", "AMSGrad", "momentum"])
def test_checkpoints_go_both_ways(
    base: str, implementation: dict[str, bool], theirs_first: bool
) -> None:
    """Half the steps in torch's optimizer and half compiled, in either order, are all of them."""
    cls, torch_class, own = BASES[base]
    rule = Decoupled() if base == "AdamW" else halflife.L2Regularization()
    settings = {"lr": PEAK, "weight_decay": 0.3, **own}

    def ours(params: list[Tensor]) -> Any:
        return cls(params, decay=rule, **settings, **COMPILED)

    def theirs(params: list[Tensor]) -> Any:
        return torch_class(params, **settings, **implementation)

    gradients = cases.make_gradients(6, missing=False)
    params, twins = cases.make_params(), cases.make_params()
    reference = torch_class(twins, **settings, foreach=False)
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


# --- what it refuses -----------------------------------------------------------------------------


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


# --- what is compiled ----------------------------------------------------------------------------

SHAPES = [(300, 100), (8, 5, 30, 30), (20_000,), (7, 3), (5,), (1,), (), (0, 3), (9, 1)]


def train_compiled(
    optimizer: Any, params: list[Tensor], counter: CompileCounterWithBackend
) -> list[int]:
    """A cosine schedule of lr, weight decay and momentum; the number of graphs after each step."""
    generator = torch.Generator().manual_seed(2)
    graphs = []
    for t, lr in enumerate(cases.schedule("cosine", total=6)):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, generator=generator)
            if i in (1, 3) and t % 2:
                p.grad = None
        group = optimizer.param_groups[0]
        group.update(lr=lr, weight_decay=0.5 - 0.01 * t)
        group.update({"betas": (0.9 - 0.01 * t, 0.99)} if "betas" in group else {"momentum": 0.9})
        optimizer.step()
        graphs.append(counter.frame_count)
    return graphs


def weights() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    params = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in SHAPES]
    image = params[1].detach().contiguous(memory_format=torch.channels_last)
    return [params[0], torch.nn.Parameter(image), *params[2:]]


COMPILER_CASES = [
    pytest.param(halflife.AdamW, Cautious(), {}, "eager", id="AdamW-cautious"),
    pytest.param(halflife.AdamW, Decoupled(), {}, "eager", id="AdamW-decoupled"),
    pytest.param(halflife.Adam, Preconditioned(), {"amsgrad": True}, "aot_eager", id="AMSGrad"),
    pytest.param(halflife.AdamW, PowerDecay(power=1.5), {}, "eager", id="AdamW-power"),
    pytest.param(halflife.SGD, Anchored(), {"momentum": 0.9, "nesterov": True}, "eager", id="SGD"),
    pytest.param(halflife.SGD, HuberDecay(delta=0.4), {}, "eager", id="plain-SGD"),
    pytest.param(halflife.AdamW, ProximalL1(), {}, "inductor", id="AdamW-l1-inductor"),
    pytest.param(halflife.SGD, Cautious(), {"momentum": 0.9}, "inductor", id="SGD-inductor"),
]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("cls", "rule", "own", "backend"), COMPILER_CASES)
def test_one_graph_for_every_step_and_shape(
    cls: Any, rule: Any, own: dict[str, Any], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lr, weight decay, momentum, step counts and sizes are; weights as without one."""
    counter = CompileCounterWithBackend(backend)
    monkeypatch.setattr(kernels, "BACKEND", counter)
    settings = {"lr": PEAK, "weight_decay": 0.5, "decay": rule, **own}
    params, twins = weights(), weights()
    graphs = train_compiled(cls(params, **settings, **COMPILED), params, counter)
    assert graphs == [1] * 6
    train_compiled(cls(twins, **settings, foreach=False, fused=False), twins, counter)
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("fresh_compiler")
def test_more_rules_than_torch_recompiles_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels share their code but not their compilations, whose number torch bounds."""
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(kernels, "BACKEND", counter)
    count = torch._dynamo.config.recompile_limit + 2
    for i in range(count):
        w = torch.nn.Parameter(torch.ones(3))
        optimizer = halflife.SGD([w], decay=HuberDecay(delta=1.0 + i), **COMPILED)
        w.grad = torch.ones(3)
        optimizer.step()
    assert counter.frame_count == count


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning")
def test_inside_a_compiled_step_it_is_that_one() -> None:
    """``torch.compile(optimizer.step)`` makes its own graph of torch's implementation."""
    results = []
    for compiles in (False, True):
        params = cases.make_params()
        lr = torch.tensor(PEAK, dtype=torch.float64)
        optimizer = halflife.AdamW(params, lr, decay="cautious", weight_decay=0.5, **COMPILED)
        step = torch.compile(optimizer.step, backend="eager") if compiles else optimizer.step
        for row in cases.make_gradients(2, missing=False):
            cases.set_gradients(params, row)
            step()
        results.append(params)
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@dataclass(frozen=True)
class WhereTheGradientAgrees(halflife.rules.DecayMap):
    """A user's map that reads gradients."""

    name = "where_the_gradient_agrees_compiled"
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
        cases.train(optimizer, params, cases.make_gradients(6), [SCHEDULES["cosine"]])
        runs.append(params)
    for others in runs[1:]:
        for p, q in zip(runs[0], others, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
