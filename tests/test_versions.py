"""Older versions of torch, seen from this one: what they lack is taken away here."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch

import cases
import halflife
from halflife import versions
from halflife.bases.native_decay import native_decay
from halflife.mechanism import known
from halflife.mechanism.compiled import kernels


def run(code: str) -> str:
    """What a new interpreter prints; no warning may come up in it."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT_MUON = """
    import torch, torch.optim
    if hasattr(torch.optim, "Muon"):
        del torch.optim.Muon
    import halflife
"""


def test_muon_is_refused_by_name_where_torch_has_none() -> None:
    said = run(
        WITHOUT_MUON
        + """
    from halflife.algorithms import create
    w = torch.nn.Parameter(torch.ones(2, 2))
    makers = [halflife.Muon, lambda p: halflife.Muon(p, lr=0.1, decay="independent", peak_lr=0.1),
              lambda p: create("muon", p)]
    for make in makers:
        try:
            make([w])
        except RuntimeError as error:
            print(error)
    """
    )
    lines = said.splitlines()
    assert len(lines) == 3
    wanted = "Muon: torch.optim.Muon came with torch 2.9, and this is"
    assert all(line.startswith(wanted) for line in lines)
    assert all(line.endswith("update torch, or choose another optimizer.") for line in lines)


def test_everything_else_works_without_muon() -> None:
    run(
        WITHOUT_MUON
        + """
    from halflife.algorithms import algorithm, algorithms
    from halflife.diagnostics import audit, probe
    from halflife.units.convert import convert
    assert issubclass(halflife.Muon, halflife.Decayed)
    assert algorithm("muon").optimizer is halflife.Muon and "muon" in str(algorithms())
    assert "torch 2.9" in str(probe(halflife.Muon))
    assert halflife.param_groups(torch.nn.Linear(2, 2), "muon").split()
    assert probe(halflife.AdamW).behaviour == "decoupled"
    """
    )


def test_what_is_declared_of_adam_holds_of_adamw() -> None:
    """Before 2.7 it is no subclass."""
    from halflife.rules import facts

    for name in ("direction", "preconditioner", "effective_rate", "noise"):
        assert facts._FACTS[name][torch.optim.AdamW] is facts._FACTS[name][torch.optim.Adam]


def test_adam_has_its_switch_where_torch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["halflife.optim.adam"], "ADAM_ARGUMENTS", set())
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = halflife.Adam([w], lr=0.1, weight_decay=0.5, decoupled_weight_decay=True)
    w.grad = torch.zeros(2)
    optimizer.step()
    assert optimizer.param_groups[0]["decay"] == halflife.Decoupled()
    assert torch.equal(w, torch.full((2,), 0.95))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("way", ["decoupled", "l2"])
def test_l2_that_is_added_by_hand_is_scaled_with_the_gradients(
    way: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fused step divides by the scale what it finds, and a decoupled native step adds no L2."""
    monkeypatch.setattr(known, "native_kind", lambda *_: way)
    starts = cases.make_params(dtype=torch.float64)
    ours, plain = ([torch.nn.Parameter(p.detach().to(dtype)) for p in starts] for _ in range(2))
    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.7, "decay": "l2", "eps": 1e-3}
    scaled = halflife.AdamW(ours, fused=True, **settings)
    alone = halflife.AdamW(plain, fused=True, **settings)
    for lr, row in zip((0.1, 0.05, 0.02), cases.make_gradients(3, missing=False), strict=True):
        scaled.param_groups[0]["lr"] = alone.param_groups[0]["lr"] = lr
        cases.set_gradients(plain, row)
        cases.set_gradients(ours, [g * 1024.0 for g in row if g is not None])
        scaled.grad_scale, scaled.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
        scaled.step()
        alone.step()
    assert torch.equal(cases.weights(ours), cases.weights(plain))  # a power of two: every bit
    undecayed = halflife.AdamW([torch.nn.Parameter(p.detach()) for p in starts], weight_decay=0.0)
    assert not torch.equal(
        cases.weights(ours).double(), cases.weights(undecayed.param_groups[0]["params"])
    )


