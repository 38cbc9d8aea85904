"""Layer-wise learning rates in the audit: those of groups, and timm's key ``lr_scale``."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from halflife.diagnostics import audit
from halflife.groups import param_groups

LR, DECAY, STEPS = 1e-2, 0.5, 2000


def net():
    return nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)))


def by_key(model, lr=LR):
    """As timm's function and MAE's make groups."""
    return [
        {"params": [layer.weight], "lr_scale": DECAY ** (2 - i), "lr": lr}
        for i, layer in enumerate(model)
    ]


def falling(step):
    return 1.0 - step / STEPS


def audited(groups, schedule=falling, **kwargs):
    model = net()
    optimizer = torch.optim.AdamW(groups(model), lr=LR, weight_decay=0.1)
    made = schedule(optimizer) if schedule is not falling and schedule else schedule
    return audit(model, optimizer, schedule=made, steps=STEPS, **kwargs)


def fractions(result):
    return [row.fraction for row in result.parameters]


RIGHT = pytest.approx([LR * 0.1 * DECAY ** (2 - i) for i in range(3)])


def codes(result):
    return {f.code for f in result.findings}


def test_lrs_of_the_groups_are_what_they_are():
    groups = lambda model: param_groups(model, lr=LR, layer_decay=DECAY)  # noqa: E731
    for schedule in (falling, None, lambda o: LambdaLR(o, falling)):
        result = audited(groups, schedule)
        assert fractions(result) == RIGHT
        assert not result.of("warning")


def test_a_function_multiplies_what_is_not_in_the_lr_yet():
    result = audited(by_key)
    assert fractions(result) == RIGHT
    assert "unread-lr-scale" not in codes(result)


def test_a_list_of_lrs_does_too():
    model = net()
    optimizer = torch.optim.AdamW(by_key(model), lr=LR, weight_decay=0.1)
    assert fractions(audit(model, optimizer, schedule=[LR] * STEPS)) == RIGHT


def test_what_is_in_the_lr_is_not_multiplied_again():
    def groups(model):
        return [{**group, "lr": LR * group["lr_scale"]} for group in by_key(model)]

    for schedule in (falling, None, lambda o: LambdaLR(o, falling)):
        result = audited(groups, schedule)
        assert fractions(result) == RIGHT
        assert "unread-lr-scale" not in codes(result)


def test_a_timm_scheduler_that_was_built_and_not_passed():
    """It keeps the lr of all as initial_lr, and has multiplied each group's lr already."""

    def groups(model):
        return [{**g, "lr": LR * g["lr_scale"], "initial_lr": LR} for g in by_key(model)]

    result = audited(groups, None)
    assert fractions(result) == RIGHT
    assert "unread-lr-scale" not in codes(result)
    assert fractions(audited(groups)) == RIGHT


@pytest.mark.parametrize("schedule", [None, lambda o: LambdaLR(o, falling)], ids=["none", "torch"])
def test_nothing_reads_the_key_under_torchs_schedulers(schedule):
    result = audited(by_key, schedule)
    assert fractions(result) == pytest.approx([LR * 0.1] * 3)
    (finding,) = (f for f in result.findings if f.code == "unread-lr-scale")
    assert finding.message.startswith("lr_scale=0.25 of group 0: its lr is 0.01, as that of every")
    assert "layer_decay" in finding.message


def test_one_scale_for_all_is_no_layer_decay():
    groups = lambda model: [{**g, "lr_scale": 0.5} for g in by_key(model)]  # noqa: E731
    assert "unread-lr-scale" not in codes(audited(groups, None))


def test_a_lower_layers_small_decay_is_a_note_and_that_of_all_a_warning():
    def groups(lr):
        return lambda model: param_groups(model, lr=lr, layer_decay=0.01)

    result = audited(groups(1e-3), None)
    assert result.parameters[0].total_decay == pytest.approx(1e-7 * 0.1 * STEPS)
    assert "inert-decay" not in codes(result)
    assert "weak-decay" in codes(result)
    assert "inert-decay" in codes(audited(groups(1e-5), None))


def test_a_group_is_not_excused_by_one_of_another_decay():
    def groups(model):
        first, *others = param_groups(model, lr=1e-3, layer_decay=0.01)
        return [{**first, "weight_decay": 0.01}, *others]

    assert "inert-decay" in codes(audited(groups, None))
