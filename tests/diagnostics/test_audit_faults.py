"""Every fault, planted alone into a healthy training, is found by its code, and nothing else is.

Each builder plants one fault; its decorator says which findings of severity warning or error must
come of it, all of them and no other, with the parameters they must name.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

import halflife
from halflife.diagnostics.auditing import CODES, audit
from halflife.groups import param_groups

STEPS = 400
FAULTS = {}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 12, bias=False)


MATRICES = {"embedding.weight", "head.weight"} | {
    f"blocks.{i}.{name}.weight" for i in (0, 1) for name in ("up", "down")
}
BIASES = {f"blocks.{i}.{name}.bias" for i in (0, 1) for name in ("norm", "up", "down")}
GAINS = {f"blocks.{i}.norm.weight" for i in (0, 1)}


def healthy(model=None, cls=torch.optim.AdamW, weight_decay=0.5, lr=1e-3, **kwargs):
    model = Net() if model is None else model
    return model, cls(param_groups(model), lr=lr, weight_decay=weight_decay, **kwargs)


def cosine(step):
    """From the peak to a tenth of it."""
    return 0.55 + 0.45 * math.cos(math.pi * step / STEPS)


def plant(*codes, names=None, **kwargs):
    """Register a builder of (model, optimizer) or (model, optimizer, more arguments)."""

    def register(build):
        arguments = {"schedule": cosine, "steps": STEPS} | kwargs
        FAULTS[build.__name__] = (build, set(codes), names or {}, arguments)
        return build

    return register


def found(result):
    return {f.code: set(f.parameters) for f in result.findings if f.severity != "info"}


def test_nothing_is_found_where_nothing_is_planted():
    model, optimizer = healthy()
    result = audit(model, optimizer, schedule=cosine, steps=STEPS, steps_per_epoch=100)
    assert found(result) == {}
    assert result.exit_code == 0


# --- which parameters ---------------------------------------------------------------------------


@plant("decayed-bias", "decayed-norm", names={"decayed-bias": BIASES, "decayed-norm": GAINS})
def everything_decays():
    model = Net()
    return model, torch.optim.AdamW(model.parameters(), weight_decay=0.5)


@plant("decayed-bias", names={"decayed-bias": BIASES})
def biases_decay():
    model = Net()
    groups = param_groups(model, overrides={"*.bias": {"weight_decay": 0.5}})
    return model, torch.optim.AdamW(groups, weight_decay=0.5)


@plant("decayed-norm", names={"decayed-norm": GAINS})
def gains_of_a_layer_norm_decay():
    model = Net()
    groups = param_groups(model, overrides={"*.norm.weight": {"weight_decay": 0.5}})
    return model, torch.optim.AdamW(groups, weight_decay=0.5)


@plant("decayed-norm", names={"decayed-norm": {"1.weight"}})
def gains_of_a_batch_norm_decay_under_sgd():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
    nn.init.zeros_(model[1].weight)  # as the last of a residual branch often is
    groups = param_groups(model, overrides={"1.weight": {"weight_decay": 5e-4}})
    return model, torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=5e-4)


class LlamaRMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))


@plant("decayed-norm", names={"decayed-norm": {"1.weight"}})
def gains_of_a_norm_of_ones_own_decay():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), LlamaRMSNorm())
    return model, torch.optim.AdamW(model.parameters(), weight_decay=0.5)


@plant("decayed-bias", names={"decayed-bias": {"0.bias"}})
def a_bias_decays_in_a_wrapped_and_compiled_model():
    model = nn.Sequential(nn.Linear(8, 8))
    wrapped = torch.compile(nn.DataParallel(model), backend="eager")
    return wrapped, torch.optim.AdamW(model.parameters(), weight_decay=0.5)


class LayerScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-4))
        self.temperature = nn.Parameter(torch.tensor(1.0))


@plant("decayed-gain", names={"decayed-gain": {"gamma", "temperature"}})
def scales_decay():
    model = LayerScale()
    return model, torch.optim.AdamW(model.parameters(), weight_decay=0.5)


@plant("decayed-gain", names={"decayed-gain": {"parametrizations.weight.original0"}})
def the_magnitudes_of_a_weight_normalization_decay():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8, bias=False))
    return model, torch.optim.AdamW(model.parameters(), weight_decay=0.5)


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Linear(8, 8, bias=False)
        self.linear = nn.Linear(8, 8, bias=False)

    def no_weight_decay(self):
        return {"table.weight"}


@plant("decayed-against-model", names={"decayed-against-model": {"table.weight"}})
def what_the_model_lists_decays():
    model = Listed()
    return model, torch.optim.AdamW(model.parameters(), weight_decay=0.5)


@plant("decayed-against-model", names={"decayed-against-model": {"weight"}})
def what_is_marked_decays():
    model = nn.Linear(8, 8, bias=False)
    model.weight._no_weight_decay = True  # as Mamba's A_log is
    return model, torch.optim.AdamW(model.parameters(), weight_decay=0.5)


@plant("undecayed-matrix", names={"undecayed-matrix": {"head.weight"}})
def a_head_does_not_decay():
    model = Net()
    groups = param_groups(model, overrides={"head.*": {"weight_decay": 0.0}})
    return model, torch.optim.AdamW(groups, weight_decay=0.5)


@plant(
    *("decayed-bias", "decayed-norm", "undecayed-matrix"),
    names={"undecayed-matrix": MATRICES - {"embedding.weight"}},
)
def the_two_groups_are_swapped():
    model = Net()
    decaying, exempt = param_groups(model)
    groups = [{**decaying, "weight_decay": 0.0}, {**exempt, "weight_decay": 0.5}]
    return model, torch.optim.AdamW(groups)


@plant("not-optimized", names={"not-optimized": {"new.weight", "new.bias"}})
def a_layer_is_added_after_the_optimizer():
    model, optimizer = healthy()
    model.new = nn.Linear(8, 8)
    return model, optimizer


@plant("stale-optimizer", "not-optimized", names={"stale-optimizer": MATRICES | BIASES | GAINS})
def the_model_is_copied_after_the_optimizer():
    model, optimizer = healthy()
    return copy.deepcopy(model), optimizer


@plant("foreign-parameter")
def the_optimizer_holds_something_else_as_well():
    model, optimizer = healthy()
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(5, 7))], "weight_decay": 0.0})
    return model, optimizer


@plant("frozen-with-gradient", names={"frozen-with-gradient": {"head.weight"}})
def a_layer_is_frozen_and_its_gradient_kept():
    model, optimizer = healthy()
    model.head.weight.grad = torch.zeros_like(model.head.weight)
    model.head.requires_grad_(False)
    return model, optimizer


@plant("duplicate-parameter", names={"duplicate-parameter": {"head.weight"}})
def two_optimizers_step_the_head():
    model, optimizer = healthy()
    return model, [optimizer, torch.optim.AdamW(model.head.parameters(), weight_decay=0.5)]


@plant("duplicate-parameter", names={"duplicate-parameter": {"weight"}})
def a_list_holds_a_parameter_twice():
    model = nn.Linear(8, 8, bias=False)
    with pytest.warns(UserWarning, match="duplicate"):
        return model, torch.optim.AdamW([model.weight, model.weight], weight_decay=0.5)


@plant("shared-memory", names={"shared-memory": {"embedding.weight", "head.weight"}})
def weights_are_tied_by_their_data():
    model = Net()
    model.head.weight = nn.Parameter(model.embedding.weight.data)
    return healthy(model)


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


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found(name):
    build, codes, names, arguments = FAULTS[name]
    model, optimizer, *more = build()
    result = audit(model, optimizer, **{**arguments, **(more[0] if more else {})})
    assert set(found(result)) == codes
    for code, parameters in names.items():
        assert found(result)[code] == parameters
    assert result.exit_code == any(CODES[code][0] == "error" for code in codes)


def test_every_code_of_an_error_or_warning_is_planted():
    planted = set().union(*(codes for _, codes, _, _ in FAULTS.values()))
    assert planted == {code for code, (severity, _) in CODES.items() if severity != "info"}
    assert len(FAULTS) >= 30
