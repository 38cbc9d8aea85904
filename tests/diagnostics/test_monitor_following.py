"""The monitor says where a target fell faster than decay can follow, and only there."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import nn

import halflife
from halflife.diagnostics.monitor import Monitor
from halflife.diagnostics.monitor.following import Following

SAID = "the target fell faster than decay can follow"


def trained(make: Any, schedule: Any, *, steps: int = 300, every: int = 20) -> Monitor:
    """A small network on noise, so that there is a gradient to the end."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
    )
    optimizer = make(halflife.param_groups(model))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: schedule(t / steps))
    monitor = Monitor(optimizer, model, every=every)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(32, 8)), torch.randint(4, (32,))).backward()
        optimizer.step()
        scheduler.step()
    return monitor


def adamw(groups: Any, **arguments: Any) -> Any:
    return torch.optim.AdamW(groups, lr=1e-2, weight_decay=1.0, **arguments)


def adamw_strong(groups: Any) -> Any:
    return torch.optim.AdamW(groups, lr=1e-2, weight_decay=10.0)


def sgd(groups: Any) -> Any:
    return halflife.SGD(groups, 0.1, 0.9, weight_decay=0.1, decay="decoupled")


def corrected(groups: Any) -> Any:
    return halflife.AdamW(groups, 1e-2, weight_decay=1.0, decay="corrected")


def cosine(at: float, floor: float = 0.0) -> float:
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * at))


@pytest.mark.parametrize("make", [adamw, sgd])
@pytest.mark.parametrize("schedule", [cosine, lambda at: 1.0 - at], ids=["cosine", "linear"])
def test_after_a_schedule_that_ends_at_zero_it_is_said(make: Any, schedule: Any) -> None:
    monitor = trained(make, schedule)
    *_, last = monitor.table().split("\n")
    assert last.startswith("decayed, 0.weight, 3.weight: ")
    assert SAID in last
    by_name = {r["name"]: r for r in monitor.history[-7:]}
    assert SAID in by_name["decayed"]["note"]
    assert by_name["1.weight"]["note"] == ""  # it does not decay


def test_at_an_lr_of_zero_there_is_no_prediction_and_the_reason() -> None:
    table = trained(adamw, lambda at: 0.0 if at > 0.98 else 1.0 - at).table()
    assert f"{SAID}: to 0 % in the last" in table


@pytest.mark.parametrize(
    ("make", "schedule"),
    [
        (adamw, lambda at: 1.0),
        (adamw_strong, lambda at: cosine(at, 0.1)),  # relaxes in 50 steps even at the end
        (corrected, cosine),  # its target stays
        (adamw, lambda at: at),  # rises
    ],
    ids=["constant", "cosine to a tenth", "corrected", "warm-up"],
)
def test_where_decay_follows_nothing_is_said(make: Any, schedule: Any) -> None:
    monitor = trained(make, schedule)
    assert not [r for r in monitor.history if SAID in r["note"]]


def test_the_bound_is_what_decay_alone_leaves() -> None:
    """d = 0.01: after n steps 0.99^n is left; a target just above a tenth below that is reached."""
    left = 0.99**50
    for factor, said in ((left / 1.09, False), (left / 1.11, True)):
        following = Following()
        assert following.at("w", 10, 0.01, 2.0) == ""
        assert bool(following.at("w", 60, 0.01, 2.0 * factor)) is said
    following = Following()
    following.at("w", 10, 0.01, 2.0)
    text = following.at("w", 60, 0.01, 0.02)
    assert text == (
        f"{SAID}: to 1 % in the last 50 steps, in which decay alone leaves 60.5 % of a weight."
    )


def test_between_two_samples_the_decay_is_not_taken_for_less_than_it_was() -> None:
    """The fraction fell with the lr: the larger of the two bounds what decay could do."""
    following = Following()
    following.at("w", 0, 0.1, 1.0)
    assert following.at("w", 10, 0.001, 0.9**10) == ""


def test_a_restart_begins_anew() -> None:
    following = Following()
    following.at("w", 0, 1e-4, 1.0)
    assert following.at("w", 100, 1e-8, 0.01)
    assert following.at("w", 101, 1e-4, 1.0) == ""
    assert following.at("w", 102, 1e-4, 0.999) == ""


def test_a_resumed_run_goes_on_from_what_it_knew() -> None:
    first, second = Following(), Following()
    first.at("w", 0, 1e-4, 1.0)
    second.load(json.loads(json.dumps(first.state())))
    assert second.at("w", 100, 1e-8, 0.01) == first.at("w", 100, 1e-8, 0.01) != ""
    old = Following()
    old.load({})  # a state of before
    assert old.at("w", 100, 1e-8, 0.01) == ""
