"""What is known of a group is found after it was accepted, and anew when its grounds change."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import halflife
from halflife import Anchored, Cautious, HalfLife, Independent

BF16 = torch.bfloat16


def stepped(optimizer: Any, params: list[torch.Tensor], steps: int) -> None:
    for _ in range(steps):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()


@pytest.mark.parametrize("cls", [halflife.SGD, halflife.Adam, halflife.AdamW, halflife.RMSprop])
@pytest.mark.parametrize("flags", [{}, {"foreach": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("before", [0, 1])
def test_weights_converted_later_keep_their_decay(
    cls: Any, flags: dict[str, bool], dtype: torch.dtype, before: int
) -> None:
    """200 steps of 1e-3 leave 82 %; rounded to the nearest they would leave everything."""
    torch.manual_seed(0)
    model = torch.nn.Linear(16, 16, bias=False)
    torch.nn.init.ones_(model.weight)
    eps = {} if cls is halflife.SGD else {"eps": 1e-3}  # the default is 0 in float16
    optimizer = cls(
        model.parameters(), lr=1e-2, weight_decay=0.1, decay="decoupled", **eps, **flags
    )
    stepped(optimizer, [model.weight], before)
    model.to(dtype)
    for state in optimizer.state.values():  # torch's steps want the moments in the same precision
        state.update({k: v.to(dtype) for k, v in state.items() if k != "step"})
    stepped(optimizer, [model.weight], 200)
    kept = float(model.weight.detach().double().mean())
    assert kept == pytest.approx((1.0 - 1e-3) ** (200 + before), rel=0.02)


def test_only_some_weights_converted() -> None:
    a, b = (torch.nn.Parameter(torch.ones(32, 32)) for _ in range(2))
    optimizer = halflife.AdamW([a, b], lr=1e-2, weight_decay=0.1, foreach=True)
    stepped(optimizer, [a, b], 1)
    b.data = b.data.bfloat16()
    optimizer.state.pop(b)  # torch keeps moments in the old dtype; a new state has the new one
    stepped(optimizer, [a, b], 200)
    for p in (a, b):
        assert float(p.detach().double().mean()) == pytest.approx((1.0 - 1e-3) ** 201, rel=0.02)


def test_another_layout_is_noticed() -> None:
    p = torch.nn.Parameter(torch.randn(2, 3, 4, 4))
    optimizer = halflife.AdamW([p])
    (group,) = optimizer.param_groups
    found = []
    for data in (
        p.data,
        p.data.to(memory_format=torch.channels_last),
        torch.randn(2, 3, 4, 8)[..., ::2],
        torch.randn(2, 3, 4, 4),
    ):
        p.data = data
        p.grad = torch.ones_like(p)
        optimizer._fuses(optimizer._known_at(0), group)  # the step that finds it out does not fuse
        fuses = optimizer._fuses(optimizer._known_at(0), group)
        found.append((optimizer._known_at(0).layout, fuses))
    assert found == [("contiguous", True), ("dense", True), (None, False), ("contiguous", True)]


def test_nothing_is_looked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    params = [torch.nn.Parameter(torch.randn(3)) for _ in range(2)]
    optimizer = halflife.AdamW([{"params": [p]} for p in params], weight_decay=0.1)
    records = list(optimizer._known)
    stepped(optimizer, params, 3)
    assert all(a is b for a, b in zip(records, optimizer._known, strict=True))


def test_a_group_taken_out_leaves_the_others_their_own() -> None:
    a, b = torch.nn.Parameter(torch.ones(8)), torch.nn.Parameter(torch.ones(8, dtype=BF16))
    optimizer = halflife.AdamW([{"params": [a]}, {"params": [b]}], lr=1e-2, weight_decay=0.1)
    del optimizer.param_groups[0]
    stepped(optimizer, [b], 1)
    assert optimizer._known_at(0).halves


# --- a refused group ------------------------------------------------------------------------------

REFUSED = {
    "SGD, fused, half precision": (
        lambda: halflife.SGD([torch.nn.Parameter(torch.ones(4))], lr=0.1, momentum=0.9),
        lambda: {"params": [torch.nn.Parameter(torch.ones(4, dtype=BF16))], "fused": True},
    ),
    "anchors of another shape": (
        lambda: halflife.AdamW([torch.nn.Parameter(torch.ones(4))], lr=0.1),
        lambda: {
            "params": [torch.nn.Parameter(torch.ones(4))],
            "decay": Anchored(to=[torch.ones(3)]),
        },
    ),
    "compiled and a norm": (
        lambda: halflife.AdamW([torch.nn.Parameter(torch.ones(4))], lr=0.1),
        lambda: {
            "params": [torch.nn.Parameter(torch.ones(4))],
            "decay": "norm_control",
            "implementation": "compiled",
        },
    ),
    "torch's own check": (
        lambda: halflife.AdamW([torch.nn.Parameter(torch.ones(4))], lr=0.1),
        lambda: {"params": [torch.nn.Parameter(torch.ones(4)) * 2], "decay": Anchored()},
    ),
    "a rule that the base cannot have": (
        lambda: halflife.Lion([torch.nn.Parameter(torch.ones(4))], lr=0.1),
        lambda: {"params": [torch.nn.Parameter(torch.ones(4))], "decay": "stable"},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_group_leaves_nothing_behind(case: str) -> None:
    optimizer, group = (make() for make in REFUSED[case])
    if "fused" in group:
        group["decay"] = Anchored()
    before = {
        k: (len(v) if isinstance(v, (list, dict)) else v)
        for k, v in vars(optimizer).items()
        if k != "_measured"
    }
    with pytest.raises(ValueError, match=r"."):
        optimizer.add_param_group(group)
    after = {
        k: (len(v) if isinstance(v, (list, dict)) else v)
        for k, v in vars(optimizer).items()
        if k != "_measured"
    }
    assert after == before
    p = optimizer.param_groups[0]["params"][0]
    stepped(optimizer, [p], 1)
    assert not optimizer.__dict__.get("_pending_anchors")


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_same_memory_in_another_precision_is_noticed(dtype: torch.dtype) -> None:
    w = torch.nn.Parameter(torch.ones(256))
    optimizer = halflife.SGD([w], lr=1e-2, weight_decay=0.1, decay="decoupled")
    stepped(optimizer, [w], 1)
    w.data = w.data.view(dtype)[: w.numel()].fill_(1.0)
    stepped(optimizer, [w], 100)
    assert float(w.detach().double().mean()) == pytest.approx((1.0 - 1e-3) ** 100, rel=0.01)


@pytest.mark.parametrize(
    "change",
    [lambda w: w.t(), lambda w: w[:, ::2], lambda w: w[::2]],
    ids=["transposed", "gaps", "rows"],
)
def test_the_same_memory_in_another_layout_is_noticed(change: Any) -> None:
    """A fused kernel walks the memory: it must not run on what lies otherwise than its gradient."""
    start, gradient = torch.randn(8, 8), torch.randn(8, 8)
    runs = []
    for cls in (halflife.SGD, torch.optim.SGD):
        w = torch.nn.Parameter(start.clone())
        optimizer = cls([w], lr=0.1)
        w.grad = gradient.clone()
        optimizer.step()
        w.data = change(w.data)
        w.grad = None
        w.grad = torch.cos(torch.arange(float(w.numel()))).view(w.shape)
        optimizer.step()
        runs.append(w.detach().clone())
    torch.testing.assert_close(runs[0], runs[1])


def test_a_parameter_added_to_the_list_of_a_group_decays_too() -> None:
    a, b = (torch.nn.Parameter(torch.ones(64, dtype=BF16)) for _ in range(2))
    optimizer = halflife.SGD([a], lr=1e-2, weight_decay=0.1, decay="decoupled")
    stepped(optimizer, [a], 3)
    optimizer.param_groups[0]["params"].append(b)
    stepped(optimizer, [a, b], 100)
    assert float(b.detach().double().mean()) == pytest.approx((1.0 - 1e-3) ** 100, rel=0.02)


def test_what_a_constructor_sets_last_is_seen() -> None:
    """A class that decides in its constructor, after its groups were made, how it decays."""

    class Late(torch.optim.RMSprop):
        def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
            super().__init__(params, lr=lr, weight_decay=weight_decay)
            self.decouple = True

        def step(self, closure: Any = None) -> None:
            kept = [group["weight_decay"] for group in self.param_groups]
            for group in self.param_groups:
                if self.decouple:
                    with torch.no_grad():
                        for p in group["params"]:
                            p.mul_(1.0 - group["lr"] * group["weight_decay"])
                    group["weight_decay"] = 0.0
            super().step()
            for group, decay in zip(self.param_groups, kept, strict=True):
                group["weight_decay"] = decay

    optimizer = halflife.decayed(Late)([torch.nn.Parameter(torch.ones(2))], decay="independent")
    assert optimizer._known[0].way == "decoupled"


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
