"""Where ``implementation=None`` is compiled: on accelerators that torch.compile has a backend for.

On a CPU that is said to be one, with the kernels as they are written. What is chosen there is held
to the figures of a GPU in `tests/test_benchmarks_choice.py`.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import PEAK
from halflife import versions
from halflife.mechanism.compiled import choice, kernels, optimizer
from oracles import MAP_BASES

ELEMENTWISE = [case for case in cases.MAPS if case.rule.elementwise]
CHOSEN = [case for case in ELEMENTWISE if "preconditioner" in case.rule.needs]
OTHERS = [case for case in ELEMENTWISE if case not in CHOSEN]
HALF = torch.bfloat16
NATIVE = {"implementation": "native"}


@pytest.fixture(autouse=True)
def available(monkeypatch: pytest.MonkeyPatch, uncompiled: None) -> None:
    monkeypatch.setattr(versions, "compiles_for", lambda device: True)
    choice.works.cache_clear()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The rules of the groups that took a compiled step."""
    rules: list[Any] = []
    step = optimizer._step

    def noted(owner: Any, group: dict[str, Any], *rest: Any) -> None:
        rules.append(group["decay"])
        step(owner, group, *rest)

    monkeypatch.setattr(optimizer, "_step", noted)
    return rules


def steps(made: Any, params: list[Tensor], count: int = 3, start: int = 0) -> None:
    lrs, rows = cases.schedule("cosine"), cases.make_gradients()
    for t in range(start, start + count):
        cases.set_gradients(params, rows[t])
        for group in made.param_groups:
            group["lr"] = lrs[t]
        made.step()


def adamw(dtype: torch.dtype = torch.float32, **arguments: Any) -> tuple[Any, list[Tensor]]:
    params = cases.make_params(dtype=dtype)
    return halflife.AdamW(params, PEAK, **{"weight_decay": 0.5, **arguments}), params


