"""Faults in which parameters decay, and in which of them the optimizer holds."""

from __future__ import annotations

import copy

import pytest
import torch
from planting import BIASES, GAINS, MATRICES, Net, healthy, plant
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from halflife.groups import param_groups


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


class Rescaled(nn.Module):
    """A norm by what it does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((8,), 0.2))

    def forward(self, x):
        return self.weight * x / x.square().mean(-1, keepdim=True).sqrt()


@plant("decayed-norm", names={"decayed-norm": {"1.weight"}})
def small_gains_of_a_trained_norm_decay():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), Rescaled())
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


@plant("unread-lr-scale")
def layer_wise_lr_is_a_key_that_nothing_reads():
    model = Net()
    decaying, exempt = param_groups(model)
    groups = [{**decaying, "lr_scale": 0.5}, {**exempt, "lr_scale": 1.0}]  # as timm's function does
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.5)
    return model, optimizer, {"schedule": CosineAnnealingLR(optimizer, 400, eta_min=1e-4)}
