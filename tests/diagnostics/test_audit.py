"""The audit's numbers against closed forms and real trainings; and that it only looks."""

from __future__ import annotations

import copy
import json
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

import halflife
from halflife.diagnostics.auditing import CODES, audit
from halflife.diagnostics.auditing.schedules import plan_of
from halflife.groups import param_groups
from halflife.schedules import JointScheduler, WeightDecayScheduler, exponential, linear

STEPS = 40


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4))


def trained(cls=torch.optim.AdamW, steps=3, **kwargs):
    model = net()
    optimizer = cls(param_groups(model), lr=1e-2, **{"weight_decay": 0.1, **kwargs})
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(7, 6)).square().mean().backward()
        optimizer.step()
    return model, optimizer


def row_of(result, name="0.weight"):
    return next(row for row in result.parameters if row.name == name)


# --- numbers ------------------------------------------------------------------------------------


def test_row_is_in_the_units_of_a_half_life():
    model, optimizer = trained()
    row = row_of(audit(model, optimizer, steps=5000, steps_per_epoch=50))
    d = 1e-2 * 0.1
    assert row.fraction == pytest.approx(d, rel=1e-12)
    assert (1 - d) ** row.half_life == pytest.approx(0.5, rel=1e-12)
    assert row.timescale == pytest.approx(1 / d, rel=1e-12)
    assert row.half_life_epochs == pytest.approx(row.half_life / 50, rel=1e-12)
    assert row.timescale_epochs == pytest.approx(20, rel=1e-12)
    assert row.timescale_of_training == pytest.approx(0.2, rel=1e-12)
    assert row.total_decay == pytest.approx(5.0, rel=1e-12)
    assert row.rms == pytest.approx(model[0].weight.detach().square().mean().sqrt().item())
    # AdamW's equilibrium in the random-walk model, to first order in the fraction.
    assert row.predicted_rms == pytest.approx(math.sqrt(1e-2 / (2 * 0.1)), rel=1e-2)


@pytest.mark.parametrize(
    ("rule", "fractions"),
    [
        ("decoupled", lambda lr, peak: 0.1 * lr),
        ("independent", lambda lr, peak: 0.1 * lr / peak),
        ("corrected", lambda lr, peak: 0.1 * lr * lr / peak),
        ("constant", lambda lr, peak: 0.1 * (lr > 0)),
        (halflife.Proximal("decoupled"), lambda lr, peak: 0.1 * lr / (1 + 0.1 * lr)),
    ],
)
def test_total_decay_follows_the_rule_over_the_schedule(rule, fractions):
    model, optimizer = trained(halflife.AdamW, decay=rule)
    scheduler = CosineAnnealingLR(optimizer, STEPS)
    row = row_of(audit(model, optimizer, schedule=scheduler, steps=STEPS + 1))
    lrs = [0.5e-2 * (1 + math.cos(math.pi * t / STEPS)) for t in range(STEPS)] + [0.0]
    expected = [fractions(lr, 1e-2) for lr in lrs]
    assert row.total_decay == pytest.approx(math.fsum(expected), rel=1e-9)
    assert row.fraction == pytest.approx(max(expected), rel=1e-9)


def test_weights_shrink_by_what_the_audit_says():
    """Without gradients, ``prod(1 - d_t)`` is what is left; log of it is bounded by the total."""
    model = nn.Linear(4, 4, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.0, weight_decay=0.05)
    scheduler = LambdaLR(optimizer, linear(STEPS))
    total = row_of(audit(model, optimizer, schedule=scheduler, steps=STEPS), "weight").total_decay
    start = model.weight.detach().clone()
    for _ in range(STEPS):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        scheduler.step()
    left = float((model.weight.detach() / start).mean())
    assert math.exp(-total - 0.005 * total) < left < math.exp(-total)


