"""The default rules are torch's own optimizers: bit for bit, state included, errors included."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import pytest
import torch
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

import cases
import halflife

TWINS = {
    torch.optim.SGD: halflife.SGD,
    torch.optim.Adam: halflife.Adam,
    torch.optim.AdamW: halflife.AdamW,
}
INFOS = [info for info in optim_db if info.optim_cls in TWINS]
INPUTS = [
    pytest.param(info.optim_cls, given.kwargs, id=f"{info.optim_cls.__name__}-{given.desc}")
    for info in INFOS
    for given in info.optim_inputs_func(device="cpu")
]
IMPLEMENTATIONS = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def test_the_database_covers_the_twins() -> None:
    assert {info.optim_cls for info in INFOS} == set(TWINS)
    assert len(INPUTS) >= 19


def models(dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return cases.make_params(dtype=dtype), cases.make_params(dtype=dtype)


def assert_same(ours: Any, theirs: Any, a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    for p, q in zip(a, b, strict=True):
        assert torch.equal(p, q)
        assert ours.state[p].keys() == theirs.state[q].keys()
        for key, value in theirs.state[q].items():
            assert value is None or torch.equal(ours.state[p][key], value), key
            assert value is None or ours.state[p][key].dtype == value.dtype, key


def take_steps(optimizer: Any, params: list[torch.Tensor], schedule: str, steps: int = 8) -> None:
    tensor_lr = isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)
    missing = not (optimizer.param_groups[0].get("momentum") and optimizer.defaults["fused"])
    base = [float(group["lr"]) for group in optimizer.param_groups]
    for t, row in enumerate(cases.make_gradients(steps, missing=missing)):
        cases.set_gradients(params, row)
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            value = lr if schedule == "constant" else lr * 0.5 * (1 + math.cos(math.pi * t / 6))
            if tensor_lr:
                group["lr"].fill_(value)
            else:
                group["lr"] = value
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("torch_class", "kwargs"), INPUTS)
def test_bitwise_equal(
    torch_class: type, kwargs: dict[str, Any], implementation: str, schedule: str, dtype: Any
) -> None:
    kwargs = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
    if dtype is torch.bfloat16:
        kwargs["weight_decay"] = 0.0  # torch's is lost in rounding, ours is not
        if implementation == "fused" and torch_class is torch.optim.SGD:
            return  # torch's does not train there; ours refuses, which test_rounding.py tests
    if isinstance(kwargs.get("lr"), torch.Tensor) and implementation == "foreach":
        # Both raise or both run; torch decides. SGD runs, Adam refuses without capturable.
        assert torch_class is torch.optim.SGD
    a, b = models(dtype)
    theirs_kwargs = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
    ours = TWINS[torch_class](a, **kwargs, **IMPLEMENTATIONS[implementation])
    theirs = torch_class(b, **theirs_kwargs, **IMPLEMENTATIONS[implementation])
    take_steps(ours, a, schedule)
    take_steps(theirs, b, schedule)
    assert_same(ours, theirs, a, b)


@pytest.mark.parametrize(("torch_class", "kwargs"), INPUTS)
def test_left_open_it_is_the_fused_implementation(
    torch_class: type, kwargs: dict[str, Any]
) -> None:
    a, b = models(torch.float32)
    ours, theirs = TWINS[torch_class](a, **kwargs), torch_class(b, **kwargs, fused=True)
    for optimizer, params in ((ours, a), (theirs, b)):
        for row in cases.make_gradients(4, missing=False):
            cases.set_gradients(params, row)
            optimizer.step()
    assert_same(ours, theirs, a, b)
    assert ours.param_groups[0]["fused"] is None  # the choice is made anew at each step


def test_left_open_it_falls_back_where_torch_has_no_fused_kernel() -> None:
    w = torch.nn.Parameter(torch.randn(3, dtype=torch.complex64))
    twin = torch.nn.Parameter(w.detach().clone())
    ours, theirs = halflife.AdamW([w]), torch.optim.AdamW([twin])
    w.grad = torch.ones_like(w)
    twin.grad = torch.ones_like(w)
    ours.step()
    theirs.step()
    assert torch.equal(w, twin)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_left_open_takes_sparse_and_late_gradients(momentum: float) -> None:
    """What torch's default SGD can do, ours can: its fused kernel could do neither."""
    results = []
    for cls in (halflife.SGD, torch.optim.SGD):
        torch.manual_seed(0)
        table = torch.nn.Embedding(5, 3, sparse=True)
        late = torch.nn.Parameter(torch.ones(3))
        optimizer = cls([table.weight, late], lr=0.1, momentum=momentum)
        for t in range(3):
            optimizer.zero_grad()
            loss = table(torch.tensor([t, 1])).sum() + (late.sum() if t else 0.0)
            loss.backward()
            optimizer.step()
        results.append((table.weight.detach(), late.detach()))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dampening", [0.0, 0.3])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_left_open_takes_a_dense_gradient_that_comes_late(
    nesterov: bool, dampening: float
) -> None:
    """torch's fused kernel begins all buffers or none, and with dampening wrongly."""
    if nesterov and dampening:
        pytest.skip("torch refuses the two together")
    settings = {"momentum": 0.9, "dampening": dampening, "nesterov": nesterov}
    params, twins = (
        [torch.nn.Parameter(torch.ones(n, dtype=torch.float64)) for n in (3, 2, 4)] for _ in "ab"
    )
    ours, theirs = halflife.SGD(params, 0.1, **settings), torch.optim.SGD(twins, 0.1, **settings)
    for t, lr in enumerate((0.1, 0.1, 0.05, 0.02)):
        for n, (p, q) in enumerate(zip(params, twins, strict=True)):
            p.grad = torch.full_like(p, 1.0 + t) if t >= n else None
            q.grad = None if p.grad is None else p.grad.clone()
        ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = lr
        ours.step()
        theirs.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-14, atol=0)


