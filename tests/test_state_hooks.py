"""Rules in what others save, and torch's state-dict hooks: as torch does, and plain data."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.optim import Optimizer

import halflife
from halflife import Anchored, Cautious, Independent, Proximal
from halflife.rules.contract import as_rule, rule_names

RULES = [as_rule(name) for name in rule_names() if not name.startswith("planted")]


def made(rule: Any = "independent", params: int = 2, **settings: Any) -> Any:
    torch.manual_seed(0)
    named = [(f"w{i}", torch.nn.Parameter(torch.randn(4))) for i in range(params)]
    known = {"lr": 0.02, "weight_decay": 0.3, "decay": rule, **settings}
    return halflife.AdamW(named, **known)


def step(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for i, p in enumerate(group["params"]):
            p.grad = torch.full_like(p, 0.5 + i)
    optimizer.step()


def through_a_file(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize(
    "rule", [*RULES, Proximal(Independent()), Cautious(Independent())], ids=repr
)
def test_groups_saved_by_hand_are_read_with_the_defaults(rule: Any) -> None:
    """As wrappers do, which keep the groups and not our state_dict."""
    optimizer = made(rule)
    saved = [{**g, "params": [0, 1]} for g in optimizer.param_groups]
    (group,) = through_a_file(saved)
    assert group["decay"] == optimizer.param_groups[0]["decay"]


class Sam(Optimizer):
    """As sharpness-aware minimisation is written in public code: it shares the groups."""

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base.param_groups, {})
        self.base = base
        self.param_groups = base.param_groups

    def step(self, closure: Any = None) -> None:
        self.base.step()


def test_a_wrapper_that_shares_the_groups_saves_and_loads() -> None:
    sam, other = Sam(made()), Sam(made("corrected"))
    step(sam)
    other.load_state_dict(through_a_file(sam.state_dict()))
    assert other.param_groups[0]["decay"] == Independent()


def test_a_rule_of_a_user_can_be_loaded_too() -> None:
    code = """
import io, torch
from dataclasses import dataclass
from halflife import DecayRule
@dataclass(frozen=True)
class Mine(DecayRule):
    name = "mine"
    strength: float = 0.5
    def rate(self, step): return self.strength * step.lr
file = io.BytesIO()
torch.save({"decay": Mine(0.25)}, file)
file.seek(0)
assert torch.load(file) == {"decay": Mine(0.25)}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- hooks ----------------------------------------------------------------------------------------


def test_a_state_dict_hook_sees_plain_data_and_may_return_another_dict() -> None:
    optimizer, seen = made(), []

    def hook(_: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        seen.append(state_dict["param_groups"][0]["decay"])
        return {**state_dict, "extra": 1}

    optimizer.register_state_dict_post_hook(hook)
    state = optimizer.state_dict()
    assert seen == [{"name": "independent"}]
    assert state["extra"] == 1
    assert through_a_file(state)["param_groups"][0]["decay"] == {"name": "independent"}
    assert optimizer.param_groups[0]["decay"] == Independent()


def test_a_hook_that_raises_leaves_the_rules_in_the_groups() -> None:
    optimizer = made()

    def hook(*_: Any) -> None:
        raise MemoryError

    optimizer.register_state_dict_post_hook(hook)
    with pytest.raises(MemoryError):
        optimizer.state_dict()
    assert optimizer.param_groups[0]["decay"] == Independent()


def by_name(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """As torch's documentation of load_state_dict has it: match the parameters by name."""
    names = state_dict["param_groups"][0]["param_names"]
    state, groups = {}, []
    for group in optimizer.param_groups:
        ids = []
        for name in group["param_names"]:
            index = 100 + names.index(name) if name in names else 500 + len(ids)
            ids.append(index)
            if name in names and names.index(name) in state_dict["state"]:
                state[index] = state_dict["state"][names.index(name)]
        groups.append({**state_dict["param_groups"][0], "params": ids,
                       "param_names": group["param_names"]})  # fmt: skip
    return {"state": state, "param_groups": groups}


@pytest.mark.parametrize("rule", ["independent", "stable", Anchored()], ids=repr)
@pytest.mark.parametrize("sizes", [(3, 3), (3, 2), (2, 3)])
def test_a_pre_hook_that_matches_by_name_does_what_torch_does(
    rule: Any, sizes: tuple[int, int]
) -> None:
    def native(params: int) -> Any:
        torch.manual_seed(0)
        named = [(f"w{i}", torch.nn.Parameter(torch.randn(4))) for i in range(params)]
        return torch.optim.AdamW(named, lr=0.02)

    loaded = []
    for make in (lambda n: made(rule, n), native):
        first, second = make(sizes[0]), make(sizes[1])
        step(first)
        second.register_load_state_dict_pre_hook(by_name)
        second.load_state_dict(first.state_dict())
        loaded.append((first, second))
    for first, second in loaded:
        for i, p in enumerate(second.param_groups[0]["params"]):
            if i < sizes[0]:
                theirs = first.state[first.param_groups[0]["params"][i]]
                assert torch.equal(second.state[p]["exp_avg"], theirs["exp_avg"])
            else:
                assert p not in second.state
    ours = loaded[0][1]
    assert ours.param_groups[0]["decay"] == made(rule).param_groups[0]["decay"]
    step(ours)


def test_hooks_run_once_and_in_torchs_order() -> None:
    optimizer, calls = made(), list[str]()
    optimizer.register_load_state_dict_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_load_state_dict_post_hook(
        lambda o: calls.append(f"post {o.param_groups[0]['decay'].name}")
    )
    for _ in range(2):
        optimizer.load_state_dict(made("corrected").state_dict(), keep="checkpoint")
    assert calls == ["pre", "post corrected"] * 2


def test_a_post_hook_sees_what_has_been_restored() -> None:
    """NAdam's product is a float32 scalar that torch casts to the parameters' precision."""
    w = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = halflife.NAdam([w], decay="decoupled")
    w.grad = torch.ones_like(w)
    optimizer.step()
    seen = []
    optimizer.register_load_state_dict_post_hook(
        lambda o: seen.append(o.state[w]["mu_product"].dtype)
    )
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [torch.float32]


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2)])
def test_another_number_of_parameters_is_refused_as_torch_refuses_it(
    sizes: tuple[int, int],
) -> None:
    first, second = made(params=sizes[0]), made("corrected", params=sizes[1])
    step(first)
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        second.load_state_dict(first.state_dict())
    assert second.param_groups[0]["decay"].name == "corrected"
    assert not second.state
    step(second)