SCHEDULERS = {
    "cosine": lambda o: CosineAnnealingLR(o, STEPS),
    "lambda": lambda o: LambdaLR(o, linear(STEPS)),
    "one cycle": lambda o: OneCycleLR(o, max_lr=0.1, total_steps=STEPS),
    "sequence": lambda o: SequentialLR(
        o, [LinearLR(o, 0.1, 1.0, 5), ConstantLR(o, 0.5, 10), CosineAnnealingLR(o, 20)], [5, 15]
    ),
    "weight decay": lambda o: WeightDecayScheduler(o, exponential(0.9)),
    "both": lambda o: JointScheduler(o, lr=linear(STEPS), weight_decay=exponential(0.9)),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("done", [0, 7])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler_is_followed_on_a_copy(name, done):
    model, optimizer = trained()
    optimizer.param_groups[1]["lr"] = 3e-2
    scheduler = SCHEDULERS[name](optimizer)
    for _ in range(done):
        optimizer.step()
        scheduler.step()
    state = copy.deepcopy(scheduler.state_dict())
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    plan = plan_of([optimizer], scheduler, 20, None, "step", model)
    assert scheduler.state_dict() == state
    assert settings == [
        {k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups
    ]
    for step in range(20):
        for group, course in zip(optimizer.param_groups, plan.courses[0], strict=True):
            assert float(course.lrs[step]) == group["lr"]
            assert float(course.weight_decays[step]) == group["weight_decay"]
        optimizer.step()
        scheduler.step()


def test_a_schedule_by_the_epoch_moves_once_an_epoch():
    model, optimizer = trained()
    for schedule in (LambdaLR(optimizer, lambda e: 0.5**e), lambda e: 0.5**e):
        course = plan_of([optimizer], schedule, 9, 3, "epoch", model).courses[0][0]
        assert course.lrs.tolist() == [1e-2 * 0.5 ** (t // 3) for t in range(9)]


def test_learning_rates_are_those_of_the_first_group():
    model, optimizer = trained()
    optimizer.param_groups[1]["lr"] = 2e-2
    result = audit(model, optimizer, schedule=[1e-3, 4e-3, 2e-3])
    assert result.steps == 3
    assert row_of(result).total_decay == pytest.approx(0.1 * 7e-3, rel=1e-12)
    assert row_of(result, "0.bias").lr == pytest.approx(8e-3, rel=1e-12)


def test_a_schedule_that_follows_a_metric_is_taken_as_constant():
    model, optimizer = trained()
    result = audit(model, optimizer, schedule=ReduceLROnPlateau(optimizer), steps=1000)
    assert "unknown-schedule" in [f.code for f in result.findings]
    assert row_of(result).total_decay == pytest.approx(1.0, rel=1e-9)


# --- it only looks ------------------------------------------------------------------------------


def snapshot(model, optimizer, scheduler):
    return {
        "weights": [p.detach().clone() for p in model.parameters()],
        "gradients": [p.grad.clone() for p in model.parameters()],
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "scheduler": copy.deepcopy(scheduler.state_dict()),
        "random": (random.getstate(), torch.get_rng_state()),
        "numpy": np.random.get_state()[1].copy(),
    }


@pytest.mark.parametrize("cls", [torch.optim.AdamW, torch.optim.SGD, halflife.AdamW])
def test_nothing_changes_and_the_training_goes_on_bitwise(cls):
    kwargs = {"momentum": 0.9} if cls is torch.optim.SGD else {}
    ends = []
    for looked_at in (False, True):
        torch.manual_seed(3)
        model, optimizer = trained(cls, **kwargs)
        scheduler = CosineAnnealingLR(optimizer, STEPS)
        before = snapshot(model, optimizer, scheduler)
        if looked_at:
            audit(model, optimizer, schedule=scheduler, steps_per_epoch=10)
        after = snapshot(model, optimizer, scheduler)
        for x, y in zip(_flat(before), _flat(after), strict=True):
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else np.all(x == y)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(7, 6)).square().mean().backward()
            optimizer.step()
            scheduler.step()
        ends.append([p.detach().clone() for p in model.parameters()])
    for x, y in zip(*ends, strict=True):
        assert torch.equal(x, y)


def _flat(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in _flat(part)]
    return [value]


# --- reading it ---------------------------------------------------------------------------------


def test_as_dict_is_json_and_complete():
    model, optimizer = trained()
    result = audit(model, optimizer, steps=1000)
    data = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert [row["name"] for row in data["parameters"]] == [n for n, _ in model.named_parameters()]
    assert data["parameters"][0]["total_decay"] == pytest.approx(1.0)
    assert data["exit_code"] == 0
    assert {f["severity"] for f in data["findings"]} <= {"error", "warning", "info"}


def test_table_merges_equal_layers():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(12)))
    text = str(audit(model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)))
    assert "*.weight x12" in text
    assert "*.bias x12" in text
    assert "6,931 steps" in text
    assert "warning decayed-bias: " in text


def test_messages_name_value_and_remedy():
    model, _ = trained()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.125)
    for finding in audit(model, optimizer, steps=5).findings:
        assert "0.125" in finding.message
        assert ";" in finding.message
        assert finding.code in CODES


