"""A strength and the lr at which it became a number: what the steps remove, and who says so."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    OneCycleLR,
    SequentialLR,
)

import halflife
from halflife import Cautious, HalfLife, Proximal, TotalDecay, describe
from halflife.diagnostics import audit
from halflife.rules.step import Step

STEPS = 40
RAISED = {
    "one cycle": lambda o: OneCycleLR(o, max_lr=1e-2, total_steps=STEPS, cycle_momentum=False),
    "a multiplier above 1": lambda o: LambdaLR(o, lambda t: 10.0 * min(1.0, t / 10)),
    "cyclic": lambda o: CyclicLR(o, 1e-3, 1e-2, step_size_up=10, cycle_momentum=False),
    "chained": lambda o: ChainedScheduler(
        [LambdaLR(o, lambda t: 10.0 * min(1.0, t / 10)), ExponentialLR(o, 0.999)], optimizer=o
    ),
    "in sequence": lambda o: SequentialLR(
        o, [LambdaLR(o, lambda t: 0.1), LambdaLR(o, lambda t: 10.0)], [10]
    ),
}
# Rules under which a step at the higher lr removes more than the strength asked for.
STRAYING = {
    "decoupled": "decoupled",
    "proximal": Proximal(),
    "cautious": Cautious("decoupled"),
    "stable": "stable",
}


def build(rule: Any, decay: Any, **settings: Any) -> tuple[Any, Any]:
    model = torch.nn.Linear(2, 2, bias=False).double()
    torch.nn.init.ones_(model.weight)
    cls = halflife.SGD if rule == "stable" else halflife.AdamW
    given = {"lr": 1e-3, **settings}
    return model, cls(model.parameters(), weight_decay=decay, decay=rule, **given)


def train(model: Any, optimizer: Any, scheduler: Any = None, steps: int = STEPS) -> list[str]:
    """Steps without gradients; what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            model.weight.grad = torch.zeros_like(model.weight)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
    return [str(w.message) for w in caught if "HalfLife" in str(w.message)]


@pytest.mark.parametrize("rule", STRAYING)
@pytest.mark.parametrize("raised", RAISED)
def test_a_schedule_above_the_peak_is_said_once_in_training(raised: str, rule: str) -> None:
    model, optimizer = build(STRAYING[rule], HalfLife(steps=1000))
    (said,) = train(model, optimizer, RAISED[raised](optimizer))
    assert "HalfLife(steps=1000) of parameter group 0 became weight_decay=0.69" in said
    assert "at lr=0.001" in said
    assert "peak_lr=" in said


@pytest.mark.parametrize("rule", ["independent", "corrected"])
def test_rules_that_divide_by_the_peak_refuse_it(rule: str) -> None:
    model, optimizer = build(rule, HalfLife(steps=1000))
    with pytest.raises(ValueError, match=r"is above its peak_lr=0\.001"):
        train(model, optimizer, RAISED["one cycle"](optimizer))


@pytest.mark.parametrize("raised", RAISED)
def test_the_half_life_is_right_with_the_peak(raised: str) -> None:
    """From its definition: at the highest lr a step leaves 2^(-1/1000) of each weight."""
    model, optimizer = build("decoupled", HalfLife(steps=1000), peak_lr=1e-2)
    scheduler = RAISED[raised](optimizer)
    optimizer.param_groups[0]["lr"] = 1e-2
    assert train(model, optimizer, steps=1) == []
    assert model.weight.detach().unique().tolist() == [pytest.approx(2.0**-0.001, rel=1e-12)]
    del scheduler


SILENT: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "with the peak": ("decoupled", HalfLife(steps=1000), {"peak_lr": 1e-2}),
    "a number": ("decoupled", 0.7, {}),
    "no decay": ("decoupled", 0.0, {}),
    "a rule that does not follow the lr": ("constant", HalfLife(steps=1000), {}),
}


@pytest.mark.parametrize("case", SILENT)
def test_nothing_is_said_without_cause(case: str) -> None:
    rule, decay, settings = SILENT[case]
    model, optimizer = build(rule, decay, **settings)
    scheduler = RAISED["one cycle"](optimizer)
    result = audit(model, optimizer, schedule=scheduler, steps=STEPS, ignore=["inert-decay"])
    assert "other-peak" not in [f.code for f in result.findings]
    assert train(model, optimizer, scheduler) == []


