"""What is found by running a copy is found in any surroundings, and right for the rest of a run.

Large models are made under ``torch.device("meta")`` or with fake tensors. What a probe finds there
is remembered, so a probe that such a mode had taken would be wrong everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import halflife
from halflife.bases.native_decay import check_base, native_decay, native_kind, scales_with_lr
from halflife.diagnostics import audit, probe


@contextlib.contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS: dict[str, Any] = {
    "meta": lambda: torch.device("meta"),
    "default device": default_device,
    "fake": FakeTensorMode,
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "double": double_precision,
}


def found() -> dict[str, Any]:
    """All that is found by running; of classes made here, so that nothing is remembered of them."""

    class Momentum(torch.optim.SGD): ...

    class Late(torch.optim.ASGD): ...

    class Outside(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
            super().__init__(params, lr)
            self.amount = weight_decay
            for group in self.param_groups:
                del group["weight_decay"]

    class Switched(torch.optim.NAdam): ...

    def answers() -> dict[str, Any]:
        w = torch.nn.Parameter(torch.ones(2))
        switched, momentum = Switched([w], lr=0.1), Momentum([w], lr=0.1, momentum=0.9)
        with pytest.raises(ValueError, match="outside its parameter groups"):
            check_base(Outside)
        described = str(halflife.describe(Momentum([w], lr=0.1, weight_decay=0.1)))
        ours = halflife.AdamW([w], lr=0.1, weight_decay=halflife.HalfLife(steps=100))
        return {
            "class": native_decay(Switched).kind,
            "instance": (native_decay(momentum).kind, native_decay(momentum).rule),
            "way": native_kind(switched, switched.param_groups[0]),
            "scales": (scales_with_lr(Late), scales_with_lr(Momentum)),
            "described": described,
            "strength": ours.param_groups[0]["weight_decay"],
            "probed": str(probe(torch.optim.Adadelta)),
        }

    return {"inside": answers(), "again": answers}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_probes_run_outside_of_any_mode(name: str) -> None:
    expected = found()["inside"]
    with SURROUNDINGS[name]():
        inside = found()
    assert inside["inside"] == expected
    assert inside["again"]() == expected  # outside, and not poisoned
    assert expected["class"] == "l2"
    assert expected["way"] == "switch"
    assert expected["scales"] == (False, True)


def test_a_tracer_sees_no_probe() -> None:
    class Traced(torch.optim.RMSprop): ...

    def function(x: torch.Tensor) -> torch.Tensor:
        assert native_decay(Traced).kind == "l2"
        return x + 1.0

    graph = make_fx(function)(torch.ones(1)).graph
    assert [n.target for n in graph.nodes if n.op == "call_function"] == [torch.ops.aten.add.Tensor]


def test_what_could_not_be_run_is_not_remembered() -> None:
    class Starting(torch.optim.SGD):
        ready = False

        def step(self, closure: Any = None) -> Any:
            if not self.ready:
                raise RuntimeError("the device is busy")
            return super().step(closure)

    w = torch.nn.Parameter(torch.ones(2))
    instance = Starting([w], lr=0.1, momentum=0.9)
    assert native_decay(Starting).kind == native_decay(instance).kind == "unknown"
    assert "the device is busy" in native_decay(instance).reason
    assert scales_with_lr(Starting)  # trusted
    Starting.ready = True
    assert native_decay(Starting).kind == native_decay(instance).kind == "l2"


def test_an_lr_without_a_number() -> None:
    """On the meta device and of fake tensors there is none; the probe takes its own."""
    for mode in (torch.device("meta"), FakeTensorMode()):
        with mode:
            w = torch.nn.Parameter(torch.ones(2))
            optimizer = torch.optim.AdamW([w])
            optimizer.param_groups[0]["lr"] = torch.ones(())
            assert native_decay(optimizer).kind == "decoupled"
        assert native_decay(optimizer).kind == "decoupled"


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_audit_says_the_same_in_any_surroundings(name: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    groups = halflife.param_groups(model)
    optimizers = [
        halflife.AdamW(groups, lr=1e-3, weight_decay=0.1),
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1),
    ]
    expected = [str(audit(model, optimizer, steps=3000)) for optimizer in optimizers]
    with SURROUNDINGS[name]():
        assert [str(audit(model, optimizer, steps=3000)) for optimizer in optimizers] == expected


@pytest.mark.parametrize("mode", [lambda: torch.device("meta"), FakeTensorMode])
def test_a_model_without_values_is_audited(mode: Any) -> None:
    with mode():
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        inside = audit(model, optimizer, steps=3000)
    for found in (inside, audit(model, optimizer, steps=3000)):
        assert {finding.code for finding in found.findings} >= {"decayed-bias", "decayed-norm"}