def test_findings_are_left_out_by_code():
    model, _ = trained()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    codes = [f.code for f in audit(model, optimizer, ignore=["decayed-bias"]).findings]
    assert codes == ["decayed-norm"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": 3}, "model=3 must be a torch.nn.Module"),
        ({"optimizer": 3}, "optimizer=3 must be a torch Optimizer"),
        ({"optimizer": []}, "must be a torch Optimizer"),
        ({"steps": 0}, "steps=0 must be a positive number"),
        ({"steps": 2.5}, "steps=2.5 must be a whole number"),
        ({"steps_per_epoch": -1}, "steps_per_epoch=-1 must be a positive number"),
        ({"interval": "epoch"}, "pass steps_per_epoch"),
        ({"interval": "day"}, "interval='day' must be"),
        ({"ignore": ["decayed-biases"]}, "the nearest is 'decayed-bias'"),
        ({"ignore": "decayed-bias"}, "write ['decayed-bias']"),
        ({"schedule": 3}, "schedule=3: must be a torch LRScheduler"),
        ({"schedule": lambda step: 1.0}, "pass steps="),
        ({"schedule": [1.0, -1.0]}, "finite learning rates >= 0"),
        ({"schedule": [1.0, 1.0], "steps": 3}, "schedule has 2 learning rates"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    model, optimizer = trained(steps=0)
    arguments = {"model": model, "optimizer": optimizer, **change}
    with pytest.raises((TypeError, ValueError)) as error:
        audit(arguments.pop("model"), arguments.pop("optimizer"), **arguments)
    assert words in str(error.value)


def test_a_scheduler_without_length_needs_one():
    model, optimizer = trained(steps=0)
    with pytest.raises(ValueError, match="pass steps="):
        audit(model, optimizer, schedule=LambdaLR(optimizer, linear(5)))


# --- notes --------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self, tied=False):
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.body = nn.Linear(4, 4)
        if tied:
            self.head.weight = self.embedding.weight


def with_note(code):
    """A model, its groups and arguments to which this note belongs."""
    model, arguments = Tied(tied=code == "tied-parameter"), {}
    groups = param_groups(model)
    if code == "frozen-parameter":
        model.body.requires_grad_(False)
    elif code == "undecayed-embedding":
        groups = param_groups(model, "norm-bias-and-embedding-free")
    elif code == "weak-decay":
        arguments = {"steps": 500}
    elif code == "fading-decay":
        arguments = {"schedule": linear(2000), "steps": 2000}
    elif code == "uneven-timescales":
        groups = [{"params": [model.head.weight], "lr": 1.0}, {"params": [model.body.weight]}]
    return model, groups, arguments


NOTES = ["tied-parameter", "frozen-parameter", "undecayed-embedding", "weak-decay"]


@pytest.mark.parametrize("code", [*NOTES, "fading-decay", "uneven-timescales"])
def test_note_is_made_and_not_without_its_cause(code):
    model, groups, arguments = with_note(code)
    optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)
    assert code in [f.code for f in audit(model, optimizer, **arguments).of("info")]
    model, groups, _ = with_note("")
    optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)
    assert not audit(model, optimizer, steps=2000).findings


def test_a_strength_resolved_at_another_lr_is_found():
    model = net()
    half_life = halflife.HalfLife(steps=100)
    optimizer = halflife.AdamW(param_groups(model), lr=1e-3, weight_decay=half_life)
    scheduler = OneCycleLR(optimizer, max_lr=4e-3, total_steps=200)
    result = audit(model, optimizer, schedule=scheduler)
    assert "other-peak" in [f.code for f in result.warnings]
    assert row_of(result).half_life == pytest.approx(25, rel=0.02)  # four times as fast as asked
    assert not audit(model, optimizer, schedule=[1e-3] * 200).findings


def test_decay_that_is_no_fraction_is_noted():
    model = net()
    rule = halflife.ProximalL1()
    optimizer = halflife.AdamW(param_groups(model), weight_decay=0.1, decay=rule)
    result = audit(model, optimizer, steps=1000)
    assert [f.code for f in result.findings] == ["unknown-decay"]
    assert row_of(result).decays
    assert row_of(result).fraction is None


def test_one_finding_says_what_holds_of_many_groups():
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(5)))
    groups = [{"params": list(m.parameters()), "lr": 1e-5} for m in model]
    (finding,) = audit(model, torch.optim.AdamW(groups, weight_decay=0.1), steps=100).findings
    assert finding.code == "inert-decay"
    assert "4 more like it" in finding.message


def test_wrappers_of_optimizers_and_schedulers_are_looked_into():
    class Wrapper(torch.optim.Optimizer):
        """As accelerate's: its groups are those of the optimizer inside."""

        def __init__(self, optimizer):
            self.optimizer = optimizer
            self.param_groups, self.state = optimizer.param_groups, optimizer.state
            self.defaults = optimizer.defaults

    class Scheduler:
        def __init__(self, scheduler):
            self.scheduler = scheduler

    model, optimizer = trained()
    scheduler = LambdaLR(optimizer, linear(500))
    direct = audit(model, optimizer, schedule=scheduler, steps=500)
    wrapped = audit(model, Wrapper(optimizer), schedule=Scheduler(scheduler), steps=500)
    assert direct.as_dict() == wrapped.as_dict()
