"""What is known of a group is found after it was accepted, and anew when its grounds change."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import halflife
from cases import stepped
from halflife import Anchored
from torch_versions import since

BF16 = torch.bfloat16


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
        fits = optimizer._fits(optimizer._known_at(0), group)
        found.append((optimizer._known_at(0).layout, fits))
    layouts = [("contiguous", True), ("dense", True), ("with gaps", False), ("contiguous", True)]
    assert found == layouts


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


FUSED_HALVES = since(2, 14, "the fused SGD on the CPU trains half-precision weights")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=FUSED_HALVES) if c.startswith("SGD") else c for c in REFUSED]
)
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
