"""Schedulers on torch's optimizers: alone, beside torch's own schedulers, resumed."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)

import torch_versions
from curves import RESTARTS, every_curve
from halflife.schedules import (
    Curve,
    CurveLR,
    JointScheduler,
    WeightDecayScheduler,
    cosine,
    cosine_warm_restarts,
    linear,
    log_time,
    normalized_decay,
    warmup,
)


def make_optimizer(cls: type[torch.optim.Optimizer] = torch.optim.AdamW) -> torch.optim.Optimizer:
    """Two groups: one with the defaults, one with its own lr and without decay."""
    a, b = (torch.ones(3, requires_grad=True) for _ in range(2))
    groups = [{"params": [a]}, {"params": [b], "lr": 0.25, "weight_decay": 0.0}]
    return cls(groups, lr=0.5, weight_decay=0.125)  # type: ignore[call-arg, arg-type]


def advance(
    optimizer: torch.optim.Optimizer, *schedulers: LRScheduler | WeightDecayScheduler
) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.sin(torch.arange(3.0)) * p.detach()
    optimizer.step()
    for scheduler in schedulers:
        scheduler.step()


def column(optimizer: torch.optim.Optimizer, key: str) -> list[float]:
    return [float(group[key]) for group in optimizer.param_groups]


def plain_round_trip(state: dict[str, Any]) -> dict[str, Any]:
    """Through a file, with the default of ``torch.load``, which refuses all but plain data."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return dict(torch.load(buffer))


@every_curve
@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW, torch.optim.NAdam])
def test_both_keys_follow_base_times_curve(curve: Curve, cls: type[torch.optim.Optimizer]) -> None:
    optimizer = make_optimizer(cls=cls)
    lr, wd = CurveLR(optimizer, curve), WeightDecayScheduler(optimizer, cosine(9))
    for t in range(25):
        assert column(optimizer, "lr") == lr.get_last_lr() == [0.5 * curve(t), 0.25 * curve(t)]
        expected = [0.125 * cosine(9)(t), 0.0]
        assert column(optimizer, "weight_decay") == wd.get_last_value() == expected
        advance(optimizer, lr, wd)


def test_restarts_agree_with_torch_when_an_epoch_is_one_step() -> None:
    ours, theirs = make_optimizer(), make_optimizer()
    a = CurveLR(ours, cosine_warm_restarts(3, 2, steps_per_epoch=1))
    b = CosineAnnealingWarmRestarts(theirs, T_0=3, T_mult=2)
    for _ in range(25):
        assert column(ours, "lr") == pytest.approx(column(theirs, "lr"), rel=1e-12, abs=1e-15)
        advance(ours, a)
        advance(theirs, b)


@every_curve
def test_curve_lr_is_bitwise_lambda_lr(curve: Curve) -> None:
    ours, theirs = make_optimizer(), make_optimizer()
    a, b = CurveLR(ours, curve), LambdaLR(theirs, curve)
    for _ in range(15):
        advance(ours, a)
        advance(theirs, b)
        assert a.get_last_lr() == b.get_last_lr()
    assert [g["params"][0].tolist() for g in ours.param_groups] == [
        g["params"][0].tolist() for g in theirs.param_groups
    ]


TORCH_SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], LRScheduler]] = {
    "cosine": lambda o: CosineAnnealingLR(o, T_max=8),
    "steps": lambda o: MultiStepLR(o, [2, 5]),
    "one cycle": lambda o: OneCycleLR(o, max_lr=0.5, total_steps=20),
    "chained": lambda o: ChainedScheduler([LinearLR(o, 0.1, total_iters=3), ExponentialLR(o, 0.9)]),
    "sequential": lambda o: SequentialLR(o, [LinearLR(o), CosineAnnealingLR(o, 9)], [4]),
}


@pytest.mark.parametrize("build", TORCH_SCHEDULERS.values(), ids=TORCH_SCHEDULERS.keys())
@pytest.mark.parametrize("decay_first", [True, False])
def test_weight_decay_beside_any_torch_scheduler(
    build: Callable[[torch.optim.Optimizer], LRScheduler], decay_first: bool
) -> None:
    optimizer, alone = make_optimizer(cls=torch.optim.SGD), make_optimizer(cls=torch.optim.SGD)
    wd = WeightDecayScheduler(optimizer, linear(12)) if decay_first else None
    lr = build(optimizer)
    wd = wd or WeightDecayScheduler(optimizer, linear(12))
    reference = build(alone)
    for t in range(15):
        assert column(optimizer, "lr") == column(alone, "lr")
        assert column(optimizer, "weight_decay") == [0.125 * linear(12)(t), 0.0]
        assert column(alone, "weight_decay") == [0.125, 0.0]
        advance(optimizer, *((wd, lr) if decay_first else (lr, wd)))
        advance(alone, reference)
    # The group without decay went the same way; the other one did not.
    free, decayed = optimizer.param_groups[1], optimizer.param_groups[0]
    assert torch.equal(free["params"][0], alone.param_groups[1]["params"][0])
    assert not torch.equal(decayed["params"][0], alone.param_groups[0]["params"][0])