class EarlyAdagrad(torch.optim.Adagrad):
    """torch's Adagrad before 2.12: its state is made at construction, and nowhere else."""

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)
        for group in self.param_groups:
            for p in group["params"]:
                start = group["initial_accumulator_value"]
                filled = torch.full_like(p, complex(start, start) if p.is_complex() else start)
                self.state[p] = {"step": torch.tensor(0.0), "sum": filled}

    def step(self, closure: Any = None) -> Any:
        assert all(self.state.get(p) for group in self.param_groups for p in group["params"])
        return super().step(closure)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_state_that_is_made_at_construction_is_made_for_late_groups(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "TORCH", (2, 11))

    def weight() -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.ones(2, 3, dtype=dtype))

    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.5, "initial_accumulator_value": 0.25}
    first, late, other = weight(), weight(), weight()
    optimizer = halflife.decayed(EarlyAdagrad)([first], decay="independent", **settings)
    optimizer.add_param_group({"params": [late]})
    torch.optim.Adagrad([other], **settings)
    for p in (first, late):
        p.grad = torch.full_like(p, 2.0)
    optimizer.step()
    assert torch.equal(first, late)
    assert torch.equal(optimizer.state[first]["sum"], optimizer.state[late]["sum"])
    expected = (1 - 0.5) * 1 - 0.1 * 2 / (0.25 + 4) ** 0.5
    if dtype is torch.float32:
        torch.testing.assert_close(late.detach(), torch.full((2, 3), expected))


def test_its_decay_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "TORCH", (2, 11))
    w = torch.nn.Parameter(torch.ones(2))
    assert native_decay(EarlyAdagrad([w], weight_decay=0.1)).kind == "l2"


def test_empty_tensors_are_left_out_of_a_copy() -> None:
    targets = [torch.zeros(2), torch.zeros(0), torch.zeros(1)]
    versions.copy_each(targets, [torch.ones(2), torch.ones(0), torch.ones(1)])
    assert [t.tolist() for t in targets] == [[1.0, 1.0], [], [1.0]]
    versions.copy_each([torch.zeros(0)], [torch.ones(0)])
    versions.copy_each([], [])


def test_the_check_of_a_capture_has_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def check(self: Any) -> None:
        calls.append(self)

    monkeypatch.setattr(
        torch.optim.Optimizer, "_cuda_graph_capture_health_check", check, raising=False
    )
    monkeypatch.setattr(versions, "_HEALTH_CHECK", "_cuda_graph_capture_health_check")
    w = torch.nn.Parameter(torch.ones(2))
    w.grad = torch.ones(2)
    optimizer = halflife.Yogi([w])
    optimizer.step()
    assert calls[-1] is optimizer  # behind copies that were run to find its decay


def test_compiled_kernels_are_apart_in_every_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch.compile does not keep their recompilations apart, their code objects are two."""
    given: list[Any] = []

    def compile_(function: Any, *, dynamic: bool, fullgraph: bool, backend: str) -> Any:
        given.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    functions = [kernels.adam(None, False, maximize) for maximize in (True, False)]
    assert functions[0].__code__ is functions[1].__code__  # type: ignore[attr-defined]
    for function in functions:
        versions.compiled_apart(function, dynamic=True, fullgraph=True, backend="eager")
    assert given[0].__code__ is not given[1].__code__


@pytest.mark.parametrize(
    ("view", "dense"),
    [
        (lambda w: w, True),
        (lambda w: w.permute(2, 0, 1), True),
        (lambda w: w.unsqueeze(1).transpose(0, 1), True),
        (lambda w: w.unsqueeze(2).expand(4, 6, 1, 8), True),
        (lambda w: w.unsqueeze(2).expand(4, 6, 5, 8), False),
        (lambda w: w[:, ::2], False),
        (lambda w: w[1:], True),
        (lambda w: w[:, 1:], False),
        (lambda w: w.as_strided((3, 3), (1, 1)), False),  # overlapping
        (lambda w: w[0, 0, 0], True),
        (lambda w: w[:0], True),
    ],
)
def test_dense_is_what_torch_calls_so(view: Any, dense: bool) -> None:
    """torch lays a copy that keeps its strides as the original, if that is dense; else anew."""
    from halflife.tensors.fused import _is_dense

    w = view(torch.zeros(4, 6, 8))
    assert _is_dense(w) is dense
    if w.numel():
        kept = torch.empty_like(w, memory_format=torch.preserve_format)
        strides = [s for s, n in zip(w.stride(), w.shape, strict=True) if n > 1]
        laid = [s for s, n in zip(kept.stride(), kept.shape, strict=True) if n > 1]
        assert (laid == strides) is dense
