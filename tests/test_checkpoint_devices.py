"""What a rule keeps lies where its steps read it, wherever a checkpoint or a user's tensor lay.

The other device is torch's meta one here: it has no values, and a state that stays behind is on the
CPU all the same. `tests/gpu/test_moving.py` is about the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

import cases
import halflife
from accelerator import DEVICE, has_all_kernels  # noqa: F401
from cases import MapCase, OptimizerCase, RuleCase
from halflife.rules import Anchored
from halflife.tensors import rounding

pytestmark = pytest.mark.usefixtures("has_all_kernels")

RULES: list[RuleCase | MapCase] = [*cases.RULES, *cases.MAPS]
ON_META: dict[str, Any] = {"foreach": True}  # nothing else has kernels there


def stepped(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()


def there(params: Sequence[torch.Tensor]) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.empty_like(p, device=DEVICE)) for p in params]


@pytest.mark.parametrize("case", cases.OPTIMIZERS, ids=lambda case: case.id)
def test_loaded_state_lies_beside_its_weights(case: OptimizerCase) -> None:
    """All of it that has elements; counts of steps are torch's to place."""
    left = []
    for rule in (r for r in RULES if not case.refuses(r.rule)):
        params = cases.make_params(dtype=torch.float32, shapes=case.shapes)
        optimizer = case.make(params, rule)
        stepped(optimizer)
        others = there(params)
        other = case.make(others, rule)
        other.load_state_dict(optimizer.state_dict())
        known = [(p, *item) for p in others for item in other.state[p].items() if p.dim()]
        left += [
            f"{rule.id}: {name}"
            for p, name, value in known
            if isinstance(value, torch.Tensor) and value.dim() and value.device != p.device
        ]
    assert not left


@pytest.mark.parametrize("named", [None, "cpu"])
@pytest.mark.parametrize("begun", [False, True], ids=["given", "loaded"])
def test_anchors_lie_beside_their_weights_unless_the_rule_names_a_place(
    named: str | None, begun: bool
) -> None:
    """Else every step would copy them there."""
    start = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    rule = Anchored(to=[torch.zeros(3), torch.zeros(3)], device=named)
    first = halflife.SGD(start, lr=0.1, weight_decay=0.5, decay=rule)
    stepped(first)
    params = there(start)
    optimizer = halflife.SGD(params, lr=0.1, weight_decay=0.5, decay=rule, **ON_META)
    if begun:
        optimizer.load_state_dict(first.state_dict())
    else:
        stepped(optimizer)
    anchors = [optimizer.state[p]["anchor"] for p in params]
    assert [a.device.type for a in anchors] == [named or DEVICE] * 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_graph_finds_the_count_of_its_steps_on_its_device(when: str) -> None:
    """A number on the host would be the same one at every replay, and so would the rounding."""

    def made(params: list[Any], **flags: Any) -> Any:
        return halflife.AdamW(params, lr=0.1, weight_decay=0.5, decay="cautious", **flags)

    start = [torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))]
    first = made(start, foreach=True)
    stepped(first)
    optimizer = made(there(start), **ON_META, capturable=when == "before")
    stored = first.state_dict()
    stored["param_groups"][0]["capturable"] = when == "before"
    optimizer.load_state_dict(stored)
    group = optimizer.param_groups[0]
    if when == "after":
        assert group[rounding.STEP_KEY].is_cpu
        group["capturable"] = True
        for state in optimizer.state.values():
            state["step"] = state["step"].to(DEVICE)
        stepped(optimizer)
    assert group[rounding.STEP_KEY].device.type == DEVICE
    assert group[rounding.OWED_KEY].is_cpu  # what is owed is counted on the host
