"""torch.distributed.checkpoint: its initialisation moves nothing, its resume is bitwise."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import cases
from cases import RULES, OptimizerCase, RuleCase

by_id: Any = {"ids": lambda case: case.id}
CHOSEN = [cases.optimizer(name) for name in ("SGD-momentum", "AMSGrad", "AdamW")]
LRS = cases.schedule("cosine")
# DCP warns that it runs in a single process; that is what this test does.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed")


class Model(torch.nn.Module):
    def __init__(self, params: list[torch.Tensor]) -> None:
        super().__init__()
        for i, p in enumerate(params):
            self.register_parameter(f"p{i}", torch.nn.Parameter(p.detach().clone()))


def build(optimizer: OptimizerCase, rule: RuleCase, dtype: torch.dtype) -> tuple[Model, Any]:
    model = Model(cases.make_params(dtype=dtype))
    params = list(model.parameters())
    groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.01}]
    return model, optimizer.make(groups, rule)


def weights(model: Model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("optimizer", CHOSEN, **by_id)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_initialising_the_state_changes_no_weight(rule: RuleCase, optimizer: OptimizerCase) -> None:
    """DCP takes a step at lr 0 with zero gradients to make the state; decay must not join it."""
    model, ours = build(optimizer, rule, torch.float32)
    before = weights(model).clone()
    get_optimizer_state_dict(model, ours)
    assert torch.equal(weights(model), before)


# Flattening renames keys, and half precision has some of its own: both with both on one optimizer.
KINDS = [
    pytest.param(
        optimizer, dtype, flat, id=f"{optimizer.id}-{dtype}-{'flat' if flat else 'nested'}"
    )
    for optimizer in CHOSEN
    for dtype, flat in itertools.product((torch.float32, torch.bfloat16), (False, True))
    if optimizer.id == "AdamW" or flat == (dtype is torch.bfloat16)
]


@pytest.mark.parametrize(("optimizer", "dtype", "flat"), KINDS)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_resume(
    rule: RuleCase, optimizer: OptimizerCase, dtype: torch.dtype, flat: bool, tmp_path: Path
) -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    gradients = cases.make_gradients(10, missing=False)
    model, ours = build(optimizer, rule, dtype)
    cases.train(ours, list(model.parameters()), gradients[:5], [LRS[:5]] * 2)
    state = {
        "model": model.state_dict(),
        "optimizer": get_optimizer_state_dict(model, ours, options=options),
    }
    dcp.save(state, checkpoint_id=tmp_path)

    fresh_model, fresh = build(optimizer, rule, dtype)
    loaded = {
        "model": fresh_model.state_dict(),
        "optimizer": get_optimizer_state_dict(fresh_model, fresh, options=options),
    }
    dcp.load(loaded, checkpoint_id=tmp_path)
    fresh_model.load_state_dict(loaded["model"])
    set_optimizer_state_dict(fresh_model, fresh, loaded["optimizer"], options=options)
    assert fresh.param_groups[0]["decay"] == rule.rule

    for network, opt in ((model, ours), (fresh_model, fresh)):
        cases.train(opt, list(network.parameters()), gradients[5:], [LRS[5:]] * 2)
    assert torch.equal(weights(model), weights(fresh_model))
