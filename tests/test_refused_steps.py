"""A step that the native optimizer refuses changes nothing, also where its decay is a pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import PEAK, MapCase, OptimizerCase, RuleCase
from halflife import decayed
from halflife.rules import DecayMap

EVERY: list[RuleCase | MapCase] = [*cases.RULES, *cases.MAPS]
SHAPE = (4, 4)


def make_params(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return cases.make_params(shapes=[SHAPE, SHAPE], dtype=dtype)


def groups_of(params: list[Tensor]) -> list[dict[str, Any]]:
    return [{"params": params[:1]}, {"params": params[1:]}]


def step(optimizer: Any, params: list[Tensor], t: int, sparse: bool = False) -> None:
    row = cases.make_gradients(5, shapes=[SHAPE, SHAPE], missing=False)[t]
    cases.set_gradients(params, row)
    if sparse:
        params[1].grad = params[1].grad.to_sparse()  # type: ignore[union-attr]
    for group in optimizer.param_groups:
        group["lr"] = PEAK * (1.0 - t / 5)
    optimizer.step()


def takes_sparse(base: OptimizerCase) -> bool:
    params = make_params()
    try:
        with torch.sparse.check_sparse_tensor_invariants():  # else torch warns
            native = base.native(groups_of(params), lr=PEAK, **base.arguments)
            step(native, params, 0, sparse=True)
    except RuntimeError:
        return False
    return True


REFUSING = [base for base in cases.OPTIMIZERS if not takes_sparse(base)]


def has_a_pass(base: OptimizerCase, case: RuleCase | MapCase) -> bool:
    optimizer = base.make(make_params(), case)
    return isinstance(case.rule, DecayMap) or (
        optimizer._known_at(0).way not in ("switch", "decoupled") and case.rule.removes_fraction
    )


PAIRS = [
    pytest.param(base, case, id=f"{base.id}-{case.id}")
    for base in REFUSING
    for case in EVERY
    if not base.refuses(case.rule) and has_a_pass(base, case)
]


# Without a state there is nothing of the native step's to bring back: one rule of each kind.
AT_FIRST = ("decoupled", "stable", "adaptive", "cautious", "anchored", "norm")
STOPPED = [
    pytest.param(*pair.values, steps, id=f"{pair.id}-{steps}")
    for pair in PAIRS
    for steps in (0, 2)
    if steps or pair.values[1].id in AT_FIRST
]


def snapshot(optimizer: Any, params: list[Tensor]) -> tuple[Any, Any]:
    return copy.deepcopy((optimizer.state_dict(), params))


def assert_unchanged(optimizer: Any, params: list[Tensor], before: tuple[Any, Any]) -> None:
    state, weights = before
    assert all(torch.equal(p, q) for p, q in zip(params, weights, strict=True))
    now = optimizer.state_dict()
    for group, was in zip(now["param_groups"], state["param_groups"], strict=True):
        assert repr({**group, "lr": 0}) == repr({**was, "lr": 0})  # the lr is the user's
    filled = [{k: v for k, v in s["state"].items() if v} for s in (now, state)]
    assert filled[0].keys() == filled[1].keys()
    for key, entries in filled[1].items():
        for name, value in entries.items():
            other = filled[0][key][name]
            assert torch.equal(other, value) if isinstance(value, Tensor) else other == value


def test_the_pairs_are_many() -> None:
    assert {"RMSprop", "Lion", "AdamW"} <= {base.name for base in REFUSING}
    assert len(PAIRS) > 100


@pytest.mark.parametrize(("base", "case", "steps"), STOPPED)
def test_a_sparse_gradient(base: OptimizerCase, case: RuleCase | MapCase, steps: int) -> None:
    """In the second group; the native step has taken the first one by then, which comes back."""
    params = make_params()
    optimizer = base.make(groups_of(params), case)
    for t in range(steps):
        step(optimizer, params, t)
    before = snapshot(optimizer, params)
    with pytest.raises((RuntimeError, ValueError), match=r"[Ss]parse"):
        step(optimizer, params, steps, sparse=True)
    assert_unchanged(optimizer, params, before)
    twins = make_params()
    straight = base.make(groups_of(twins), case)
    for t in range(steps + 1):
        step(straight, twins, t)
    step(optimizer, params, steps)  # and it trains on as if nothing had been
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))


class Busy(torch.optim.RMSprop):
    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("the device is busy")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("decay", ["decoupled", "independent", "cautious", "anchored", "adaptive"])
def test_any_other_reason(decay: str, dtype: torch.dtype) -> None:
    params = make_params(dtype)
    optimizer = decayed(Busy)(params, lr=PEAK, weight_decay=0.5, decay=decay)
    before = snapshot(optimizer, params)
    with pytest.raises(RuntimeError, match="busy"):
        step(optimizer, params, 0)
    assert_unchanged(optimizer, params, before)


def test_a_flag_that_the_device_has_not() -> None:
    params = make_params()
    optimizer = halflife.AdamW(params, lr=PEAK, decay="cautious", capturable=True, foreach=False)
    before = snapshot(optimizer, params)
    with pytest.raises(AssertionError, match="capturable"):
        step(optimizer, params, 0)
    assert_unchanged(optimizer, params, before)


@pytest.mark.parametrize("name", ["Adadelta", "RMSprop", "AdamW"])
@pytest.mark.parametrize("decay", ["decoupled", "cautious", "proximal_norm"])
def test_a_flag_that_is_written_in_training(name: str, decay: str) -> None:
    params = make_params()
    settings: dict[str, Any] = {"lr": PEAK, "weight_decay": 0.1, "decay": decay, "foreach": False}
    optimizer = getattr(halflife, name)(groups_of(params), **settings)
    for t in range(2):
        step(optimizer, params, t)
    for group in optimizer.param_groups:
        group["capturable"] = True
    before = snapshot(optimizer, params)
    with pytest.raises(AssertionError, match="capturable"):
        step(optimizer, params, 2)
    assert_unchanged(optimizer, params, before)


@pytest.mark.parametrize(
    ("make", "decay"),
    [
        (decayed(torch.optim.Adafactor), "independent"),  # which takes no complex weights
        (halflife.AdamW, "cautious"),  # a map that compares signs
        (halflife.RMSprop, "cautious"),
    ],
)
def test_weights_that_get_their_first_gradient_late(make: Any, decay: str) -> None:
    params = [*make_params(), torch.zeros(2, 2, dtype=torch.complex128, requires_grad=True)]
    optimizer = make(groups_of(params), lr=PEAK, weight_decay=0.1, decay=decay)
    for t in range(2):
        step(optimizer, params[:2], t)
    params[2].grad = torch.ones_like(params[2])
    before = snapshot(optimizer, params)
    with pytest.raises(RuntimeError):
        step(optimizer, params[:2], 2)
    assert_unchanged(optimizer, params, before)


def test_only_first_steps_keep_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    params = make_params()
    optimizer = halflife.RMSprop(params, lr=PEAK, weight_decay=0.1, decay="decoupled")
    copies: list[int] = []
    clone = torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, "clone", lambda t, **k: copies.append(1) or clone(t, **k))
    taken = []
    for t in range(4):
        copies.clear()
        step(optimizer, params, t)
        taken.append(len(copies) - len(params))  # less those of the gradients, made by this test
    assert taken[0] == len(params)
    assert taken[1:] == [0, 0, 0]


@pytest.mark.parametrize("decay", ["independent", "cautious"])
def test_a_sparse_gradient_beside_dense_ones_in_a_run_that_is_resumed(decay: str) -> None:
    """What the native step has already done to the others is undone, their state included."""

    def make(params: list[Tensor]) -> Any:
        flags: dict[str, Any] = {"foreach": False, "weight_decay": 0.1}
        return halflife.RMSprop(groups_of(params), lr=0.1, decay=decay, **flags)

    params = make_params()
    first = make(params)
    step(first, params, 0)
    resumed = make(params)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    before = snapshot(resumed, params)
    with pytest.raises((RuntimeError, ValueError), match=r"[Ss]parse"):
        step(resumed, params, 1, sparse=True)
    assert_unchanged(resumed, params, before)


@pytest.mark.parametrize(
    ("cls", "decay", "why"),
    [
        (halflife.SGD, "cautious", "the rule looks at the direction of every weight"),
        (decayed(torch.optim.SparseAdam), "l2", "with a multiple of the weights it is no longer"),
    ],
    ids=["cautious", "l2"],
)
def test_what_a_sparse_gradient_cannot_have_is_said(cls: Any, decay: str, why: str) -> None:
    table = torch.nn.Embedding(5, 3, sparse=True)
    start = table.weight.detach().clone()
    optimizer = cls(list(table.parameters()), lr=0.1, weight_decay=0.5, decay=decay)
    table(torch.tensor([1, 3])).sum().backward()
    with pytest.raises(ValueError, match=f"a gradient is sparse, and {why}; use sparse=False"):
        optimizer.step()
    assert torch.equal(table.weight, start)
