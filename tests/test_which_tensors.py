"""Which tensors decay: vectors stored with unit dimensions, weights of any shape, tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import halflife
from halflife.diagnostics import audit
from halflife.groups import param_groups


def holding(name: str = "Holder", base: type[nn.Module] = nn.Module, **shapes: tuple[int, ...]):
    """A module of this class name with parameters of these shapes."""
    module = type(name, (base,), {})()
    for key, shape in shapes.items():
        module.register_parameter(key, nn.Parameter(torch.ones(shape)))
    return module


def parameters(**shapes: tuple[int, ...]) -> nn.ParameterDict:
    return nn.ParameterDict({key: torch.ones(shape) for key, shape in shapes.items()})


def old_norm(name: str, layer: nn.Module, **kwargs) -> nn.Module:
    with warnings.catch_warnings():  # torch says that they are deprecated; they are met
        warnings.simplefilter("ignore", FutureWarning)
        return getattr(nn.utils, name)(layer, **kwargs)


def pruned(layer: nn.Module) -> nn.Module:
    return prune.random_unstructured(layer, "weight", 0.5)


def scaled_conv() -> nn.Module:
    module = nn.Conv2d(3, 4, 3)
    module.gain = nn.Parameter(torch.ones(4, 1, 1, 1))
    return module


def fp8_linear() -> nn.Module:
    module = nn.Linear(4, 4)
    module.weight_scale = nn.Parameter(torch.ones(4, 1))
    return module


def lora_of_rank_one() -> nn.Module:
    module = nn.Linear(4, 4)
    module.lora_A, module.lora_B = (nn.Parameter(torch.ones(s)) for s in ((1, 4), (4, 1)))
    return module


def dora() -> nn.Module:
    module = nn.ModuleDict({"lora_A": nn.ModuleDict({"default": nn.Conv2d(4, 1, 1, bias=False)})})
    magnitude = holding("DoraConv2dLayer", weight=(1, 4, 1, 1))
    module["lora_magnitude_vector"] = nn.ModuleDict({"default": magnitude})
    return module


class Identity(nn.Module):
    def forward(self, x):
        return x


def with_parametrized(layer: nn.Module, *names: str) -> nn.Module:
    for name in names:
        parametrize.register_parametrization(layer, name, Identity())
    return layer


WEIGHT = "parametrizations.weight"
# The model, and which of its parameters decay by default.
CASES: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "NF-Net's gain": (scaled_conv, {"weight"}),
    "ResMLP's affine": (lambda: holding(alpha=(1, 1, 4), beta=(1, 1, 4)), set()),
    "Swin V2's logit_scale": (lambda: holding(logit_scale=(3, 1, 1)), set()),
    "IA3": (lambda: nn.ModuleDict({"ia3_l": parameters(default=(4, 1))}), set()),
    "GRN": (lambda: holding("GRN", weight=(1, 1, 1, 4), gamma=(1, 1, 1, 4)), set()),
    "RWKV's time_mix": (lambda: holding(time_mix_key=(1, 1, 4), time_decay=(4,)), set()),
    "LayerScale": (lambda: holding(gamma=(4, 1, 1)), set()),
    "LeViT's attention_biases": (lambda: holding(attention_biases=(2, 4)), set()),
    "one element": (lambda: holding(scale=(1, 1, 1)), set()),
    "matrices without a layer": (lambda: holding(experts=(2, 4, 3), w=(2, 2)), {"experts", "w"}),
    "one output": (lambda: nn.Linear(4, 1), {"weight"}),
    "one input": (lambda: nn.Linear(1, 4), {"weight"}),
    "one of both": (lambda: nn.Linear(1, 1), {"weight"}),
    "depthwise, one tap": (lambda: nn.Conv2d(4, 4, 1, groups=4), {"weight"}),
    "transposed": (lambda: nn.ConvTranspose1d(1, 4, 1), {"weight"}),
    "embedding of one dimension": (lambda: nn.Embedding(5, 1), {"weight"}),
    "embedding of one entry": (lambda: nn.EmbeddingBag(1, 4), {"weight"}),
    "attention of one channel": (
        lambda: nn.MultiheadAttention(1, 1),
        {"in_proj_weight", "out_proj.weight"},
    ),
    "attention of other sizes": (
        lambda: nn.MultiheadAttention(1, 1, kdim=2, vdim=1),
        {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"},
    ),
    "recurrent, one input": (lambda: nn.GRU(1, 1), {"weight_ih_l0", "weight_hh_l0"}),
    "recurrent, both ways": (
        lambda: nn.LSTM(1, 2, bidirectional=True, proj_size=1, bias=False),
        {f"weight_{k}_l0{r}" for k in ("ih", "hh", "hr") for r in ("", "_reverse")},
    ),
    "cell": (lambda: nn.LSTMCell(1, 1, bias=False), {"weight_ih", "weight_hh"}),
    "bilinear": (lambda: nn.Bilinear(1, 1, 3), {"weight"}),
    "a subclass": (lambda: type("Head", (nn.Linear,), {})(4, 1), {"weight"}),
    "a layer by name": (lambda: holding("ColumnParallelLinear", weight=(4, 1)), {"weight"}),
    "transformers' Conv1D": (lambda: holding("Conv1D", weight=(4, 1)), {"weight"}),
    "a layer's scale": (fp8_linear, {"weight"}),
    "weight_norm": (
        lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
        {f"{WEIGHT}.original1"},
    ),
    "weight_norm, one output": (
        lambda: parametrizations.weight_norm(nn.Linear(4, 1)),
        {f"{WEIGHT}.original1"},
    ),
    "weight_norm, another dimension": (
        lambda: parametrizations.weight_norm(nn.Conv1d(4, 3, 2), dim=2),
        {f"{WEIGHT}.original1"},
    ),
    "weight_norm, one length": (
        lambda: parametrizations.weight_norm(nn.Conv1d(4, 3, 2), dim=None),
        {f"{WEIGHT}.original1"},
    ),
    "weight_norm as it was": (lambda: old_norm("weight_norm", nn.Linear(4, 1)), {"weight_v"}),
    "spectral_norm": (
        lambda: parametrizations.spectral_norm(nn.Linear(4, 1)),
        {f"{WEIGHT}.original"},
    ),
    "spectral_norm as it was": (
        lambda: old_norm("spectral_norm", nn.Linear(4, 1)),
        {"weight_orig"},
    ),
    "pruned": (lambda: pruned(nn.Linear(4, 1)), {"weight_orig"}),
    "parametrized bias": (
        lambda: with_parametrized(nn.Linear(4, 1), "weight", "bias"),
        {f"{WEIGHT}.original"},
    ),
    "parametrized normalization": (
        lambda: with_parametrized(nn.LayerNorm([3, 4]), "weight"),
        set(),
    ),
    "LoRA of rank 1 in layers": (
        lambda: nn.ModuleDict({"lora_A": nn.Linear(4, 1, False), "lora_B": nn.Linear(1, 4, False)}),
        {"lora_A.weight", "lora_B.weight"},
    ),
    "LoRA of rank 1": (lora_of_rank_one, {"weight", "lora_A", "lora_B"}),
    "LoRA of an embedding": (
        lambda: nn.ModuleDict({"lora_embedding_A": parameters(default=(1, 9))}),
        {"lora_embedding_A.default"},
    ),
    "DoRA's magnitude": (dora, {"lora_A.default.weight"}),
}


@pytest.mark.parametrize("name", CASES)
def test_vectors_do_not_decay_and_weights_do(name: str) -> None:
    build, expected = CASES[name]
    assert {d.name for d in param_groups(build()).decisions if d.decays} == expected
    model = nn.ModuleDict({"a": build(), "b": nn.Linear(2, 2)})
    groups = param_groups(model)
    inside = {f"a.{name}" for name in expected}
    assert {d.name for d in groups.decisions if d.decays} == {"b.weight"} | inside
    result = audit(model, torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1))
    assert not [f for f in result.findings if f.severity != "info"]


@pytest.mark.parametrize("name", CASES)
def test_audit_objects_to_exactly_the_others(name: str) -> None:
    build, expected = CASES[name]
    model = build()
    result = audit(model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))
    codes = ("decayed-gain", "decayed-bias", "decayed-norm")
    found = {p for f in result.findings if f.code in codes for p in f.parameters}
    assert found == {name for name, _ in model.named_parameters()} - expected


@pytest.mark.parametrize("trained", ["ia3_l", "bias"])
def test_a_model_of_which_only_vectors_train_decays_nowhere(trained: str) -> None:
    """IA3 and BitFit: that nothing decays is right, whatever weight_decay the optimizer has."""
    model = nn.ModuleDict({"base": nn.Linear(4, 4), "ia3_l": parameters(default=(4, 1))})
    for name, p in model.named_parameters():
        p.requires_grad_(trained in name)
    result = audit(model, torch.optim.AdamW(param_groups(model), lr=1e-3, weight_decay=0.1))
    assert not result.findings
    model.requires_grad_(True)
    groups = [{"params": list(model.parameters()), "weight_decay": 0.0}]
    result = audit(model, torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1))
    assert [f.code for f in result.findings] == ["overridden-decay"]


def test_reasons() -> None:
    model = nn.ModuleList(
        [holding(gamma=(4, 1, 1)), parametrizations.weight_norm(nn.Linear(4, 3, bias=False))]
    )
    reasons = {d.name: d.reason for d in param_groups(model).decisions}
    assert reasons["0.gamma"] == "vector of Holder, with unit dimensions"
    assert reasons["1.parametrizations.weight.original0"] == "magnitude of a weight normalization"
    assert reasons["1.parametrizations.weight.original1"] == "2-d parameter of ParametrizedLinear"


def test_nanogpts_rule_is_by_the_number_of_dimensions_alone() -> None:
    decisions = param_groups(holding(gamma=(4, 1, 1), scale=(4,)), "gpt2").decisions
    assert {d.name: d.decays for d in decisions} == {"gamma": True, "scale": False}


# Embeddings by name


TOKENS = [
    "cls_token",
    "dist_token",
    "mask_token",
    "reg_token",
    "register_tokens",
    "query_tokens",
    "pos_embed",
    "position_embeddings",
    "positional_embedding",
    "class_embedding",
    "rel_pos_h",
    "mask_emb",
    "wpe",
    "relative_position_bias_table",
    "rpb",
]
MATRICES = ["query", "pos_proj", "token_kernel", "composed", "experts", "text_projection"]


@pytest.mark.parametrize("policy", ["embedding-free", "olmo", "norm-bias-and-embedding-free"])
@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 1, 4)], ids=["table", "one"])
def test_tokens_are_embeddings(policy: str, shape: tuple[int, ...]) -> None:
    model = holding(**dict.fromkeys(TOKENS, shape), **dict.fromkeys(MATRICES, (3, 4)))
    groups = param_groups(model, policy)
    assert {d.name for d in groups.decisions if d.decays} == set(MATRICES)
    reasons = {d.name: d.reason for d in groups.decisions}
    assert reasons["cls_token"] == "embedding 'cls_token'"
    result = audit(model, torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1))
    assert not [f for f in result.findings if f.severity != "info"]


def test_a_layers_own_weight_is_no_token() -> None:
    model = nn.ModuleDict({"pos_embed": nn.Linear(4, 4), "patch_embeddings": nn.Conv2d(3, 4, 2)})
    embeddings = type("PatchEmbeddings", (nn.Conv2d,), {})(3, 4, 2)
    decided = param_groups(nn.ModuleList([model, embeddings]), "olmo").decisions
    assert all(d.decays for d in decided)


def test_relative_position_biases_are_biases_and_embeddings() -> None:
    t5 = nn.ModuleDict({"relative_attention_bias": nn.Embedding(8, 2), "q": nn.Linear(4, 4)})
    swin = holding(relative_position_bias_table=(9, 2), rpb=(2, 5, 5))
    one_hot = nn.ModuleDict({"rel_pos_x_bias": nn.Linear(8, 2, bias=False)})  # LayoutLMv3's
    model = nn.ModuleDict({"t5": t5, "swin": swin, "layout": one_hot})
    decayed = {
        policy: {d.name for d in param_groups(model, policy).decisions if d.decays}
        for policy in ("norm-and-bias-free", "olmo", "matrices")
    }
    assert decayed["norm-and-bias-free"] == {"t5.q.weight"}
    assert decayed["olmo"] == {"t5.q.weight", "t5.q.bias", "layout.rel_pos_x_bias.weight"}
    assert len(decayed["matrices"]) == 5
    reasons = {d.name: d.reason for d in param_groups(model).decisions}
    assert reasons["t5.relative_attention_bias.weight"] == "bias 'relative_attention_bias'"


def test_what_computes_a_bias_is_a_matrix() -> None:
    model = nn.ModuleDict({"continuous_position_bias_mlp": nn.Sequential(nn.Linear(2, 4))})
    model["rel_bias_proj"] = nn.Linear(4, 4)
    decayed = {d.name for d in param_groups(model).decisions if d.decays}
    assert decayed == {"continuous_position_bias_mlp.0.weight", "rel_bias_proj.weight"}


# FSDP1


@pytest.fixture
def process_group(tmp_path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def fsdp1(model: nn.Module, use_orig_params: bool) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    with warnings.catch_warnings():  # of a world of one, and of a successor
        warnings.simplefilter("ignore")
        return FullyShardedDataParallel(
            model, use_orig_params=use_orig_params, device_id=torch.device("cpu")
        )


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
@pytest.mark.usefixtures("process_group")
def test_flat_parameters_are_refused_by_name_with_the_remedy() -> None:
    model = fsdp1(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)), use_orig_params=False)
    optimizer = torch.optim.AdamW(model.parameters())
    calls = {"param_groups": lambda: param_groups(model), "audit": lambda: audit(model, optimizer)}
    for caller, call in calls.items():
        with pytest.raises(
            ValueError, match=rf"^{caller}: parameter '_flat_param'.*use_orig_params"
        ):
            call()


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
@pytest.mark.usefixtures("process_group")
def test_original_parameters_are_known_by_their_whole_shapes() -> None:
    plain = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    expected = param_groups(plain)
    model = fsdp1(plain, use_orig_params=True)
    assert param_groups(model).decisions == expected.decisions
    # In a larger world each process holds flat pieces, some of them empty.
    for p in model.parameters():
        p.data = p.data.flatten()[:5]
    assert param_groups(model).decisions == expected.decisions
    halflife.AdamW(param_groups(model))


def test_deepspeeds_empty_tensors_are_known_by_their_whole_shapes() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    expected = param_groups(model).decisions
    for p in model.parameters():
        p.ds_shape = p.shape  # as zero.Init does
        p.data = torch.empty(0)
    assert param_groups(model).decisions == expected
