"""What a model says itself of its parameters' decay, as published code says it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import halflife
from halflife.diagnostics import audit
from halflife.groups import ParamGroups, param_groups
from halflife.groups.policies import POLICIES


class Net(nn.Module):
    """Matrices under names that the marks below speak of."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.ones(3, 4))
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"attn": nn.Linear(4, 4), "cpb_mlp": nn.Linear(4, 4)}) for _ in range(2)
        )
        self.head = nn.Linear(4, 4)


MATRICES = {name for name, p in Net().named_parameters() if p.dim() > 1}


def decayed(groups: ParamGroups) -> set[str]:
    return {d.name for d in groups.decisions if d.decays}


def as_method(listed: Any) -> Any:
    return lambda self: listed


def as_property(listed: Any) -> Any:
    return property(lambda self: listed)


def as_attribute(listed: Any) -> Any:
    return listed


FORMS = {"method": as_method, "property": as_property, "attribute": as_attribute}
LISTED: dict[str, tuple[Any, set[str]]] = {
    "names": ({"query", "absent"}, {"query"}),
    "a list": (["query", "head.weight"], {"query", "head.weight"}),
    "a pattern": ({"blocks.*.attn.weight"}, {f"blocks.{i}.attn.weight" for i in range(2)}),
    "a star crosses dots": (("blocks*",), {n for n in MATRICES if n.startswith("blocks")}),
    "a class of signs": ({"blocks.[1-9].*"}, {n for n in MATRICES if n.startswith("blocks.1")}),
    "no part of a name": ({"head"}, set()),
    "one name": ("query", {"query"}),
    "nothing": (set(), set()),
    "a dict": ({"query": 0}, {"query"}),
    "all": (True, MATRICES),
    "none": (None, set()),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel], ids=["plain", "wrapped"])
@pytest.mark.parametrize(("listed", "exempt"), LISTED.values(), ids=LISTED.keys())
def test_no_weight_decay(
    form: Callable[[Any], Any],
    wrap: Callable[[nn.Module], nn.Module],
    listed: Any,
    exempt: set[str],
) -> None:
    cls = type("Marked", (Net,), {"no_weight_decay": form(listed)})
    assert decayed(param_groups(wrap(cls()))) == MATRICES - exempt
    inside = nn.ModuleDict({"backbone": cls(), "query": nn.Linear(2, 2, bias=False)})
    outer = {"query.weight"} | {f"backbone.{name}" for name in MATRICES - exempt}
    assert decayed(param_groups(wrap(inside))) == outer


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_keywords_are_parts_of_names(form: Callable[[Any], Any]) -> None:
    members = {"no_weight_decay_keywords": form({"cpb_mlp", "uer"})}
    groups = param_groups(type("Marked", (Net,), members)())
    assert decayed(groups) == {n for n in MATRICES if "cpb" not in n and n != "query"}
    (query,) = (d for d in groups.decisions if d.name == "query")
    assert query.reason == "listed by no_weight_decay_keywords()"


def test_mark_on_the_tensor() -> None:
    model = Net()
    model.query._no_weight_decay = True
    model.head.weight._no_weight_decay = False
    groups = param_groups(model)
    assert decayed(groups) == MATRICES - {"query"}
    assert groups.decisions[0].reason == "marked _no_weight_decay"
    assert decayed(param_groups(model, "all")) == {n for n, _ in model.named_parameters()}


class Mixer(nn.Module):
    """Mamba's own parameters, without its marks: a copy of the model has lost them."""

    def __init__(self) -> None:
        super().__init__()
        self.A_log, self.D = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(4, 2))
        self.in_proj = nn.Linear(4, 4, bias=False)


class BothWays(nn.Module):
    """Vision Mamba's names for its second direction."""

    def __init__(self) -> None:
        super().__init__()
        self.A_b_log, self.D_b = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(4, 2))