@pytest.mark.parametrize("case", CHOSEN, ids=lambda c: c.id)
def test_maps_in_the_bases_metric_are_and_equal_what_is_not(case: Any, taken: list[Any]) -> None:
    found = []
    for how in ({}, NATIVE):
        params = cases.make_params()
        made = MAP_BASES["AdamW"].make(params, case, **how)
        steps(made, params)
        found.append(params)
        assert len(taken) == 3
    for p, q in zip(*found, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", ELEMENTWISE, ids=lambda c: c.id)
@pytest.mark.parametrize("base", ["AdamW", "SGD-momentum"])
def test_every_elementwise_map_of_half_precision_is(base: str, case: Any, taken: list[Any]) -> None:
    if MAP_BASES[base].refuses(case.rule):
        return
    params = cases.make_params(dtype=HALF)
    made = MAP_BASES[base].make(params, case)
    steps(made, params)
    assert len(taken) == 3


@pytest.mark.parametrize("case", OTHERS, ids=lambda c: c.id)
@pytest.mark.parametrize("base", ["AdamW", "SGD-momentum"])
def test_other_maps_are_not(base: str, case: Any, taken: list[Any]) -> None:
    params = cases.make_params(dtype=torch.float32)
    made = MAP_BASES[base].make(params, case)
    steps(made, params)
    assert not taken


@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("case", cases.RULES, ids=lambda c: c.id)
def test_nor_are_the_rules_of_one_number(case: Any, dtype: torch.dtype, taken: list[Any]) -> None:
    params = cases.make_params(dtype=dtype)
    steps(MAP_BASES["AdamW"].make(params, case), params)
    assert not taken


@pytest.mark.parametrize(
    "arguments",
    [
        {"decay": "norm_control"},
        {"decay": "cautious", "foreach": True},
        {"decay": "cautious", "fused": True},
        {"decay": "cautious", "fused": False},
        {"decay": "cautious", **NATIVE},
    ],
    ids=str,
)
def test_others_are_not(arguments: dict[str, Any], taken: list[Any]) -> None:
    made, params = adamw(HALF, **arguments)
    steps(made, params)
    assert not taken


@pytest.mark.parametrize("flag", ["capturable", "differentiable"])
def test_nor_what_a_graph_captures_or_autograd_follows(flag: str) -> None:
    made, _ = adamw(HALF, decay="cautious")
    known, group = made._known_at(0), made.param_groups[0]
    assert made._compiles_by_itself(known, group)
    assert not made._compiles_by_itself(known, {**group, flag: True})


def test_nor_is_anything_where_there_is_no_backend(
    taken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    made, params = adamw(HALF, decay="cautious")
    steps(made, params)
    assert not taken
    assert not versions.compiles_for(torch.device("cpu"))
    assert not versions.compiles_for(torch.device("meta"))


def test_nor_a_step_under_a_gradient_scaler(taken: list[Any]) -> None:
    """Its number says whether there is a step, and a compiled one would wait for it."""
    made, params = adamw(HALF, decay="cautious")
    made.found_inf = torch.zeros(())
    steps(made, params)
    assert not taken


def test_nor_complex_weights_or_sparse_gradients(taken: list[Any]) -> None:
    """Of rules that are compiled for weights and gradients of other kinds."""
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    w.grad = torch.ones_like(w)
    halflife.AdamW([w], PEAK, weight_decay=0.5, decay="preconditioned").step()
    for sparse in (True, False):
        assert not taken
        table = torch.nn.Embedding(4, 2, sparse=sparse, dtype=HALF)
        table(torch.tensor([1])).sum().backward()
        halflife.SGD(table.parameters(), PEAK, weight_decay=0.5, decay="huber").step()
    assert len(taken) == 1


def test_what_cannot_be_compiled_is_said_once_and_steps_all_the_same(
    taken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        def raising(*_: Any) -> None:
            raise RuntimeError("no compiler here\nand more")

        return raising

    monkeypatch.setattr(kernels, "compiled", broken)
    native, twins = adamw(decay="preconditioned", **NATIVE)
    steps(native, twins)
    made, params = adamw(decay="preconditioned")
    message = (
        r"halflife: Preconditioned\(rule=Decoupled\(\)\) could not be compiled for cpu in "
        r"torch.float32 .*\(RuntimeError: no compiler here\); implementation='native' says so"
    )
    with pytest.warns(UserWarning, match=message):
        steps(made, params, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(made, params, 2, start=1)
        again, others = adamw(decay="preconditioned")
        steps(again, others)
    assert not taken
    for p, q, r in zip(params, twins, others, strict=True):
        assert torch.equal(p, q)
        assert torch.equal(r, q)


def test_a_compiler_that_fails_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(kernels, "compiled", broken)
    made, params = adamw(HALF, decay="cautious")
    with pytest.warns(UserWarning, match=r"rounding \(NotImplementedError: *\); implementation="):
        steps(made, params, 1)


@pytest.mark.parametrize("change", ["rule", "scaler", "switch"])
def test_a_training_that_changes_goes_on(change: str, taken: list[Any]) -> None:
    """From compiled steps to torch's own, and back, as a training of torch's own alone."""
    found = []
    for how in ({}, NATIVE):
        made, params = adamw(torch.float64, decay="preconditioned", eps=1e-3, **how)
        steps(made, params, 3)
        group = made.param_groups[0]
        if change == "rule":
            group["decay"] = halflife.Decoupled()
        elif change == "scaler":
            made.found_inf = torch.zeros(())
        else:
            group["implementation"] = "native"
        steps(made, params, 3, start=3)
        group["decay"], group["implementation"] = (
            halflife.rules.Preconditioned(),
            how.get("implementation"),
        )
        vars(made).pop("found_inf", None)
        steps(made, params, 3, start=6)
        found.append(params)
    assert len(taken) == 6
    for p, q in zip(*found, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13)


def test_counts_of_steps_come_back_to_the_device() -> None:
    weight = torch.nn.Parameter(torch.empty(3, device="meta"))
    state = {weight: {"step": torch.tensor(4.0), "exp_avg": torch.empty(3, device="meta")}}
    choice.bring_back([weight], state)
    assert state[weight]["step"].device.type == "meta"
    on_host = torch.nn.Parameter(torch.zeros(3))
    state = {on_host: {"step": torch.tensor(4.0)}}
    choice.bring_back([on_host, torch.nn.Parameter(torch.zeros(1))], state)
    assert state[on_host]["step"].item() == 4.0