STRIDES = {
    "gaps": (lambda v: torch.stack([v, v], -1)[..., 0], lambda g: g),
    "gradient in another order": (lambda v: v, lambda g: g.t().contiguous().t()),
}


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("cls", list(TWINS), ids=lambda c: c.__name__)
def test_left_open_it_takes_any_strides(cls: type, strides: str) -> None:
    """torch's default does; its fused kernel, asked for, silently writes the wrong elements."""
    lay_weights, lay_gradients = STRIDES[strides]
    results = []
    for make in (cls, TWINS[cls]):
        torch.manual_seed(0)
        w = torch.nn.Parameter(lay_weights(torch.randn(4, 3, dtype=torch.float64)))
        optimizer = make([w], lr=0.1)
        for _ in range(3):
            w.grad = lay_gradients(torch.randn(4, 3, dtype=torch.float64))
            optimizer.step()
        results.append(w.detach())
    torch.testing.assert_close(*results)


ERRORS = [
    pytest.param(info.optim_cls, error, id=f"{info.optim_cls.__name__}-{given.desc}")
    for info in INFOS
    for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32)
    for given in [error.optimizer_error_input]
]


@pytest.mark.parametrize(("torch_class", "error"), ERRORS)
def test_error_inputs_raise_the_same_errors(torch_class: type, error: Any) -> None:
    given = error.optimizer_error_input
    params = [torch.nn.Parameter(torch.randn(2, 2))] if given.params is None else given.params
    assert error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    if issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            TWINS[torch_class](params, **given.kwargs)
    else:
        with pytest.raises(error.error_type, match=error.error_regex):
            TWINS[torch_class](params, **given.kwargs)


@pytest.mark.parametrize("cls", list(TWINS), ids=lambda c: c.__name__)
@pytest.mark.parametrize("direction", ["torch to halflife", "halflife to torch"])
def test_checkpoints_load_both_ways(cls: type, direction: str) -> None:
    """Stop after 4 steps, load into the twin, go on: as if one optimizer had run throughout."""
    arguments: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "fused": True}
    if cls is torch.optim.SGD:
        arguments["momentum"] = 0.9
    first, second = (cls, TWINS[cls]) if direction == "torch to halflife" else (TWINS[cls], cls)
    a, b = models(torch.float32)
    straight = first(a, **arguments)
    stopped = first(b, **arguments)
    gradients = cases.make_gradients(8, missing=False)
    for optimizer, params in ((straight, a), (stopped, b)):
        for row in gradients[:4]:
            cases.set_gradients(params, row)
            optimizer.step()
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = second(b, **arguments)
    resumed.load_state_dict(torch.load(file))
    for optimizer, params in ((straight, a), (resumed, b)):
        for row in gradients[4:]:
            cases.set_gradients(params, row)
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_torch_checkpoint_keeps_the_constructors_rule_and_peak() -> None:
    a, b = models(torch.float32)
    theirs = torch.optim.AdamW(a, lr=0.5)
    ours = halflife.AdamW(b, lr=0.01, peak_lr=0.02, decay="independent", weight_decay=1e-3)
    with pytest.warns(UserWarning, match="the checkpoint brings weight_decay=0.01 and no rule"):
        ours.load_state_dict(theirs.state_dict())
    group = ours.param_groups[0]
    assert (group["decay"], group["peak_lr"]) == (halflife.Independent(), 0.02)
    assert group["lr"] == 0.5  # torch's own values load as torch loads them


def test_halflife_checkpoint_brings_its_own_rule_and_peak() -> None:
    a, b = models(torch.float32)
    saved = halflife.AdamW(a, lr=0.5, decay=halflife.Proximal("independent"), weight_decay=0.1)
    ours = halflife.AdamW(b, lr=0.01)
    ours.load_state_dict(saved.state_dict())
    group = ours.param_groups[0]
    assert group["decay"] == halflife.Proximal(halflife.Independent())
    assert (group["peak_lr"], group["weight_decay"]) == (0.5, 0.1)


def test_signature_and_defaults_are_torchs() -> None:
    import inspect

    for theirs, ours in TWINS.items():
        wanted = inspect.signature(theirs).parameters
        got = inspect.signature(ours).parameters
        own = {"decay", "peak_lr", "implementation", "unknown"}
        own |= {"decoupled_weight_decay"} - wanted.keys()  # Adam's since torch 2.7
        assert [n for n in got if n not in own] == list(wanted)
        assert all(got[n].default == p.default for n, p in wanted.items())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            positional = [
                p.default for n, p in list(wanted.items())[1:] if p.kind == p.POSITIONAL_OR_KEYWORD
            ]
            ours([torch.nn.Parameter(torch.ones(1))], *positional)