class S4(nn.Module):
    """As S4 registers what it is to train otherwise."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.log_A_real = nn.Parameter(torch.ones(4, 2))
        self.kernel = nn.Parameter(torch.ones(4, 2))
        self.log_dt = nn.Parameter(torch.ones(4))
        self.D = nn.Parameter(torch.ones(4))
        self.output = nn.Linear(4, 4)
        for p in (self.kernel, self.log_dt):
            p._optim = settings


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "all"])
def test_state_matrices_never_decay(policy: str) -> None:
    model = nn.ModuleList([Mixer(), S4({}), BothWays()])
    names = {"0.A_log", "0.D", "1.log_A_real", "2.A_b_log", "2.D_b"}
    assert not decayed(param_groups(copy.deepcopy(model), policy)) & names


def test_a_skip_connection_is_known_by_the_state_beside_it() -> None:
    model = nn.ModuleDict({"other": nn.ParameterDict({"D": torch.ones(4, 4)})})
    assert decayed(param_groups(model)) == {"other.D"}


def test_s4s_settings_become_those_of_a_group() -> None:
    settings = {"lr": 1e-3, "weight_decay": 0.0}
    model = S4(settings)
    groups = param_groups(model, lr=1e-2, weight_decay=0.1)
    assert decayed(groups) == {"output.weight"}
    (own,) = (group for group in groups if group["lr"] == 1e-3)
    assert {id(p) for p in own["params"]} == {id(model.kernel), id(model.log_dt)}
    assert own["weight_decay"] == 0.0
    (reason,) = {d.reason for d in groups.decisions if d.name in ("kernel", "log_dt")}
    assert reason == "marked _optim: lr=0.001, weight_decay=0.0"
    optimizer = halflife.AdamW(groups, weight_decay=0.1)
    assert sorted({g["peak_lr"] for g in optimizer.param_groups}) == [1e-3, 1e-2]
    assert model.kernel._optim == settings  # read only


def test_s4s_settings_may_ask_for_decay_and_overrides_win() -> None:
    model = S4({"weight_decay": 0.05, "lr": None})
    groups = param_groups(model, weight_decay=0.1)
    amounts = {d.name: groups[d.group]["weight_decay"] for d in groups.decisions}  # type: ignore[index]
    assert (amounts["kernel"], amounts["log_dt"], amounts["output.weight"]) == (0.05, 0.05, 0.1)
    groups = param_groups(model, overrides={"kernel": {"weight_decay": 0.3}})
    assert [g["weight_decay"] for g in groups if g["params"][0] is model.kernel] == [0.3]
    for policy, expected in (("all", None), ("none", 0.0)):
        groups = param_groups(S4({"weight_decay": 0.05, "lr": 1e-3}), policy)
        assert {g.get("weight_decay") for g in groups} == {expected}
        assert 1e-3 in {g.get("lr") for g in groups}


def test_settings_on_a_tensor_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^param_groups: the mark on 'kernel': weight_decay must"):
        param_groups(S4({"weight_decay": -1.0}))


MARKED: dict[str, Callable[[], nn.Module]] = {
    "a name": lambda: type("Marked", (Net,), {"no_weight_decay": {"query"}})(),
    "a keyword": lambda: type("Marked", (Net,), {"no_weight_decay_keywords": {"cpb"}})(),
    "a state": Mixer,
    "S4": lambda: S4({"weight_decay": 0.0, "lr": 1e-3}),
    "S4 with decay": lambda: S4({"weight_decay": 0.1}),
}


@pytest.mark.parametrize("build", MARKED.values(), ids=MARKED.keys())
def test_audit_reads_the_same_marks(build: Callable[[], nn.Module]) -> None:
    model = build()
    result = audit(model, torch.optim.AdamW(param_groups(model), lr=1e-3, weight_decay=0.1))
    assert not [f for f in result.findings if f.severity != "info"]
    marked = {d.name for d in param_groups(model).decisions if not d.decays}
    against = audit(model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))
    found = {n for f in against.findings if f.code.startswith("decayed") for n in f.parameters}
    assert found == marked
