"""Which parameters decay: policies, settings, wrappers, tied and frozen parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from halflife.groups import ParamGroups, param_groups


class LlamaRMSNorm(nn.Module):
    """A normalization that is known by its class name alone, with a gain that is not a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, 4, 1, 1))


class NormLinear(nn.Module):
    """Has "norm" in its name and is no normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))


class Net(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.tokens = nn.Embedding(5, 4)
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.LayerNorm([4, 4])
        self.rms = LlamaRMSNorm()
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.mix = NormLinear()
        self.query = nn.Parameter(torch.ones(2, 4))
        self.head = nn.Linear(4, 5)


MATRICES = {
    "conv.weight",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "mix.weight",
    "query",
    "head.weight",
}
EMBEDDINGS = {"tokens.weight"}
VECTORS = {
    "scale",
    "conv.bias",
    "attention.in_proj_bias",
    "attention.out_proj.bias",
    "head.bias",
}
# More than one dimension, and yet a bias or of a normalization layer.
SHAPED = {"norm.weight", "norm.bias", "rms.gain", "attention.bias_k", "attention.bias_v"}
EVERYTHING = MATRICES | EMBEDDINGS | VECTORS | SHAPED

DECAYED = {
    "norm-and-bias-free": MATRICES | EMBEDDINGS,
    "norm-bias-and-embedding-free": MATRICES,
    "matrices": MATRICES | EMBEDDINGS | SHAPED,
    "gpt2": MATRICES | EMBEDDINGS | SHAPED,
    "embedding-free": EVERYTHING - EMBEDDINGS,
    "olmo": EVERYTHING - EMBEDDINGS,
    "muon": MATRICES | EMBEDDINGS,
    "all": EVERYTHING,
    "none": set(),
}


def decayed(groups: ParamGroups) -> set[str]:
    return {d.name for d in groups.decisions if d.decays}


def names_of(groups: ParamGroups, model: nn.Module) -> list[set[str]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return [{names[id(p)] for p in group["params"]} for group in groups]


# Policies


def test_the_model_has_all_kinds() -> None:
    assert {name for name, _ in Net().named_parameters()} == EVERYTHING


@pytest.mark.parametrize(("policy", "expected"), DECAYED.items())
def test_policy(policy: str, expected: set[str]) -> None:
    model = Net()
    groups = param_groups(model, policy)
    assert decayed(groups) == expected
    if policy == "muon":
        return  # whose groups are of two kinds: test_layer_decay
    with_decay = [group for group in groups if "weight_decay" not in group]
    without = [group for group in groups if group.get("weight_decay") == 0.0]
    assert len(with_decay) == bool(expected)
    assert len(without) == bool(EVERYTHING - expected)
    assert names_of(groups, model) == [part for part in (expected, EVERYTHING - expected) if part]


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = Net()
    grouped = [id(p) for group in param_groups(model) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm1d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm([2, 4]),
        nn.RMSNorm([2, 4]),
        LlamaRMSNorm(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_normalization_layers_are_found_by_type_or_name(layer: nn.Module) -> None:
    groups = param_groups(nn.Sequential(layer))
    assert decayed(groups) == set()
    first = groups.decisions[0]
    assert first.reason == f"normalization layer {type(layer).__name__}"


def test_recurrent_biases_and_matrices() -> None:
    assert decayed(param_groups(nn.LSTM(3, 4))) == {"weight_ih_l0", "weight_hh_l0"}


def test_reasons() -> None:
    reasons = {d.name: d.reason for d in param_groups(Net()).decisions}
    assert reasons["conv.weight"] == "4-d parameter of Conv2d"
    assert reasons["conv.bias"] == "bias of Conv2d"
    assert reasons["rms.gain"] == "normalization layer LlamaRMSNorm"
    assert reasons["scale"] == "0-d parameter of Net"
    assert reasons["query"] == "2-d parameter of Net"
    olmo = {d.name: d.reason for d in param_groups(Net(), "olmo").decisions}
    assert olmo["tokens.weight"] == "embedding Embedding"


# Settings


def test_given_settings_reach_the_groups() -> None:
    decay, no_decay = param_groups(Net(), weight_decay=0.1, lr=0.01)
    assert (decay["weight_decay"], decay["lr"]) == (0.1, 0.01)
    assert (no_decay["weight_decay"], no_decay["lr"]) == (0.0, 0.01)


def test_a_strength_is_handed_on_as_it_is() -> None:
    strength = object()
    assert param_groups(Net(), weight_decay=strength)[0]["weight_decay"] is strength


def test_zero_weight_decay_is_one_group_and_says_so() -> None:
    groups = param_groups(Net(), weight_decay=0.0)
    assert len(groups) == 1
    assert decayed(groups) == set()
    assert {d.reason for d in groups.decisions if d.name in MATRICES} == {"weight_decay is 0"}


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_torch_decays_exactly_what_the_table_says(cls: type[torch.optim.Optimizer]) -> None:
    model = Net()
    for p in model.parameters():
        nn.init.constant_(p, 0.5)
        p.grad = torch.zeros_like(p)
    groups = param_groups(model)
    cls(groups, lr=0.1, weight_decay=0.1).step()  # type: ignore[call-arg]
    moved = {name for name, p in model.named_parameters() if not torch.all(p == 0.5)}
    assert moved == decayed(groups) == MATRICES | EMBEDDINGS


def test_named_groups_put_names_into_the_state_dict() -> None:
    groups = param_groups(nn.DataParallel(nn.Linear(2, 2)), named=True)
    optimizer = torch.optim.SGD(groups, lr=0.1)
    assert [g["param_names"] for g in optimizer.state_dict()["param_groups"]] == [
        ["weight"],
        ["bias"],
    ]


# Wrappers, ties, frozen parameters


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": compiled,
    "data parallel": nn.DataParallel,
    "compiled in data parallel": lambda model: nn.DataParallel(compiled(model)),
    "data parallel in compiled": lambda model: compiled(nn.DataParallel(model)),
    "twice": lambda model: nn.DataParallel(nn.DataParallel(model)),
    "checkpointed": checkpoint_wrapper,
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_wrappers_change_nothing(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = Net()
    overrides = {"head.*": {"lr": 0.5}, "norm.weight": {"weight_decay": 0.5}}
    expected, wrapped = param_groups(model, "matrices", overrides), wrap(model)
    groups = param_groups(wrapped, "matrices", overrides)
    assert str(groups) == str(expected)
    assert groups.decisions == expected.decisions
    assert names_of(groups, model) == names_of(expected, model)


def test_inner_wrappers_are_removed_from_names() -> None:
    model = nn.Sequential(compiled(nn.Linear(2, 2)), checkpoint_wrapper(nn.Linear(2, 2)))
    assert [d.name for d in param_groups(model).decisions] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
    ]


def test_a_child_called_module_keeps_its_name_beside_others() -> None:
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    names = [d.name for d in param_groups(model).decisions]
    assert names == ["module.weight", "module.bias", "head.weight", "head.bias"]


def tied() -> Net:
    model = Net()
    model.head.weight = model.tokens.weight
    return model


def test_a_tied_embedding_follows_the_head() -> None:
    for policy in ("norm-bias-and-embedding-free", "olmo"):
        groups = param_groups(tied(), policy)
        assert "tokens.weight" in decayed(groups)
        (shared,) = (d for d in groups.decisions if d.tied_names)
        assert (shared.name, shared.tied_names) == ("tokens.weight", ("head.weight",))
        assert shared.reason == "2-d parameter of Linear"
        assert "tokens.weight = head.weight" in groups.table()


def test_a_tied_parameter_is_in_one_group_once_and_matches_by_any_name() -> None:
    for pattern in ("tokens.weight", "head.weight"):
        groups = param_groups(tied(), overrides={pattern: {"lr": 0.5}})
        (own,) = (group for group in groups if "lr" in group)
        assert len(own["params"]) == 1
        assert len([p for g in groups for p in g["params"]]) == len(EVERYTHING) - 1
        torch.optim.SGD(groups, lr=0.1)  # torch refuses a parameter that occurs twice


def test_a_shared_module_counts_once() -> None:
    layer = nn.Linear(2, 2)
    decisions = param_groups(nn.Sequential(layer, layer)).decisions
    assert [(d.name, d.tied_names) for d in decisions] == [
        ("0.weight", ("1.weight",)),
        ("0.bias", ("1.bias",)),
    ]


def test_frozen_parameters_are_left_out_and_said_to_be() -> None:
    model = Net()
    model.tokens.requires_grad_(False)
    groups = param_groups(model)
    (frozen,) = (d for d in groups.decisions if d.group is None)
    assert (frozen.name, frozen.decays) == ("tokens.weight", False)
    assert frozen.reason == "requires_grad is False: not optimized"
    assert all(p.requires_grad for group in groups for p in group["params"])
    assert groups.table().splitlines()[-1] == "frozen: 1 tensor, 20 elements"


class Timm(Net):
    """A model that names parameters of its own, one of which it does not have."""

    def no_weight_decay(self) -> set[str]:
        return {"query", "conv.weight", "absent"}


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, compiled])
def test_no_weight_decay_of_the_model_is_respected(wrap: Callable[[nn.Module], nn.Module]) -> None:
    groups = param_groups(wrap(Timm()))
    assert decayed(groups) == (MATRICES | EMBEDDINGS) - {"query", "conv.weight"}
    (query,) = (d for d in groups.decisions if d.name == "query")
    assert query.reason == "listed by no_weight_decay()"
    assert decayed(param_groups(wrap(Timm()), "all")) == EVERYTHING


def test_no_weight_decay_of_a_part_is_respected() -> None:
    model = nn.ModuleDict({"backbone": Timm(), "query": nn.Linear(2, 2)})
    assert "backbone.query" not in decayed(param_groups(model))
    assert "query.weight" in decayed(param_groups(model))


def test_tensors_are_the_models_own() -> None:
    model = Net()
    tensors: list[Tensor] = [p for group in param_groups(model) for p in group["params"]]
    assert all(any(t is p for p in model.parameters()) for t in tensors)