def test_weight_decay_leaves_no_trace_in_the_groups() -> None:
    optimizer, untouched = make_optimizer(), make_optimizer()
    WeightDecayScheduler(optimizer, cosine(4))
    assert [set(g) for g in optimizer.param_groups] == [set(g) for g in untouched.param_groups]


def test_the_weights_follow_the_product_of_the_scheduled_fractions() -> None:
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([w], lr=0.5, weight_decay=0.125)
    scheduler = JointScheduler(optimizer, lr=warmup(2, cosine(8)), weight_decay=log_time(4))
    expected = 1.0
    for t in range(10):
        w.grad = torch.zeros_like(w)
        optimizer.step()
        scheduler.step()
        expected *= 1 - 0.5 * warmup(2, cosine(8))(t) * 0.125 / (1 + t / 4)
    assert w.tolist() == pytest.approx([expected] * 3, rel=1e-13)


def test_curve_lr_inside_sequential_lr_is_a_warmup() -> None:
    optimizer = make_optimizer()
    rise = LinearLR(optimizer, start_factor=0.25, total_iters=4)
    sequence = SequentialLR(optimizer, [rise, CurveLR(optimizer, cosine(6))], milestones=[4])
    curve = warmup(4, cosine(6), start=0.25)
    for t in range(12):
        assert column(optimizer, "lr") == pytest.approx(
            [0.5 * curve(t), 0.25 * curve(t)], abs=1e-15
        )
        advance(optimizer, sequence)


def test_joint_scheduler_is_warm_restarts_with_normalized_decay() -> None:
    optimizer = make_optimizer()
    scheduler = JointScheduler(optimizer, lr=RESTARTS, weight_decay=normalized_decay(RESTARTS))
    assert isinstance(scheduler, LRScheduler)
    for t in range(45):
        assert column(optimizer, "lr")[0] == 0.5 * RESTARTS(t)
        steps = 6 if t < 6 else 12 if t < 18 else 24 if t < 42 else 48
        assert column(optimizer, "weight_decay") == pytest.approx([0.125 / math.sqrt(steps), 0.0])
        before = optimizer.state_dict()["state"]
        count = before[0]["step"].item() if before else 0.0
        advance(optimizer, scheduler)
        # Moments and step counts are kept across restarts.
        assert optimizer.state_dict()["state"][0]["step"].item() == count + 1


# Tensors, late groups, resuming


def test_tensor_entries_are_written_in_place() -> None:
    lr, wd = torch.tensor(0.5), torch.tensor(0.125)
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [w], "lr": lr, "weight_decay": wd}])
    scheduler = JointScheduler(optimizer, lr=cosine(9), weight_decay=linear(9))
    for t in range(10):
        assert optimizer.param_groups[0]["lr"] is lr
        assert optimizer.param_groups[0]["weight_decay"] is wd
        assert lr.item() == pytest.approx(0.5 * cosine(9)(t), rel=1e-6, abs=1e-9)
        assert wd.item() == pytest.approx(0.125 * linear(9)(t), rel=1e-6, abs=1e-9)
        optimizer.step()
        scheduler.step()
    plain_round_trip(scheduler.state_dict())


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_late_group_starts_from_its_own_base(as_tensor: bool) -> None:
    def value(x: float) -> float | torch.Tensor:
        return torch.tensor(x) if as_tensor else x

    a, b, c = (torch.ones(3, requires_grad=True) for _ in range(3))
    optimizer = torch.optim.SGD([a], lr=value(0.5), weight_decay=value(0.125))
    scheduler = JointScheduler(optimizer, lr=linear(8), weight_decay=linear(4))
    advance(optimizer, scheduler)
    state = copy.deepcopy(scheduler.state_dict())
    earlier = scheduler.state_dict()
    # The second group shares the defaults, which for tensors is one object already written to.
    optimizer.add_param_group({"params": [b]})
    optimizer.add_param_group({"params": [c], "lr": value(0.25), "weight_decay": value(0.5)})
    advance(optimizer, scheduler)
    assert column(optimizer, "lr") == [0.5 * 0.75, 0.5 * 0.75, 0.25 * 0.75]
    assert column(optimizer, "weight_decay") == [0.125 * 0.5, 0.125 * 0.5, 0.5 * 0.5]
    assert scheduler.get_last_lr() == column(optimizer, "lr")
    if as_tensor and not torch_versions.LAST_LR_IS_A_COPY:
        del earlier["_last_lr"], state["_last_lr"]
    assert earlier == state


