"""Overrides by name, the table, and bad input to param_groups."""

from __future__ import annotations

import copy
import io
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from halflife.groups import ParamGroups, param_groups


class Net(nn.Module):
    """Two layers, a normalization between them and a bare scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 5)


MATRICES = {"conv.weight", "head.weight"}
EVERYTHING = MATRICES | {"scale", "conv.bias", "norm.weight", "norm.bias", "head.bias"}


def decayed(groups: ParamGroups) -> set[str]:
    return {d.name for d in groups.decisions if d.decays}


def names_of(groups: ParamGroups, model: nn.Module) -> list[set[str]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return [{names[id(p)] for p in group["params"]} for group in groups]


def test_the_first_matching_pattern_wins() -> None:
    overrides = {"head.weight": {"lr": 1.0}, "head.*": {"lr": 2.0}, "*.bias": {"lr": 3.0}}
    model = Net()
    groups = param_groups(model, overrides=overrides)
    lrs = {
        n: g.get("lr")
        for g, names in zip(groups, names_of(groups, model), strict=True)
        for n in names
    }
    assert lrs["head.weight"] == 1.0
    assert lrs["head.bias"] == 2.0
    assert lrs["conv.bias"] == lrs["norm.bias"] == 3.0
    assert lrs["conv.weight"] is None


def test_overrides_change_decay_both_ways() -> None:
    overrides = {"conv.weight": {"weight_decay": 0.0}, "scale": {"weight_decay": 0.3}}
    groups = param_groups(Net(), overrides=overrides)
    assert decayed(groups) == (MATRICES | {"scale"}) - {"conv.weight"}
    reasons = {d.name: d.reason for d in groups.decisions}
    assert reasons["conv.weight"] == "override 'conv.weight': weight_decay=0.0"
    assert reasons["scale"] == "override 'scale': weight_decay=0.3"


def test_an_override_without_decay_keeps_the_policy_and_its_reason() -> None:
    groups = param_groups(Net(), overrides={"head.*": {"betas": (0.5, 0.9)}})
    assert decayed(groups) == MATRICES
    (bias,) = (d for d in groups.decisions if d.name == "head.bias")
    assert bias.reason == "bias of Linear; override 'head.*': betas=(0.5, 0.9)"
    assert bias.group is not None
    assert groups[bias.group]["weight_decay"] == 0.0
    assert groups[bias.group]["betas"] == (0.5, 0.9)


def test_equal_settings_share_a_group() -> None:
    overrides = {"conv.weight": {"weight_decay": 0.0}, "scale": {"weight_decay": 0.1}}
    assert len(param_groups(Net(), overrides=overrides, weight_decay=0.1)) == 2
    rate = torch.tensor(0.5)
    groups = param_groups(Net(), overrides={"conv.*": {"lr": rate}, "head.*": {"lr": rate}})
    assert [len(group["params"]) for group in groups if "lr" in group] == [2, 2]


def test_groups_and_their_indices_agree() -> None:
    model = Net()
    groups = param_groups(model, overrides={"head.*": {"lr": 0.5}, "conv.*": {"lr": 0.25}})
    for decision in groups.decisions:
        assert decision.group is not None
        assert decision.name in names_of(groups, model)[decision.group]


def test_inputs_are_not_changed() -> None:
    overrides = {"head.*": {"lr": 0.5}}
    before = copy.deepcopy(overrides)
    torch.optim.SGD(param_groups(Net(), overrides=overrides), lr=0.1)
    assert overrides == before


# The table


def test_totals_add_up() -> None:
    model = Net()
    lines = str(param_groups(model)).splitlines()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    decays = MATRICES
    rest = EVERYTHING - decays
    assert lines[-2] == f"decayed: {len(decays)} tensors, {sum(sizes[n] for n in decays)} elements"
    assert lines[-1] == f"not decayed: {len(rest)} tensors, {sum(sizes[n] for n in rest)} elements"
    assert len(lines) == 1 + len(EVERYTHING) + 2
    for name in EVERYTHING:
        (line,) = (line for line in lines if line.split()[2] == name)
        assert line.split()[1] == ("yes" if name in decays else "no")


def test_shapes_in_the_table() -> None:
    table = param_groups(Net()).table()
    assert re.search(r"yes +conv\.weight +4x1x3x3 ", table)
    assert re.search(r"no +scale +scalar ", table)


def test_large_counts_have_separators() -> None:
    table = param_groups(nn.Linear(100, 100, bias=False)).table()
    assert table.endswith("decayed: 1 tensor, 10,000 elements")


def test_deepcopy_and_save_keep_the_decisions() -> None:
    groups = param_groups(Net())
    buffer = io.BytesIO()
    torch.save(groups, buffer)
    buffer.seek(0)
    for clone in (copy.deepcopy(groups), torch.load(buffer, weights_only=False)):
        assert clone.decisions == groups.decisions
        assert [len(group["params"]) for group in clone] == [len(g["params"]) for g in groups]


# Bad input


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2))


BAD: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: param_groups(small(), "norm-and-bias-fre"),
        "param_groups: policy must be one of norm-and-bias-free, norm-bias-and-embedding-free, "
        "matrices, gpt2, embedding-free, olmo, muon, all, none, got 'norm-and-bias-fre'; "
        "the nearest is 'norm-and-bias-free'.",
    ),
    (
        lambda: param_groups(small(), overrides={"*.wieght": {"lr": 0.1}}),
        "param_groups: override '*.wieght' must match a parameter name, got no match among 2; "
        "the nearest names are '0.weight', '0.bias'.",
    ),
    (
        lambda: param_groups(small(), overrides={"0.*": {"lr": 0.1}, "0.bias": {"lr": 0.2}}),
        "param_groups: override '0.bias' must decide some parameter, got only ones that '0.*' has "
        "decided; put '0.bias' first.",
    ),
    (
        lambda: param_groups(small(), overrides={"0.*": {"params": []}}),
        "param_groups: override '0.*': settings must be options of the optimizer, got 'params'; "
        "choose parameters by the pattern.",
    ),
    (
        lambda: param_groups(small(), overrides={"0.*": {"weight_decay": -0.1}}),
        "param_groups: override '0.*': weight_decay must be a finite number >= 0, got -0.1; "
        "pass 0.0 for none.",
    ),
    (
        lambda: param_groups(small(), overrides={"0.*": {"weight_decay": None}}),
        "param_groups: override '0.*': weight_decay must be a finite number >= 0, got None; "
        "pass 0.0 for none.",
    ),
    (
        lambda: param_groups(small(), weight_decay=math.nan),
        "param_groups: weight_decay must be a finite number >= 0, got nan; pass 0.0 for none.",
    ),
    (
        lambda: param_groups(small(), lr=math.inf),
        "param_groups: lr must be a finite number >= 0, got inf; pass 0.0 for none.",
    ),
    (
        lambda: param_groups(small().requires_grad_(False)),
        "param_groups: model must have a parameter that requires a gradient, got 2 parameters "
        "without; call requires_grad_() on what is to be trained.",
    ),
    (
        lambda: param_groups(nn.Sequential(nn.LazyLinear(2))),
        "param_groups: parameter '0.weight' must be initialized, got UninitializedParameter; "
        "run one forward pass first.",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_values(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_bad_types() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got list; pass the"):
        param_groups([torch.zeros(1)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"override '\*' must be a mapping of settings, got 0\.1;"):
        param_groups(small(), overrides={"*": 0.1})  # type: ignore[dict-item]
