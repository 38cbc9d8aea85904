"""Whole trainings drawn by Hypothesis: what is the user's stays, and a stop leaves no trace."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import strategies
from halflife import decayed
from halflife.rules.step import Step
from strategies import (
    BASES,
    EVERY,
    HALF,
    Scenario,
    advance,
    examples,
    prepare,
    same,
    scenarios,
    take,
    values,
)

# --- 2: lr, weight_decay and all other entries are the user's -----------------------------------


class Fault(Exception):
    """What goes wrong in the middle of a step."""


@functools.cache
def broken(native: Any, when: str) -> Any:
    """The native class with a step that fails before or after it has done its work."""

    def step(self: Any, closure: Any = None) -> None:
        if when == "after":
            native.step(self)
        raise Fault

    return decayed(type(f"Broken{native.__name__}", (native,), {"step": step}))


def faulty(fault: str, s: Scenario, tensors: list[Tensor]) -> tuple[Any, Callable[[], Any]]:
    """An optimizer and a step of it that raises `Fault`, or does not where there is no fault."""
    if fault in ("native before", "native after"):
        cls = broken(BASES[s.base][1], fault.removeprefix("native "))
        s = dataclasses.replace(s, groups=tuple(dataclasses.replace(g, since=0) for g in s.groups))
        groups = [
            strategies.group_settings(s, i, tensors, bare=False) for i in range(len(s.groups))
        ]
        optimizer = cls(groups, lr=1e-3, **s.options, **s.flags)
    else:
        optimizer = strategies.start(s, tensors)
        for t in range(2):
            advance(s, optimizer, tensors, t, bare=False)

    def raises(*_: Any) -> Any:
        raise Fault

    if fault == "closure":
        return optimizer, lambda: take(optimizer, raises)
    if fault == "gradient hook":
        w = torch.ones(1, requires_grad=True)
        w.register_hook(raises)
        return optimizer, lambda: take(optimizer, lambda: (2 * w).backward())
    if fault == "pre-hook":
        optimizer.register_step_pre_hook(raises)
    if fault == "post-hook":
        optimizer.register_step_post_hook(raises)
    return optimizer, lambda: take(optimizer)


FAULTS = [
    "none", "closure", "gradient hook", "native before", "native after", "pre-hook", "post-hook",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_in_the_groups_and_gradients_is_restored(fault: str) -> None:
    @examples(20)
    @given(scenarios(dtypes=EVERY))
    def check(s: Scenario) -> None:
        tensors = strategies.params(s)
        optimizer, step = faulty(fault, s, tensors)
        before = [dict(group) for group in optimizer.param_groups]
        for index, p in enumerate(tensors):
            p.grad = strategies.gradient(s, 0, index)
        gradients = [p.grad for p in tensors]
        copies = [None if g is None else g.clone() for g in gradients]
        if fault == "none":
            step()
        else:
            with pytest.raises(Fault):
                step()
        for group, old in zip(optimizer.param_groups, before, strict=True):
            assert group.keys() == old.keys()
            assert all(group[key] is value for key, value in old.items())
        assert all(p.grad is g for p, g in zip(tensors, gradients, strict=True))
        assert all(
            g is None or same([g], [c]) for g, c in zip(gradients, copies, strict=True)
        )  # fmt: skip

    check()


REMOVING = (
    "decoupled", "independent", "constant", "corrected", "cautious", "anchored", "huber",
    "norm_control",
)  # fmt: skip


@examples(40)
@given(scenarios(rules=REMOVING, others=False), st.sampled_from([1.0, 2.0, 1e9]))
def test_a_refused_step_changes_nothing(s: Scenario, fraction: float) -> None:
    """The last group is at fault; those before it must not have moved."""
    tensors = strategies.params(s)
    optimizer = strategies.start(s, tensors)
    advance(s, optimizer, tensors, 0, bare=False)
    prepare(s, optimizer, tensors, 1, bare=False)
    last = optimizer.param_groups[-1]
    last["lr"] = last["peak_lr"]
    unit = last["decay"].rate(Step(last["lr"], last["peak_lr"], 1.0))
    last["weight_decay"] = fraction / unit * (1 + 1e-12)
    before, state = values(tensors), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="flips its sign"):
        take(optimizer)
    assert same(values(tensors), before)
    assert equal(optimizer.state_dict(), state)


def test_a_refused_step_in_half_precision_changes_nothing() -> None:
    tensors = [torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)) for _ in range(2)]
    groups = [{"params": [tensors[0]], "decay": "cautious"}, {"params": [tensors[1]]}]
    optimizer = BASES["SGD"][0](groups, lr=0.5, decay="decoupled", weight_decay=0.1)
    for p in tensors:
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.param_groups[1]["weight_decay"] = 2.0
    state = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="flips its sign"):
        optimizer.step()
    assert equal(optimizer.state_dict(), state)


def equal(a: Any, b: Any) -> bool:
    """Of plain data with tensors in it, their dtypes included."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and same([a], [b])
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


