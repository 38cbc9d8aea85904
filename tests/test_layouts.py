"""Weights, gradients and state that lie in memory in different ways give the same results.

torch's fused kernels walk all of them together without a look at strides. Each case here trains
three steps, changes how something lies, and trains on. The reference is torch's for-loop, which
goes by strides.
"""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import PEAK
from halflife import Anchored, Cautious, Preconditioned, decayed
from halflife.mechanism.compiled import kernels

LAST = torch.channels_last
SHAPES = [(4, 3, 3, 3), (5, 4, 1, 1), (3, 1, 2, 2), (4,)]
STEPS, HALF = 6, 3
LRS = cases.schedule("cosine", total=STEPS)
GRADIENTS = cases.make_gradients(STEPS, shapes=SHAPES, missing=False)
BASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "Adam": (halflife.Adam, torch.optim.Adam, {}),
    "AdamW": (halflife.AdamW, torch.optim.AdamW, {}),
    "AMSGrad": (halflife.AdamW, torch.optim.AdamW, {"amsgrad": True}),
    "SGD": (halflife.SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "SGD-dampened": (halflife.SGD, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.4}),
    "Adagrad": (decayed(torch.optim.Adagrad), torch.optim.Adagrad, {}),
}
ASKED: dict[str, dict[str, Any]] = {
    "open": {},
    "fused": {"fused": True},
    "foreach": {"foreach": True},
}


def in_format(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=LAST) if tensor.dim() == 4 else tensor.clone()


def with_gaps(tensor: Tensor) -> Tensor:
    wide = torch.empty(*tensor.shape[:-1], 2 * tensor.shape[-1], dtype=tensor.dtype)
    return wide[..., ::2].copy_(tensor)


def transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


FORMS = {"channels_last": in_format, "with gaps": with_gaps, "transposed": transposed}


def make_params() -> list[Tensor]:
    return cases.make_params(shapes=SHAPES)


def step(optimizer: Any, params: list[Tensor], t: int, form: Callable[[Tensor], Tensor]) -> None:
    for p, g in zip(params, GRADIENTS[t], strict=True):
        p.grad = form(g.clone())  # type: ignore[union-attr]
    optimizer.param_groups[0]["lr"] = LRS[t]
    optimizer.step()


Change = Callable[[Any, list[Tensor], Callable[[Tensor], Tensor]], tuple[Any, list[Tensor]]]


def live(optimizer: Any, params: list[Tensor], form: Callable[[Tensor], Tensor]) -> Any:
    for p in params:
        p.data = form(p.data)
    return optimizer, params


def copied(optimizer: Any, params: list[Tensor], form: Callable[[Tensor], Tensor]) -> Any:
    optimizer = copy.deepcopy(optimizer)
    return live(optimizer, optimizer.param_groups[0]["params"], form)


def loaded(optimizer: Any, params: list[Tensor], form: Callable[[Tensor], Tensor]) -> Any:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    anew = [torch.nn.Parameter(form(p.detach().clone())) for p in params]
    group = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    other = type(optimizer)([{"params": anew, **group}])
    other.load_state_dict(torch.load(file))
    return other, anew


def state_replaced(optimizer: Any, params: list[Tensor], form: Callable[[Tensor], Tensor]) -> Any:
    for state in optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.dim():
                state[key] = form(value)
    return optimizer, params


def state_data_replaced(optimizer: Any, params: list[Tensor], form: Any) -> Any:
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor) and value.dim():
                value.data = form(value)
    return optimizer, params


CHANGES = [live, copied, loaded, state_replaced, state_data_replaced]


def run(
    make: Callable[..., Any],
    change: Change | None,
    form: str,
    gradients: str,
    back: bool,
    **more: Any,
) -> Tensor:
    params = make_params()
    optimizer = make(params, lr=PEAK, weight_decay=0.3, **more)
    follow = torch.clone if gradients == "contiguous" else FORMS[form]
    for t in range(HALF):
        step(optimizer, params, t, torch.clone)
    if change is not None:
        optimizer, params = change(optimizer, params, FORMS[form])
    for t in range(HALF, STEPS):
        if back and t == STEPS - 1:
            live(optimizer, params, torch.Tensor.contiguous)
        step(optimizer, params, t, follow)
    return torch.cat([p.detach().flatten() for p in params])


@functools.cache
def for_loop(base: str) -> Tensor:
    """torch's, of what lies as it is made."""
    _, native, settings = BASES[base]
    return run(native, None, "", "contiguous", False, foreach=False, fused=False, **settings)