def test_nothing_is_said_of_a_decay_that_was_turned_off() -> None:
    model, optimizer = build("decoupled", HalfLife(steps=1000))
    optimizer.param_groups[0].update(lr=1e-2, weight_decay=0.0)
    assert train(model, optimizer, steps=2) == []


@pytest.mark.slow
def test_a_strength_makes_no_more_graphs_than_its_number() -> None:
    """The look at the rate is left out of a graph."""
    counts = []
    for decay in (HalfLife(steps=1000), (1.0 - 2.0**-0.001) / 1e-3):
        torch.compiler.reset()
        model, optimizer = build("decoupled", decay, lr=torch.tensor(1e-3))
        counter = CompileCounterWithBackend("eager")
        step = torch.compile(optimizer.step, backend=counter)
        for lr in (1e-3, 5e-3, 1e-2):
            optimizer.param_groups[0]["lr"].fill_(lr)
            model.weight.grad = torch.zeros_like(model.weight)
            step()
        counts.append(counter.frame_count)
    assert counts[0] == counts[1]


def test_rounding_and_a_little_above_are_not_said() -> None:
    model, optimizer = build("decoupled", HalfLife(steps=1000))
    optimizer.param_groups[0]["lr"] = 1.19e-3
    assert train(model, optimizer, steps=2) == []
    optimizer.param_groups[0]["lr"] = 1.21e-3
    assert len(train(model, optimizer, steps=2)) == 1


def test_a_momentum_that_a_scheduler_raises_counts() -> None:
    """On SGD, Stable's rate is lr / (1 - momentum): OneCycleLR raises both."""
    model, optimizer = build("stable", HalfLife(steps=1000), peak_lr=1e-2)
    scheduler = OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)  # momentum 0.85 to 0.95
    result = audit(model, optimizer, schedule=scheduler, steps=STEPS)
    assert "other-peak" in [f.code for f in result.warnings]
    assert len(train(model, optimizer, scheduler)) == 1


def test_a_peak_written_afterwards_does_not_hide_it() -> None:
    """The number of Corrected goes with the peak at which it was made."""
    model, optimizer = build("corrected", HalfLife(steps=1000))
    optimizer.param_groups[0].update(peak_lr=1e-2, lr=1e-2)
    result = audit(model, optimizer, steps=STEPS)
    assert "other-peak" in [f.code for f in result.warnings]
    (said,) = train(model, optimizer, steps=2)
    assert "10 times" in said
    # 1 - d with d = wd lr^2 / peak, ten times what was asked
    left = (1.0 - 10.0 * (1.0 - 2.0**-0.001)) ** 2
    assert model.weight.detach().flatten()[0].item() == pytest.approx(left, rel=1e-9)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda o: pickle.loads(pickle.dumps(o)),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_know_it_too(how: str) -> None:
    _, optimizer = build("decoupled", HalfLife(steps=1000))
    other = COPIES[how](optimizer)
    (weight,) = other.param_groups[0]["params"]
    other.param_groups[0]["lr"] = 1e-2
    weight.grad = torch.zeros_like(weight)
    with pytest.warns(UserWarning, match="removes 10 times"):
        other.step()


def test_a_checkpoint_carries_it() -> None:
    _, first = build("decoupled", HalfLife(steps=1000))
    model, second = build("decoupled", HalfLife(steps=1000), lr=1e-2)
    second.load_state_dict(first.state_dict())  # the strength is the same, the peak its own
    assert train(model, second, steps=1) == []
    second.param_groups[0]["lr"] = 1e-2
    (said,) = train(model, second, steps=1)
    assert "at lr=0.001" in said


@pytest.mark.parametrize("how", ["a strength", "a rule"])
def test_what_is_written_into_a_group_is_taken_anew(how: str) -> None:
    model, optimizer = build("decoupled", HalfLife(steps=1000))
    group = optimizer.param_groups[0]
    if how == "a strength":
        group.update(weight_decay=HalfLife(steps=1000), peak_lr=1e-2, lr=1e-2)
    else:  # the number is then the other rule's, and no strength any more
        group.update(weight_decay=1e-3, decay="constant", lr=1e-2, peak_lr=1e-2)
    assert train(model, optimizer, steps=2) == []
    assert bool(describe(optimizer).groups[0].strength) is (how == "a strength")


