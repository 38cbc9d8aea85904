"""Compiled steps beside steps that are not; the fixtures are in conftest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import cases
from cases import PEAK
from oracles import MAP_BASES

COMPILED = {"implementation": "compiled"}
LOOP = {"foreach": False, "fused": False}


def paired(base: str, rule: Any, decay: float, **settings: Any) -> list[tuple[Any, list[Tensor]]]:
    """The same optimizer twice: compiled, and torch's for-loop."""
    both = []
    for choice in (COMPILED, LOOP):
        params = cases.make_params()
        case = MAP_BASES[base]
        arguments = {"lr": PEAK, "weight_decay": decay, "decay": rule, **case.arguments, **settings}
        both.append((case.cls(params, **arguments, **choice), params))
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


def steps_compile_once(cls: Any, **flags: Any) -> None:
    """Compiled once without state and once with it, and not again when the lr changes."""
    lrs, results = cases.schedule("cosine"), []
    for compiled in (False, True):
        params = cases.make_params(dtype=torch.float32)
        optimizer = cls(params, lr=torch.tensor(PEAK), **flags)
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        step = torch.compile(optimizer.step) if compiled else optimizer.step
        for t, row in enumerate(cases.make_gradients(5, missing=False)):
            cases.set_gradients(params, row)
            optimizer.param_groups[0]["lr"].fill_(lrs[t])
            step()
        results.append(params)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