def build_joint() -> tuple[torch.optim.Optimizer, JointScheduler]:
    optimizer = make_optimizer()
    return optimizer, JointScheduler(
        optimizer, lr=warmup(3, RESTARTS), weight_decay=normalized_decay(RESTARTS)
    )


@pytest.mark.parametrize("stop", [0, 1, 3, 7, 8, 9, 20])
def test_resuming_equals_not_stopping(stop: int) -> None:
    straight, scheduler = build_joint()
    for _ in range(stop):
        advance(straight, scheduler)
    weights = [g["params"][0].detach().clone() for g in straight.param_groups]
    saved = plain_round_trip({"o": straight.state_dict(), "s": scheduler.state_dict()})

    resumed, scheduler_2 = build_joint()
    for group, weight in zip(resumed.param_groups, weights, strict=True):
        group["params"][0].data.copy_(weight)
    resumed.load_state_dict(saved["o"])
    scheduler_2.load_state_dict(saved["s"])
    for _ in range(15):
        for key in ("lr", "weight_decay"):
            assert column(straight, key) == column(resumed, key)
        advance(straight, scheduler)
        advance(resumed, scheduler_2)
    for a, b in zip(straight.param_groups, resumed.param_groups, strict=True):
        assert torch.equal(a["params"][0], b["params"][0])


@pytest.mark.parametrize("optimizer_first", [True, False])
def test_loading_order_does_not_matter_for_weight_decay(optimizer_first: bool) -> None:
    optimizer = make_optimizer()
    scheduler = WeightDecayScheduler(optimizer, cosine(9, start=0.5))
    for _ in range(4):
        advance(optimizer, scheduler)
    saved_optimizer, saved = optimizer.state_dict(), plain_round_trip(scheduler.state_dict())

    fresh = make_optimizer()
    if optimizer_first:
        fresh.load_state_dict(saved_optimizer)
    again = WeightDecayScheduler(fresh, cosine(9, start=0.5))
    again.load_state_dict(saved)
    assert column(fresh, "weight_decay") == column(optimizer, "weight_decay")
    if not optimizer_first:
        fresh.load_state_dict(saved_optimizer)
    assert column(fresh, "weight_decay") == column(optimizer, "weight_decay")
    assert again.base_values == [0.125, 0.0]
    assert again.state_dict() == saved


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_deepcopy_and_pickle_continue(clone: Callable[[Any], Any]) -> None:
    optimizer, scheduler = build_joint()
    for _ in range(5):
        advance(optimizer, scheduler)
    twin = clone(scheduler)
    assert twin.optimizer is twin.weight_decay.optimizer is not optimizer
    for _ in range(8):
        advance(optimizer, scheduler)
        advance(twin.optimizer, twin)
        assert column(optimizer, "lr") == column(twin.optimizer, "lr")
        assert column(optimizer, "weight_decay") == column(twin.optimizer, "weight_decay")


def test_stepping_before_the_optimizer_warns_as_torch_does() -> None:
    scheduler = CurveLR(make_optimizer(), cosine(4))
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()


def test_an_older_state_into_a_scheduler_that_has_moved() -> None:
    """A group that the state does not know keeps its base, not what the schedule made of it."""
    optimizer = make_optimizer()
    scheduler = WeightDecayScheduler(optimizer, cosine(8))
    bases = scheduler.base_values
    older = {"last_step": 2, "base_values": bases[:1]}
    optimizer.param_groups[1]["weight_decay"] = 0.5
    scheduler = WeightDecayScheduler(optimizer, cosine(8))
    for _ in range(5):
        advance(optimizer, scheduler)
    scheduler.load_state_dict(older)
    multiplier = cosine(8)(2)
    assert column(optimizer, "weight_decay") == [bases[0] * multiplier, 0.5 * multiplier]
    assert scheduler.state_dict() == {"last_step": 2, "base_values": [bases[0], 0.5]}