# --- 3: resuming equals not stopping -------------------------------------------------------------


def via_state_dict(s: Scenario, step: int, optimizer: Any, tensors: list[Tensor]) -> Any:
    """Through a file, read with torch.load's defaults, into a new optimizer on new weights."""
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "weights": values(tensors)}, file)
    file.seek(0)
    saved = torch.load(file)
    fresh = strategies.params(dataclasses.replace(s, seed=s.seed + 1))
    with torch.no_grad():
        for p, w in zip(fresh, saved["weights"], strict=True):
            p.copy_(w)
    resumed = strategies.start(s, fresh, before=step)
    resumed.load_state_dict(saved["optimizer"])
    return resumed, fresh


def via_pickle(s: Scenario, step: int, optimizer: Any, tensors: list[Tensor]) -> Any:
    return pickle.loads(pickle.dumps((optimizer, tensors)))


def via_deepcopy(s: Scenario, step: int, optimizer: Any, tensors: list[Tensor]) -> Any:
    return copy.deepcopy((optimizer, tensors))


def check_resume(s: Scenario, way: Any, stop: int) -> None:
    if s.dtype in HALF:  # a copy has no gaps, and torch rounds half precision otherwise then
        dense = ((x, y if y != "every other" else "contiguous") for x, y in s.tensors)
        s = dataclasses.replace(s, tensors=tuple(dense))
    tensors = strategies.params(s)
    optimizer = strategies.start(s, tensors)
    for t in range(stop):
        advance(s, optimizer, tensors, t, bare=False)
    resumed, others = way(s, stop, optimizer, tensors)
    for t in range(stop, len(s.multipliers)):
        advance(s, optimizer, tensors, t, bare=False)
        advance(s, resumed, others, t, bare=False)
    assert same(values(tensors), values(others))


@pytest.mark.parametrize("way", [via_state_dict, via_pickle, via_deepcopy])
@pytest.mark.parametrize("base", BASES)
def test_resuming_equals_not_stopping(base: str, way: Any) -> None:
    @examples(10)
    @given(scenarios(bases=(base,), rules=ACCEPTED[base], dtypes=EVERY), st.data())
    def check(s: Scenario, data: Any) -> None:
        check_resume(s, way, data.draw(st.integers(0, len(s.multipliers) - 1)))

    check()


ACCEPTED = {b: tuple(r for r in strategies.NAMES if strategies.accepts(b, r)) for b in BASES}


def test_nadam_resumes_in_float64() -> None:
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    gradients = torch.randn(3, 5, dtype=torch.float64)
    first = BASES["NAdam"][0]([w], lr=0.1)
    w.grad = gradients[0]
    first.step()
    twin = torch.nn.Parameter(w.detach().clone())
    second = BASES["NAdam"][0]([twin], lr=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for g in gradients[1:]:
        w.grad, twin.grad = g.clone(), g.clone()
        first.step()
        second.step()
    assert torch.equal(w, twin)


@examples(30)
@given(scenarios(dtypes=EVERY))
def test_a_loaded_state_is_the_saved_one(s: Scenario) -> None:
    """Every group entry and every state tensor, dtype included."""
    tensors = strategies.params(s)
    optimizer = strategies.start(s, tensors)
    for t in range(2):
        advance(s, optimizer, tensors, t, bare=False)
    resumed, _ = via_state_dict(s, 2, optimizer, tensors)
    assert equal(resumed.state_dict(), optimizer.state_dict())
    for group, other in zip(optimizer.param_groups, resumed.param_groups, strict=True):
        assert group["decay"] == other["decay"]
