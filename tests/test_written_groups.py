"""What is written into a live group; and anchors, whatever happens to groups."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import halflife
from cases import stepped
from halflife import Anchored, Cautious, HalfLife, Independent

# --- written into a group -------------------------------------------------------------------------


def two(rule: Any) -> list[tuple[Any, torch.Tensor]]:
    """The same optimizer with a rule from the start, and with it written later."""
    made = []
    for given in (rule, "decoupled"):
        w = torch.nn.Parameter(torch.linspace(0.5, 2.0, 6, dtype=torch.float64))
        made.append((halflife.AdamW([w], lr=0.02, weight_decay=0.9, decay=given), w))
    made[1][0].param_groups[0]["decay"] = rule
    return made


@pytest.mark.parametrize(
    "rule",
    ["independent", "l2", "corrected", "cautious", Anchored(), Cautious(Independent())],
    ids=repr,
)
def test_a_rule_written_into_a_group_is_taken(rule: Any) -> None:
    (ours, w), (later, q) = two(rule)
    for lr in (0.02, 0.013, 0.004):
        for optimizer, p in ((ours, w), (later, q)):
            p.grad = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64)
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
    assert torch.equal(w, q)
    assert later.param_groups[0]["decay"] == ours.param_groups[0]["decay"]
    assert later.state_dict()["param_groups"] == ours.state_dict()["param_groups"]
    assert halflife.describe(later) == halflife.describe(ours)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (halflife.Independent, TypeError, "write Independent()"),
        (HalfLife(steps=10), TypeError, "must be a DecayRule, one of the names"),
        (None, TypeError, "decay=None of parameter group 0: must be a DecayRule or its name"),
        (3, TypeError, "must be a DecayRule, one of the names"),
        ("independant", ValueError, "did you mean 'independent'"),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("implementation", [None, "compiled"])
def test_what_is_no_rule_is_refused_by_name(
    value: Any, error: type[Exception], message: str, implementation: str | None
) -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = halflife.AdamW([w], weight_decay=0.1, implementation=implementation)
    optimizer.param_groups[0]["decay"] = value
    w.grad = torch.ones(3)
    with pytest.raises(error) as raised:
        optimizer.step()
    assert message in str(raised.value)
    assert torch.equal(w, torch.ones(3))
    assert not optimizer.state


def test_none_stays_the_native_optimizer_where_it_was_so() -> None:
    w, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    ours = halflife.decayed(torch.optim.AdamW)([w], weight_decay=0.1)
    native = torch.optim.AdamW([q], weight_decay=0.1)
    stepped(ours, [w], 2)
    stepped(native, [q], 2)
    assert torch.equal(w, q)


def test_a_strength_written_into_a_group_is_resolved() -> None:
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = halflife.SGD([w], lr=0.1, weight_decay=0.0, decay="decoupled")
    optimizer.param_groups[0]["weight_decay"] = HalfLife(steps=2)
    stepped(optimizer, [w], 2)
    assert torch.allclose(w, torch.full_like(w, 0.5), rtol=1e-12)
    assert isinstance(optimizer.param_groups[0]["weight_decay"], float)


def test_a_copy_of_the_groups_is_no_other_rule() -> None:
    """As wrappers leave them that load a checkpoint by themselves: anchors stay where they were."""
    w = torch.nn.Parameter(torch.full((3,), 5.0, dtype=torch.float64))
    optimizer = halflife.SGD([w], lr=0.1, weight_decay=5.0, decay=Anchored())
    stepped(optimizer, [w], 1)
    with torch.no_grad():
        w.fill_(1.0)
    optimizer.param_groups = [
        {**copy.deepcopy({k: v for k, v in g.items() if k != "params"}), "params": g["params"]}
        for g in optimizer.param_groups
    ]
    assert optimizer.param_groups[0]["decay"] is not optimizer._known[0].rule
    stepped(optimizer, [w], 1)
    assert torch.equal(w, torch.full_like(w, 3.0))  # half the way back to 5


# --- anchors, through all that is written, moved and copied ---------------------------------------


def anchored_at_5(**settings: Any) -> tuple[Any, torch.Tensor]:
    """Weights of 1 whose anchors are 5, after a step: each goes half the way that is left."""
    w = torch.nn.Parameter(torch.full((3,), 5.0, dtype=torch.float64))
    known = {"lr": 0.1, "weight_decay": 5.0, "decay": Anchored(), **settings}
    optimizer = halflife.SGD([w], **known)
    stepped(optimizer, [w], 1)
    with torch.no_grad():
        w.fill_(1.0)
    return optimizer, w


def moved_to(optimizer: Any, w: torch.Tensor) -> float:
    stepped(optimizer, [w], 1)
    assert torch.equal(w, w[:1].expand(3))
    return float(w.detach()[0])


@pytest.mark.parametrize(
    "same",
    ["anchored", {"name": "anchored"}, Anchored(), Anchored().as_dict()],
    ids=["name", "data", "object", "as_dict"],
)
def test_the_same_rule_written_in_any_form_keeps_the_anchors(same: Any) -> None:
    optimizer, w = anchored_at_5()
    optimizer.param_groups[0]["decay"] = same
    assert moved_to(optimizer, w) == 3.0
    assert isinstance(optimizer.param_groups[0]["decay"], Anchored)


def test_a_group_restored_by_hand_keeps_its_anchors() -> None:
    optimizer, w = anchored_at_5()
    saved = optimizer.state_dict()["param_groups"][0]
    optimizer.param_groups[0] = {**saved, "params": [w]}
    assert moved_to(optimizer, w) == 3.0


def test_a_strength_written_into_the_group_keeps_the_anchors() -> None:
    optimizer, w = anchored_at_5()
    optimizer.param_groups[0]["weight_decay"] = halflife.Fraction(0.25)
    assert moved_to(optimizer, w) == 2.0


@pytest.mark.parametrize("way", ["delete", "reverse", "insert"])
def test_groups_that_are_moved_keep_what_is_theirs(way: str) -> None:
    optimizer, w = anchored_at_5()
    other = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer.add_param_group({"params": [other], "decay": "cautious", "weight_decay": 0.1})
    w.grad = None
    stepped(optimizer, [other], 1)
    if way == "insert":
        late = {**optimizer.param_groups[1], "params": []}
        optimizer.param_groups.insert(0, late)
    elif way == "reverse":
        optimizer.param_groups.reverse()
    else:
        optimizer.param_groups.reverse()
        del optimizer.param_groups[0]
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    assert moved_to(optimizer, w) == 3.0


def test_a_group_taken_out_makes_no_other_rule_of_the_next() -> None:
    """Whose lr a schedule may have raised above the peak of its own construction."""
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = halflife.AdamW(
        [{"params": [a]}, {"params": [b], "decay": "cautious"}], lr=1e-3, weight_decay=0.1
    )
    stepped(optimizer, [a, b], 1)
    del optimizer.param_groups[0]
    optimizer.param_groups[0]["lr"] = 5e-3
    stepped(optimizer, [b], 1)


def test_other_anchors_act_from_the_first_step() -> None:
    optimizer, w = anchored_at_5()
    optimizer.param_groups[0]["decay"] = Anchored(to=[torch.full((3,), 3.0, dtype=torch.float64)])
    assert moved_to(optimizer, w) == 2.0
    assert moved_to(optimizer, w) == 2.5


def test_anchors_are_captured_anew_when_the_rule_comes_back() -> None:
    optimizer, w = anchored_at_5()
    optimizer.param_groups[0].update(decay="decoupled", weight_decay=0.0)
    stepped(optimizer, [w], 1)
    optimizer.param_groups[0].update(decay="anchored", weight_decay=5.0)
    assert moved_to(optimizer, w) == 1.0  # it is where it is anchored


@pytest.mark.parametrize("own", [True, False], ids=["halflife", "torch"])
def test_attached_anchors_are_the_given_ones(own: bool) -> None:
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    cls: Any = halflife.SGD if own else torch.optim.SGD
    optimizer = cls([w], lr=0.1, weight_decay=5.0)
    rule = Anchored(to=[torch.full((3,), 3.0, dtype=torch.float64)])
    assert moved_to(halflife.attach(optimizer, rule), w) == 2.0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [("independent", 0.5), (Anchored(to=[torch.full((3,), 3.0, dtype=torch.float64)]), 2.0)],
    ids=["name", "anchors"],
)
def test_a_copy_takes_what_was_written_just_before(copied: Any, rule: Any, expected: float) -> None:
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = halflife.SGD([w], lr=0.1, weight_decay=5.0, decay="decoupled")
    settings = {"decay": rule, "weight_decay": 0.5 if rule == "independent" else 5.0}
    optimizer.param_groups[0].update(settings)
    other = copied(optimizer)
    assert moved_to(other, other.param_groups[0]["params"][0]) == expected


def test_a_copy_refuses_by_name_what_was_written_just_before() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = halflife.AdamW([w])
    optimizer.param_groups[0]["decay"] = "independant"
    other = copy.deepcopy(optimizer)
    with pytest.raises(ValueError, match="did you mean 'independent'"):
        stepped(other, other.param_groups[0]["params"], 1)


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "rule", ["independent", Anchored(to=[torch.full((3,), 3.0, dtype=torch.float64)])], ids=repr
)
def test_a_rule_written_into_a_compiled_step_is_taken(rule: Any) -> None:
    """The graph is broken for it, and holds again from the next step."""
    runs = []
    for compiled in (True, False):
        w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = halflife.SGD([w], lr=0.1, weight_decay=0.5, decay="decoupled")
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for t in range(4):
            w.grad = torch.full_like(w, 0.1 * t)
            if t == 2:
                optimizer.param_groups[0]["decay"] = rule
            step()
        runs.append(w.detach().clone())
    torch.testing.assert_close(*runs)
    torch._dynamo.reset()


def test_written_anchors_stay_where_the_weights_were() -> None:
    """``w <- w - d (w - anchor) - lr g`` from the step on before which the rule was written."""
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = halflife.SGD([w], lr=0.1, weight_decay=0.5, decay="decoupled")
    expected, anchor = w.detach().clone(), torch.zeros(2, dtype=torch.float64)
    for t, lr in enumerate((0.1, 0.08, 0.05, 0.02)):
        optimizer.param_groups[0]["lr"] = lr
        if t == 2:
            optimizer.param_groups[0]["decay"] = "anchored"
            anchor = expected.clone()
        w.grad = torch.tensor([1.0, -3.0], dtype=torch.float64)
        optimizer.step()
        expected = expected - lr * 0.5 * (expected - anchor) - lr * w.grad
    torch.testing.assert_close(w.detach(), expected, rtol=1e-13, atol=0)


def test_a_parameter_added_to_the_list_is_anchored_where_it_began() -> None:
    first, late = (torch.nn.Parameter(torch.full((2,), v, dtype=torch.float64)) for v in (1.0, 4.0))
    optimizer = halflife.SGD([first], lr=0.1, weight_decay=5.0, decay="anchored")
    expected = torch.full((2,), 4.0, dtype=torch.float64)
    for t, lr in enumerate((0.1, 0.05, 0.1, 0.02)):
        optimizer.param_groups[0]["lr"] = lr
        if t == 1:
            optimizer.param_groups[0]["params"].append(late)
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.ones_like(p)
        optimizer.step()
        if t >= 1:
            expected = expected - lr * 5.0 * (expected - 4.0) - lr
    torch.testing.assert_close(late.detach(), expected, rtol=1e-14, atol=0)