@pytest.mark.parametrize("setting", ["group", "added later", "decayed", "compiled"])
def test_wherever_a_strength_is_given(setting: str) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    more = torch.nn.Parameter(torch.ones(3))
    decay = HalfLife(steps=1000)
    if setting == "group":
        groups = [{"params": [weight]}, {"params": [more], "weight_decay": decay}]
        optimizer: Any = halflife.AdamW(groups, lr=1e-3)
    elif setting == "added later":
        optimizer = halflife.AdamW([weight], lr=1e-3)
        optimizer.add_param_group({"params": [more], "weight_decay": decay})
    elif setting == "decayed":
        cls = halflife.decayed(torch.optim.Adagrad)
        optimizer = cls([weight], lr=1e-3, weight_decay=decay, decay="decoupled")
    else:
        optimizer = halflife.SGD([weight], 1e-3, weight_decay=decay, decay="decoupled")
        optimizer.param_groups[0]["foreach"] = False
    for group in optimizer.param_groups:
        group["lr"] = 5e-3
    weight.grad = torch.zeros(3)
    with pytest.warns(UserWarning, match="removes 5 times"):
        optimizer.step()
    assert "strength" in optimizer.param_groups[-1]


def test_a_rate_on_a_device_is_not_waited_for() -> None:
    """A tensor without data in its place: whoever looks at it raises."""
    _, optimizer = build("decoupled", HalfLife(steps=1000))
    lr = torch.empty((), device="meta")
    wish = optimizer._wish(optimizer.param_groups[0]["decay"], Step(lr, 1e-3, 0.7),
                           optimizer._known_at(0))  # fmt: skip
    assert wish.rate is lr


def test_a_tensor_lr_on_the_host_is_looked_at() -> None:
    model, optimizer = build("decoupled", HalfLife(steps=1000), lr=torch.tensor(1e-3))
    optimizer.param_groups[0]["lr"].fill_(1e-2)
    (said,) = train(model, optimizer, steps=2)
    assert "removes 10 times" in said


def test_describe_names_the_lr_that_it_calls_the_peak() -> None:
    _, optimizer = build("decoupled", HalfLife(steps=1000))
    row = describe(optimizer).groups[0]
    assert (row.peak, row.peak_lr, row.note) == ("peak_lr", 1e-3, "")
    assert row.strength == "HalfLife(steps=1000) at lr 0.001"
    OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)
    row = describe(optimizer).groups[0]
    # ln 2 / -ln(1 - 10 d) with d = 1 - 2^(-1/1000)
    half_life = math.log(2.0) / -math.log1p(-10.0 * (1.0 - 2.0**-0.001))
    assert f"the group names lr 0.01, where the half-life is {half_life:.3g} steps" in row.note
    assert "taken to be 0.001" in row.note
    assert "pass peak_lr=0.01" in row.note
    native = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1e-3)
    assert describe(native).groups[0].peak == "lr"
    assert "lr of now" in str(describe(native))


def test_the_audit_warns() -> None:
    model, optimizer = build("decoupled", HalfLife(steps=1000))
    scheduler = OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)
    findings = audit(model, optimizer, schedule=scheduler).findings
    (finding,) = [f for f in findings if f.code == "other-peak"]
    assert finding.severity == "warning"
    assert "removes 10 times what was asked; pass peak_lr=0.01" in finding.message
    model, optimizer = build("decoupled", HalfLife(steps=1000))
    lower = audit(model, optimizer, schedule=[1e-4] * STEPS, ignore=["inert-decay"])
    assert "removes only 0.1 of what was asked" in lower.warnings[0].message


def test_a_total_over_a_schedule_has_a_peak_too() -> None:
    curve = [1.0] * STEPS
    model, optimizer = build("decoupled", TotalDecay(0.1, schedule=curve))
    kept = optimizer.param_groups[0]["strength"]
    assert len(kept["of"]) < 200
    again = build("decoupled", TotalDecay(0.1, schedule=curve))[1].param_groups[0]["strength"]
    assert kept == again
    other = build("decoupled", TotalDecay(0.1, schedule=[*curve, 0.5]))[1]
    assert other.param_groups[0]["strength"]["of"] != kept["of"]
    optimizer.param_groups[0]["lr"] = 1e-2
    model.weight.grad = torch.zeros_like(model.weight)
    with pytest.warns(UserWarning, match=r"TotalDecay\(total=0.1, .*removes 10 times"):
        optimizer.step()
