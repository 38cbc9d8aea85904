"""Whose decay holds after loading: the checkpoint's, and that is said, or the one constructed."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import halflife
from halflife import (
    Cautious,
    Fraction,
    HalfLife,
    HuberDecay,
    Proximal,
    TargetRMS,
    Timescale,
    TotalDecay,
    convert,
    describe,
)
from halflife.schedules import WeightDecayScheduler, linear

LR = 1e-3
HALF = HalfLife(steps=1000)
HALF_WD = (1.0 - 2.0**-0.001) / LR  # 0.6929


def weights(count: int = 1) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(count)]


def ours(decay: Any = None, rule: Any = None, lr: float = LR, cls: Any = halflife.AdamW) -> Any:
    given = {} if decay is None else {"weight_decay": decay}
    return cls(weights(), lr=lr, decay=rule, **given)


def torchs(decay: float = 0.1, cls: Any = torch.optim.AdamW) -> Any:
    return cls(weights(), lr=LR, weight_decay=decay)


def said(load: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    assert all(w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


def saved(optimizer: Any) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file)


def removed(optimizer: Any) -> float:
    """Share of each weight that a step without gradients removes."""
    (weight,) = optimizer.param_groups[0]["params"]
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return float((1.0 - weight.detach() / before)[0])


# What was constructed, what is loaded, and what a step then removes at lr 1e-3.
REPLACED: dict[str, tuple[Any, Any, float]] = {
    "a strength by torch's number": (lambda: ours(HALF), torchs, LR * 0.1),
    "a strength by another": (lambda: ours(HALF), lambda: ours(HalfLife(steps=500)), 1 - 2**-0.002),
    "a strength of another kind": (lambda: ours(HALF), lambda: ours(Timescale(steps=50)), 0.02),
    "a strength by a number": (lambda: ours(HALF), lambda: ours(0.1), LR * 0.1),
    "a strength by none": (lambda: ours(HALF), lambda: torchs(0.0), 0.0),
    "a size by torch's number": (lambda: ours(TargetRMS(0.1)), torchs, LR * 0.1),
    "a total": (lambda: ours(TotalDecay(0.5, schedule=[1.0] * 50)), torchs, LR * 0.1),
    "a number by a strength": (lambda: ours(0.1), lambda: ours(HALF), 1 - 2**-0.001),
    "a rule": (
        lambda: ours(0.1, "corrected"), lambda: ours(1e-4, "independent"), 1e-4
    ),
    "a rule of the same number": (
        lambda: ours(0.1, "corrected"), lambda: ours(0.1, "constant"), 0.1
    ),
    "a rule of the same strength": (
        lambda: ours(HALF, "corrected"), lambda: ours(HALF), 1 - 2**-0.001
    ),
    "a rule's setting": (
        lambda: ours(0.1, HuberDecay(delta=1.0)), lambda: ours(0.1, HuberDecay(delta=0.25)),
        0.25e-4,
    ),
    "an inner rule": (
        lambda: ours(0.1, Cautious("independent")), lambda: ours(0.1, Cautious()), LR * 0.1
    ),
    "the unit of a rule": (lambda: ours(1e-4, "independent"), torchs, 0.1),
    "a number": (lambda: ours(0.3), torchs, LR * 0.1),
    "L2 by a rule": (
        lambda: ours(0.1, "decoupled", cls=halflife.SGD),
        lambda: ours(5e-4, "l2", cls=halflife.SGD), LR * 5e-4,
    ),
    "no rule": (
        lambda: ours(0.1, cls=halflife.decayed(torch.optim.NAdam)),
        lambda: ours(1e-3, "independent", cls=halflife.decayed(torch.optim.NAdam)), 1e-3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REPLACED)
def test_what_a_checkpoint_replaces_is_said_and_either_can_be_kept(case: str) -> None:
    construct, other, expected = REPLACED[case]
    untouched, loading, kept, meant = (construct() for _ in range(4))
    state = saved(other())
    (message,) = said(lambda: loading.load_state_dict(state))
    assert "parameter group 0 was constructed with" in message
    assert "and that holds now" in message
    assert "keep='constructed'" in message
    assert removed(loading) == pytest.approx(expected, rel=1e-9)
    assert said(lambda: meant.load_state_dict(state, keep="checkpoint")) == []
    assert meant.param_groups[0]["weight_decay"] == loading.param_groups[0]["weight_decay"]
    assert said(lambda: kept.load_state_dict(state, keep="constructed")) == []
    for entry in ("decay", "weight_decay", "peak_lr", "strength"):
        assert kept.param_groups[0].get(entry) == untouched.param_groups[0].get(entry)
    assert removed(kept) == removed(untouched)


@pytest.mark.parametrize("rule", ["independent", "corrected", Cautious("independent")], ids=str)
def test_a_peak_that_its_rule_divides_by_is_said(rule: Any) -> None:
    """A new schedule from the lr constructed would decay by the ratio of the two peaks."""
    optimizer = ours(1e-4, rule)
    (message,) = said(lambda: optimizer.load_state_dict(saved(ours(1e-4, rule, lr=0.1))))
    assert "peak_lr=0.001; the checkpoint brings" in message
    assert "peak_lr=0.1, and that holds now" in message
    assert optimizer.param_groups[0]["peak_lr"] == 0.1
    kept = ours(1e-4, rule)
    kept.load_state_dict(saved(ours(1e-4, rule, lr=0.1)), keep="constructed")
    with pytest.raises(ValueError, match="is above its peak_lr"):  # it does not fit the lr
        removed(kept)


def test_the_message_names_both() -> None:
    optimizer = ours(HALF)
    (message,) = said(lambda: optimizer.load_state_dict(torchs().state_dict()))
    assert message.startswith(
        "AdamW.load_state_dict: parameter group 0 was constructed with HalfLife(steps=1000), "
        "weight_decay=0.692907, decay=Decoupled(); the checkpoint brings weight_decay=0.1 and no "
        "rule, and that holds now. "
    )
    assert describe(optimizer).groups[0].strength == ""


SAME: dict[str, tuple[Any, Any]] = {
    "a strength": (lambda: ours(HALF), lambda: ours(HALF)),
    "a strength at another lr": (lambda: ours(HALF), lambda: ours(HALF, lr=0.1)),
    "a peak that no one divides by": (lambda: ours(0.1), lambda: ours(0.1, lr=0.01)),
    "a strength in other words": (
        lambda: ours(HALF),
        lambda: ours(HalfLife(epochs=10, steps_per_epoch=100)),
    ),
    "a strength and its number": (lambda: ours(HALF), lambda: torchs(HALF_WD)),
    "a number": (lambda: ours(0.1), lambda: ours(0.1)),
    "torch's number": (lambda: ours(0.1), torchs),
    "a rule": (lambda: ours(0.1, Proximal()), lambda: ours(0.1, Proximal("decoupled"))),
    "the defaults": (ours, lambda: ours(HALF, "independent")),
    "the defaults of SGD": (
        lambda: ours(cls=halflife.SGD),
        lambda: ours(5e-4, cls=halflife.SGD),
    ),
    "no decay": (lambda: ours(0.0, "corrected"), lambda: torchs(0.0)),
    "SGD as torch's": (
        lambda: ours(5e-4, cls=halflife.SGD),
        lambda: torchs(5e-4, torch.optim.SGD),
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_decay_is_loaded_in_silence(case: str) -> None:
    construct, other = SAME[case]
    assert said(lambda: construct().load_state_dict(saved(other()))) == []


@pytest.mark.parametrize("decay", [HALF, 0.1, Fraction(1e-4)], ids=str)
@pytest.mark.parametrize("by", ["a scheduler", "hand"])
def test_a_resume_amid_a_schedule_of_the_decay_is_silent(by: str, decay: Any) -> None:
    first, second = ours(decay), ours(decay)
    schedulers = [WeightDecayScheduler(o, linear(10)) for o in (first, second)]
    for step in range(3):
        removed(first)
        if by == "a scheduler":
            schedulers[0].step()
        else:
            first.param_groups[0]["weight_decay"] *= 0.9 - 0.1 * step
    assert said(lambda: second.load_state_dict(saved(first))) == []
    if by == "a scheduler":
        schedulers[1].load_state_dict(schedulers[0].state_dict())
    for optimizer in (first, second):
        for weight in optimizer.param_groups[0]["params"]:
            weight.data.fill_(1.0)
    assert removed(second) == removed(first)


def test_one_warning_for_many_groups() -> None:
    groups = [
        {"params": weights()},
        {"params": weights()},
        {"params": weights(), "weight_decay": 0},
    ]
    optimizer = halflife.AdamW(groups, lr=LR, weight_decay=HALF)
    plain = [{"params": weights()}, {"params": weights()}, {"params": weights(), "weight_decay": 0}]
    other = torch.optim.AdamW(plain, lr=LR, weight_decay=0.1)
    (message,) = said(lambda: optimizer.load_state_dict(saved(other)))
    assert "(1 more groups like it)" in message


def test_where_a_framework_loads() -> None:
    """It calls load_state_dict with the checkpoint alone."""
    optimizer = ours(HALF)
    optimizer.keep_on_load = "constructed"
    assert said(lambda: optimizer.load_state_dict(torchs().state_dict())) == []
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(HALF_WD)
    optimizer.load_state_dict(torchs().state_dict(), keep="checkpoint")  # the call's own wins
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_what_cannot_be_loaded_changes_and_says_nothing() -> None:
    optimizer = ours(HALF)
    before = copy.deepcopy(optimizer.param_groups[0])
    with pytest.raises(ValueError, match=r"keep='both': must be 'checkpoint' or 'constructed'"):
        optimizer.load_state_dict(torchs().state_dict(), keep="both")
    with pytest.raises(ValueError, match="doesn't match the size"):
        optimizer.load_state_dict(torch.optim.AdamW(weights(2), weight_decay=0.1).state_dict())
    assert optimizer.param_groups[0]["weight_decay"] == before["weight_decay"]
    assert optimizer.param_groups[0]["strength"] == before["strength"]


@pytest.mark.parametrize("keep", [None, "constructed"])
def test_through_distributed_checkpoints(keep: str | None, tmp_path: Any) -> None:
    """They load in place and call load_state_dict with its keyword."""

    def built(decay: Any) -> tuple[Any, Any]:
        model = torch.nn.Linear(2, 2, bias=False)
        return model, halflife.AdamW(model.parameters(), lr=LR, weight_decay=decay)

    model, first = built(HalfLife(steps=500))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed", UserWarning)
        dcp.save({"o": get_optimizer_state_dict(model, first)}, checkpoint_id=tmp_path)
        model, second = built(HALF)
        second.keep_on_load = keep
        loaded = {"o": get_optimizer_state_dict(model, second)}
        dcp.load(loaded, checkpoint_id=tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        set_optimizer_state_dict(model, second, loaded["o"])
    assert any("HalfLife(steps=1000)" in str(w.message) for w in caught) is (keep is None)
    group = second.param_groups[0]
    assert group["strength"]["of"] == f"HalfLife(steps={500 if keep is None else 1000})"


@pytest.mark.parametrize("number", [0.1, HALF_WD])
def test_a_partial_load_of_torchs_number_beside_our_strength(number: float, tmp_path: Any) -> None:
    model = torch.nn.Linear(2, 2, bias=False)
    native = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=number)
    second = halflife.AdamW(model.parameters(), lr=LR, weight_decay=HALF)
    planner = DefaultLoadPlanner(allow_partial_load=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed", UserWarning)
        dcp.save({"o": get_optimizer_state_dict(model, native)}, checkpoint_id=tmp_path)
        loaded = {"o": get_optimizer_state_dict(model, second)}
        dcp.load(loaded, checkpoint_id=tmp_path, planner=planner)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        set_optimizer_state_dict(model, second, loaded["o"])
    other = number != HALF_WD
    assert any("HalfLife(steps=1000)" in str(w.message) for w in caught) is other
    group = second.param_groups[0]
    assert group["weight_decay"] == number
    assert group["strength"]["of"] == (None if other else "HalfLife(steps=1000)")


# --- into torch -----------------------------------------------------------------------------------


def test_an_independent_checkpoint_in_torch_means_less_and_is_described_so() -> None:
    """torch reads the number alone, times lr; what `describe` says is what torch does."""
    theirs = torchs()
    theirs.load_state_dict(saved(ours(1e-4, "independent")))
    row = describe(theirs).groups[0]
    assert (row.rule, row.fraction) == ("decoupled", pytest.approx(1e-7))
    assert removed(theirs) == pytest.approx(1e-7, rel=1e-6)


def test_ways_from_here_to_torch() -> None:
    state = saved(ours(1e-4, "independent"))
    converted = copy.deepcopy(state)
    for group in converted["param_groups"]:
        number = group["weight_decay"]
        group["weight_decay"] = float(convert(number, "independent", "torch", lr=group["peak_lr"]))
    theirs = torchs()
    theirs.load_state_dict(converted)
    attached = torchs()
    attached.load_state_dict(state)
    halflife.attach(attached, attached.param_groups[0]["decay"])
    for lr in (LR, 0.25 * LR):
        for optimizer in (theirs, attached):
            optimizer.param_groups[0]["lr"] = lr
            assert removed(optimizer) == pytest.approx(1e-4 * lr / LR, rel=1e-9)


def test_where_nothing_decays_no_rule_is_replaced() -> None:
    """A warning, an error here, would speak of a decay that neither of the two has."""
    w = torch.nn.Parameter(torch.ones(2))
    saved = halflife.SGD([w], lr=0.1, decay="decoupled").state_dict()
    ours = halflife.SGD([w], lr=0.1, decay="independent")
    ours.load_state_dict(saved)
    assert ours.param_groups[0]["decay"] == halflife.Decoupled()
    decaying = halflife.SGD([w], lr=0.1, weight_decay=0.5, decay="independent")
    with pytest.warns(UserWarning, match="decoupled|Decoupled"):
        decaying.load_state_dict(saved)