@pytest.mark.parametrize("gradients", ["contiguous", "as the weights"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("base", BASES)
def test_steps_go_on_as_torchs_for_loop(
    base: str, asked: str, change: Change, form: str, gradients: str
) -> None:
    ours, _, settings = BASES[base]
    if ours is BASES["Adagrad"][0]:
        settings = settings | {"decay": "l2"}
    found = run(ours, change, form, gradients, True, **settings, **ASKED[asked])
    torch.testing.assert_close(found, for_loop(base), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("rule", [Cautious(), Anchored(), Preconditioned()], ids=lambda r: r.name)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("implementation", ["open", "compiled"])
def test_maps_too(
    rule: Any, change: Change, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "BACKEND", "eager")
    monkeypatch.setattr("halflife.mechanism.compiled.calls.SMALL", 0)  # walk them as they lie
    expected = run(
        halflife.AdamW, None, "transposed", "", False, decay=rule, foreach=False, fused=False
    )
    more = {} if implementation == "open" else {"implementation": "compiled"}
    found = run(halflife.AdamW, change, "channels_last", "", True, decay=rule, **more)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_first_gradient_of_another_layout_starts_the_momentum_so() -> None:
    """torch clones it; the buffer lies otherwise than the weight from then on."""
    results = []
    for make in (torch.optim.SGD, halflife.SGD):
        params = make_params()
        optimizer = make(params, lr=PEAK, momentum=0.9)
        for t in range(STEPS):
            step(optimizer, params, t, transposed if t == 0 else torch.clone)
        results.append(torch.cat([p.detach().flatten() for p in params]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-13)


def test_the_state_is_laid_once_and_the_kernel_stays() -> None:
    params = make_params()
    ours = halflife.AdamW(params, lr=PEAK)
    step(ours, params, 0, torch.clone)
    live(ours, params, in_format)
    step(ours, params, 1, in_format)
    kept = [v for state in ours.state.values() for v in state.values()]
    assert ours._known_at(0).layout == "dense"
    assert ours._fits(ours._known_at(0), ours.param_groups[0])
    for p in params:
        assert ours.state[p]["exp_avg"].stride() == p.stride()
    step(ours, params, 2, in_format)
    now = [v for state in ours.state.values() for v in state.values()]
    assert all(a is b for a, b in zip(kept, now, strict=True))


def test_asked_for_under_a_scaler_it_is_refused_by_name() -> None:
    p = torch.nn.Parameter(torch.randn(2, 3, 4, 4))
    ours = halflife.AdamW([p], lr=PEAK, fused=True)
    ours.grad_scale, ours.found_inf = torch.tensor(8.0), torch.tensor(0.0)  # type: ignore[attr-defined]
    p.grad = in_format(torch.randn(2, 3, 4, 4))
    before = p.detach().clone()
    with pytest.raises(ValueError, match="fused=True: torch's fused kernel cannot take this step"):
        ours.step()
    assert torch.equal(p, before)


class OwnParameter(torch.nn.Parameter):
    """A user's subclass, which is plain memory."""


@pytest.mark.parametrize("base", BASES)
def test_parameters_of_a_subclass(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, native, settings = BASES[base]
    more = {"decay": "l2"} if ours is BASES["Adagrad"][0] else {}
    expected = run(native, None, "channels_last", "", False, foreach=False, fused=False, **settings)
    own = [OwnParameter(p.detach()) for p in make_params()]
    monkeypatch.setitem(globals(), "make_params", lambda: own)
    found = run(ours, live, "channels_last", "contiguous", True, fused=True, **settings, **more)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


# torch itself uses what it deprecates, when its compiler is imported.
@pytest.mark.slow
@pytest.mark.parametrize("form", [in_format, torch.clone])
@pytest.mark.parametrize("gradients", [in_format, torch.clone])
@pytest.mark.parametrize("base", BASES)
def test_the_fused_kernel_in_a_graph(base: str, gradients: Any, form: Any) -> None:
    """A graph mends nothing: where they lie otherwise, it is made of the other implementation."""
    torch._dynamo.reset()
    ours, _, settings = BASES[base]
    more = {"decay": "l2"} if ours is BASES["Adagrad"][0] else {}
    results = []
    for compiles in (False, True):
        params = make_params()
        optimizer = ours(params, lr=PEAK, weight_decay=0.3, fused=True, **settings, **more)
        for t in range(HALF):
            step(optimizer, params, t, torch.clone)
        live(optimizer, params, form)
        if compiles:
            optimizer.step = torch.compile(optimizer.step, backend="eager")
        for t in range(HALF, STEPS):
            step(optimizer, params, t, gradients)
        results.append(torch.cat([p.detach().flatten() for p in params]))
    # In a graph torch computes Adam's bias corrections in float32; misread memory is 1e-2 off.
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)