def test_another_number_of_groups_is_refused_as_torch_refuses_it() -> None:
    first, second = made(), made("corrected")
    first.add_param_group({"params": [("other", torch.nn.Parameter(torch.ones(1)))]})
    with pytest.raises(ValueError, match="different number of parameter groups"):
        second.load_state_dict(first.state_dict())
    assert not second._optimizer_load_state_dict_pre_hooks
    assert not second._optimizer_load_state_dict_post_hooks


def test_given_anchors_survive_a_copy_before_the_first_step() -> None:
    import copy
    import pickle

    for copied in (copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))):
        w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        rule = Anchored(to=[torch.full((3,), 5.0, dtype=torch.float64)])
        optimizer = halflife.SGD([w], lr=0.1, weight_decay=5.0, decay=rule)
        other = copied(optimizer)
        (p,) = other.param_groups[0]["params"]
        p.grad = torch.zeros_like(p)
        other.step()
        torch.testing.assert_close(p.detach(), torch.full_like(p, 3.0))


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# torch itself uses what it deprecates, when this part of it is imported.
@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("rule", ["independent", Cautious(Independent()), Anchored()], ids=repr)
def test_what_zero_redundancy_saves_is_read_with_the_defaults(rule: Any) -> None:
    """It holds the optimizer inside, and keeps its groups in a state dict of its own."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    torch.manual_seed(0)
    settings = {"lr": 0.02, "weight_decay": 0.3, "decay": rule}
    runs = []
    for _ in range(2):
        w = torch.nn.Parameter(torch.ones(4))
        runs.append((w, ZeroRedundancyOptimizer([w], optimizer_class=halflife.AdamW, **settings)))
    (w, first), (q, second) = runs
    for _ in range(2):
        w.grad = torch.full_like(w, 0.5)
        first.step()
    first.consolidate_state_dict()
    with torch.no_grad():
        q.copy_(w)
    second.load_state_dict(through_a_file(first.state_dict()))
    for p, optimizer in runs:
        p.grad = torch.full_like(p, -0.25)
        optimizer.step()
    assert torch.equal(w, q)
    assert second.param_groups[0]["decay"] == first.param_groups[0]["decay"]


def test_a_state_dict_pre_hook_has_the_optimizer_itself() -> None:
    optimizer = made()

    def hook(o: Optimizer) -> None:
        o.param_groups[0].update(lr=0.5, mine=3)
        if len(o.param_groups) == 1:
            o.add_param_group({"params": [("late", torch.nn.Parameter(torch.ones(1)))]})

    optimizer.register_state_dict_pre_hook(hook)
    saved = optimizer.state_dict()["param_groups"]
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["mine"]) == (0.5, 3)
    assert [len(saved), len(optimizer.param_groups)] == [2, 2]
    assert [group["decay"] for group in saved] == [{"name": "independent"}] * 2
    assert not optimizer._optimizer_state_dict_post_hooks
