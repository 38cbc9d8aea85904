"""Faults in what the optimizer makes of the decay, in how much it is, and in when."""

from __future__ import annotations

import copy

import torch
from planting import MATRICES, STEPS, Net, cosine, healthy, plant
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

import halflife
from halflife.groups import param_groups

# --- what the optimizer makes of it -------------------------------------------------------------


@plant("decay-has-no-effect")
def an_optimizer_without_decay_is_given_one():
    model = Net()
    decaying, exempt = param_groups(model)
    return model, torch.optim.Rprop([{**decaying, "weight_decay": 0.5}, exempt])


class Forgetful(torch.optim.SGD):
    """Accepts a weight_decay and drops it."""

    def step(self, closure=None):
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            group["weight_decay"] = 0.0
        super().step(closure)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay


@plant("decay-has-no-effect")
def an_optimizer_drops_its_decay():
    return healthy(cls=Forgetful, weight_decay=0.1)


@plant("misspelled-key")
def a_group_says_wd():
    model = Net()
    groups = [{"params": list(model.parameters()), "wd": 0.5}]
    return model, torch.optim.AdamW(groups, weight_decay=0.0)


@plant("misspelled-key")
def a_group_says_weight_deacy():
    model = Net()
    groups = [{"params": list(model.parameters()), "weight_deacy": 0.5}]
    return model, torch.optim.AdamW(groups, weight_decay=0.0)


@plant("invalid-weight-decay")
def a_group_decays_by_less_than_nothing():
    model = Net()
    groups = [{"params": list(model.parameters()), "weight_decay": -0.1}]
    return model, torch.optim.AdamW(groups)


@plant("name-mismatch", "coupled-l2")
def a_flag_makes_adamw_adam():
    model, optimizer = healthy()
    for group in optimizer.param_groups:
        group["decoupled_weight_decay"] = False
    return model, optimizer


@plant("coupled-l2")
def adam_takes_the_decay_of_adamw():
    return healthy(cls=torch.optim.Adam)


@plant("coupled-l2")
def our_own_adam_takes_it_too():
    return healthy(cls=halflife.Adam)


@plant("coupled-l2")
def rmsprop_has_l2():
    return healthy(cls=torch.optim.RMSprop)


@plant("coupled-l2")
def radam_adapts_only_after_its_first_steps():
    return healthy(cls=torch.optim.RAdam)


@plant("name-mismatch")
def a_checkpoint_of_adamw_is_loaded_into_adam():
    model, optimizer = healthy(cls=torch.optim.Adam)
    optimizer.load_state_dict(healthy(copy.deepcopy(model))[1].state_dict())
    return model, optimizer


class SGDW(torch.optim.SGD):
    """Decoupled only by name."""


@plant("name-mismatch")
def an_sgdw_is_sgd():
    return healthy(cls=SGDW, momentum=0.9, weight_decay=5e-2)


@plant("group-name-mismatch", "decayed-bias", "decayed-norm")
def the_group_without_decay_inherits_it():
    model = Net()
    decaying, exempt = param_groups(model)
    del exempt["weight_decay"]
    return model, torch.optim.AdamW([decaying, {**exempt, "name": "no_decay"}], weight_decay=0.5)


@plant("overridden-decay")
def every_group_overrides_the_decay():
    model = Net()
    return model, torch.optim.AdamW(param_groups(model, "none"), weight_decay=0.5)


@plant("overridden-decay")
def every_group_overrides_a_strength():
    model = Net()
    strength = halflife.HalfLife(steps=1000)
    return model, halflife.AdamW(param_groups(model, "none"), weight_decay=strength)


# --- how much, and when -------------------------------------------------------------------------


@plant("sign-flip")
def lr_times_decay_is_above_one():
    return healthy(lr=0.1, weight_decay=15.0)


@plant("large-fraction")
def an_independent_rule_gets_the_number_of_torch():
    return healthy(cls=halflife.AdamW, decay="independent", weight_decay=0.1)


@plant("short-timescale", steps_per_epoch=150)
def the_timescale_is_shorter_than_an_epoch():
    return healthy(weight_decay=10.0)  # 100 steps


@plant("inert-decay")
def a_fine_tuning_decays_by_nothing():
    return healthy(lr=2e-5, weight_decay=0.01)


@plant("lost-in-precision", names={"lost-in-precision": MATRICES})
def bfloat16_weights():
    return healthy(Net().bfloat16())


@plant("lost-in-precision", names={"lost-in-precision": MATRICES})
def float16_weights_under_foreach():
    return healthy(Net().half(), lr=1e-4, weight_decay=1.0, foreach=True, eps=1e-4)


@plant("lost-in-precision", names={"lost-in-precision": MATRICES})
def bfloat16_weights_with_tiny_updates_under_fused():
    return healthy(Net().bfloat16(), lr=1e-5, weight_decay=10.0, fused=True)


@plant("lr-above-peak", schedule=None)
def one_cycle_goes_above_the_peak():
    model, optimizer = healthy(cls=halflife.AdamW, decay="corrected", lr=1e-4)
    return model, optimizer, {"schedule": OneCycleLR(optimizer, max_lr=1e-3, total_steps=STEPS)}


@plant("peak-not-reached")
def the_peak_is_never_reached():
    return healthy(cls=halflife.AdamW, decay="independent", weight_decay=1e-3, peak_lr=1e-2)


@plant("other-peak", schedule=None)
def one_cycle_makes_a_half_life_ten_times_shorter():
    half_life = halflife.HalfLife(steps=1000)
    model, optimizer = healthy(cls=halflife.AdamW, lr=1e-3, weight_decay=half_life)
    return model, optimizer, {"schedule": OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)}


@plant("other-peak", schedule=None)
def an_lr_is_raised_by_hand_after_construction():
    half_life = halflife.HalfLife(steps=1000)
    model, optimizer = healthy(cls=halflife.AdamW, lr=1e-3, weight_decay=half_life)
    for group in optimizer.param_groups:
        group["lr"] = 2e-3
    return model, optimizer


@plant("decay-outlives-lr")
def a_constant_decay_under_a_schedule_that_ends_at_zero():
    model, optimizer = healthy(cls=halflife.AdamW, decay="constant", weight_decay=5e-4)
    return model, optimizer, {"schedule": CosineAnnealingLR(optimizer, STEPS)}


@plant("zero-lr")
def one_group_has_no_lr():
    model = Net()
    decaying, exempt = param_groups(model)
    return model, torch.optim.AdamW([{**decaying, "lr": 0.0}, exempt], weight_decay=0.5)


@plant("foreign-scheduler")
def the_scheduler_drives_another_optimizer():
    model, optimizer = healthy()
    other = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1e-3)
    return model, optimizer, {"schedule": LambdaLR(other, cosine)}
