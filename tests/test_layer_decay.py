"""Layer-wise lr decay in the groups, and the split of hidden matrices for Muon."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import halflife
from halflife.groups import ParamGroups, param_groups

DECAY = 0.5  # powers of it are exact


def lrs(groups: ParamGroups) -> dict[str, float]:
    return {d.name: groups[d.group]["lr"] for d in groups.decisions if d.group is not None}


def below(model: nn.Module) -> dict[str, int]:
    """Layers between each parameter and the head, read off the lr."""
    found = lrs(param_groups(model, lr=1.0, layer_decay=DECAY))
    return {name: round(-math.log2(lr)) for name, lr in found.items()}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


class ViT(nn.Module):
    """timm's names."""

    def __init__(self, depth: int = 12) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.patch_embed = nn.Conv2d(3, 4, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 10)


def beits(name: str, depth: int) -> int:
    """The exponent as in BEiT: ids 0 for embeddings, i + 1 for block i, depth + 1 for the rest."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        number = 0
    elif name.startswith("blocks"):
        number = int(name.split(".")[1]) + 1
    else:
        number = depth + 1
    return depth + 1 - number


@pytest.mark.parametrize("depth", [1, 2, 12])
def test_exponents_are_beits(depth: int) -> None:
    model = ViT(depth)
    expected = {name: beits(name, depth) for name, _ in model.named_parameters()}
    assert below(model) == expected


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: nn.ModuleDict({"backbone": m})])
def test_what_is_around_a_model_changes_nothing(wrap: Callable[[nn.Module], nn.Module]) -> None:
    found = below(wrap(ViT(3)))
    assert {name.removeprefix("backbone."): k for name, k in found.items()} == below(ViT(3))


def tree(**names: int) -> nn.Module:
    """A model whose linear layers have these names, in this order (``__`` for a dot)."""
    root = nn.Module()
    for name in names:
        *path, last = name.split("__")
        here = root
        for part in path:
            if not hasattr(here, part):
                here.add_module(part, nn.Module())
            here = here.get_submodule(part)
        here.add_module(last, nn.Linear(2, 2, bias=False))
    return root


# Modules in the order of registration, and how many layers each is below the head.
NAMES: dict[str, dict[str, int]] = {
    "GPT": {"wte": 3, "h__0__mlp": 2, "h__1__mlp": 1, "ln_f": 0, "lm_head": 0},
    "BERT": {"embeddings__word": 3, "encoder__layer__0__o": 2, "encoder__layer__1__o": 1, "cls": 0},
    "ten": {f"layers__{i}__w": 11 - i for i in range(11)},
    "T5's sublayers": {
        "shared": 3,
        "block__0__layer__0": 2,
        "block__0__layer__1": 2,
        "block__1": 1,
    },
    "stages of blocks": {
        "stem": 4,
        "stages__0__blocks__0": 3,
        "stages__0__blocks__1": 2,
        "stages__1__downsample": 1,
        "stages__1__blocks__0": 1,
        "head": 0,
    },
    "a stage's end": {"s": 3, "layers__0__blocks__0": 2, "layers__0__down": 2, "layers__1__m": 1},
    "torchvision's ResNet": {"conv1": 3, "layer1__0__conv1": 2, "layer2__0__conv1": 1, "fc": 0},
    "side by side": {
        "a__in": 3,
        "a__layers__0": 2,
        "a__layers__1": 1,
        "a__out": 0,
        "b__in": 2,
        "b__layers__0": 1,
        "b__out": 0,
    },
    "one after another": {"in": 3, "encoder__layers__0": 1, "bridge": 3, "decoder__layers__0": 2}
    | {"decoder__layers__1": 1, "out": 0},
    "torchvision's ViT": {
        "conv_proj": 3,
        "encoder__layers__encoder_layer_0__mlp__0": 2,
        "encoder__layers__encoder_layer_0__mlp__3": 2,
        "encoder__layers__encoder_layer_1__mlp__0": 1,
        "encoder__ln": 0,
        "heads__head": 0,
    },
    "stages in one name": {
        "stem_0": 4,
        "stages_0__blocks__0": 3,
        "stages_0__blocks__1": 2,
        "stages_1__downsample": 1,
        "stages_1__blocks__0": 1,
    },
    "hidden layers": {"hidden_layer_1": 2, "hidden_layer_2": 1, "output_layer": 0},
    "DenseNet": {
        "features__conv0": 3,
        "features__denseblock1__denselayer1": 2,
        "features__transition1": 2,
        "features__denseblock2__denselayer1": 1,
        "features__norm5": 0,
    },
    "PVT": {"patch_embed1": 3, "block1__0": 2, "patch_embed2": 2, "block2__0": 1, "norm2": 0},
    "a norm before": {"in": 2, "encoder__norm": 0, "encoder__layers__0": 1},
    "a norm of inputs": {"norm": 2, "pooler__dense": 0, "encoder__layers__0": 1},
    "heads between": {"stem": 3, "block1": 2, "aux_head": 0, "block2": 1, "head": 0},
    "OPT": {
        "embed_tokens": 3,
        "project_out": 0,
        "final_layer_norm": 0,
        "layers__0": 2,
        "layers__1": 1,
    },
    "a head of layers": {"blocks__0": 1, "bbox_head__layers__0": 0, "bbox_head__layers__1": 0},
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_names(names: dict[str, int]) -> None:
    expected = {f"{name.replace('__', '.')}.weight": k for name, k in names.items()}
    assert below(tree(**names)) == expected


def test_a_projection_that_a_model_holds_itself_is_an_output() -> None:
    """CLIP's, which are registered before its towers because they are its own."""
    model = tree(visual__conv1=0, visual__blocks__0=0, transformer__blocks__0=0)
    model.text_projection = nn.Parameter(torch.zeros(2, 2))
    model.visual.proj = nn.Parameter(torch.zeros(2, 2))
    found = below(model)
    assert [found["text_projection"], found["visual.proj"]] == [0, 0]
    assert found["visual.conv1.weight"] == 2


def test_a_bare_sequence_has_its_last_layer_as_the_head() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.LayerNorm(2), nn.Linear(2, 2))
    found = below(model)
    assert {name.split(".")[0]: k for name, k in found.items()} == {"0": 2, "2": 1, "3": 0}


def test_any_number_will_do_where_no_stack_has_a_known_name() -> None:
    inside = tree(net__0=0, net__2=0, net__4=0)
    assert list(below(inside).values()) == [2, 1, 0]
    beside = tree(first=0, net__0=0, net__2=0, last=0)
    assert list(below(beside).values()) == [3, 2, 1, 0]


def test_a_model_may_be_wrapped_under_the_name_of_a_head() -> None:
    model = nn.ModuleDict({"classifier": ViT(2)})
    assert {n.removeprefix("classifier."): k for n, k in below(model).items()} == below(ViT(2))
    hidden = split(model)[0]
    assert hidden == {f"classifier.blocks.{i}.mlp.{j}.weight" for i in (0, 1) for j in (0, 1)}


def test_lr_and_decay_are_settings_of_one_group() -> None:
    groups = param_groups(ViT(2), lr=0.25, layer_decay=DECAY, weight_decay=0.1)
    settings = [(group["lr"], group["weight_decay"]) for group in groups]
    assert len(settings) == len(set(settings)) == 8  # four depths, with and without decay
    assert min(settings)[0] == 0.25 * DECAY**3
    assert max(settings)[0] == 0.25
    # timm's schedulers would multiply by it a second time.
    assert not any("lr_scale" in group for group in groups)
    head = next(d for d in groups.decisions if d.name == "blocks.0.mlp.0.weight")
    assert head.reason == "2-d parameter of Linear; 2 of 3 below the head, lr x 0.25"


def test_a_strength_is_resolved_at_each_groups_own_lr() -> None:
    """The half-life is the one asked for in every layer: the peak is the group's scaled lr."""
    groups = param_groups(ViT(2), lr=0.25, layer_decay=DECAY)
    optimizer = halflife.AdamW(groups, weight_decay=halflife.HalfLife(steps=100))
    for group in optimizer.param_groups:
        assert group["peak_lr"] == group["lr"]
        if group["weight_decay"]:
            assert (1 - group["lr"] * group["weight_decay"]) ** 100 == pytest.approx(0.5)


def test_torchs_schedulers_keep_the_proportions() -> None:
    groups = param_groups(ViT(2), lr=0.25, layer_decay=DECAY)
    before = [group["lr"] for group in groups]
    optimizer = torch.optim.SGD(groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.5 * lr for lr in before]


def test_marks_and_overrides_say_the_last_word() -> None:
    model = ViT(2)
    model.pos_embed._optim = {"lr": 1e-3, "weight_decay": 0.0}  # type: ignore[attr-defined]
    found = lrs(param_groups(model, lr=1.0, layer_decay=DECAY, overrides={"head.*": {"lr": 3.0}}))
    assert (found["pos_embed"], found["cls_token"], found["head.weight"]) == (1e-3, 0.125, 3.0)


def test_a_tensor_as_lr() -> None:
    found = lrs(param_groups(ViT(1), lr=torch.tensor(0.5), layer_decay=DECAY))
    assert (found["head.weight"], found["blocks.0.norm.bias"]) == (0.5, 0.25)


def test_frozen_layers_still_count() -> None:
    model = ViT(2)
    model.blocks.requires_grad_(False)
    found = lrs(param_groups(model, lr=1.0, layer_decay=DECAY))
    assert (found["patch_embed.weight"], found["norm.weight"]) == (0.125, 1.0)


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"layer_decay": 0.75},
        "param_groups: layer_decay=0.75 must come with lr, that of the head, got None; pass lr= "
        "here as well, because each group is given its own.",
    ),
    (
        {"layer_decay": 1.5, "lr": 0.1},
        "param_groups: layer_decay must be a number in (0, 1], got 1.5; 0.75 is usual for "
        "fine-tuning.",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=["no lr", "above one"])
def test_bad_values(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        param_groups(ViT(1), **arguments)


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan, math.inf, "0.5", True])
def test_bad_layer_decay(value: Any) -> None:
    with pytest.raises(ValueError, match=r"layer_decay must be a number in \(0, 1\], got "):
        param_groups(ViT(1), lr=0.1, layer_decay=value)


def test_names_without_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layer_decay=0\.5 must find numbered layers.*'fc1\.wei"):
        param_groups(tree(fc1=0, fc2=0), lr=0.1, layer_decay=0.5)


# Muon


def split(model: nn.Module, **arguments: Any) -> tuple[set[str], set[str]]:
    hidden, others = param_groups(model, "muon", **arguments).split()
    return tuple({d.name for d in part.decisions} for part in (hidden, others))  # type: ignore[return-value]


class GPT(nn.Module):
    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(16, 4), nn.Embedding(8, 4)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(4, 2, 8) for _ in range(2))
        self.norm, self.lm_head = nn.LayerNorm(4), nn.Linear(4, 16, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight


HIDDEN = {
    f"layers.{i}.{name}.weight"
    for i in range(2)
    for name in ("self_attn.out_proj", "linear1", "linear2")
} | {f"layers.{i}.self_attn.in_proj_weight" for i in range(2)}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_hidden_matrices_are_muons(tied: bool) -> None:
    model = GPT(tied)
    hidden, others = split(model)
    assert hidden == HIDDEN
    assert others == {name for name, _ in model.named_parameters()} - HIDDEN


def test_both_optimizers_take_their_half() -> None:
    model = GPT()
    groups = param_groups(model, "muon", weight_decay=0.1, named=True)
    assert {group["use_muon"] for group in groups} == {True, False}
    hidden, others = groups.split()
    assert {g["weight_decay"] for g in hidden} == {0.1}
    assert not any("use_muon" in group for group in (*hidden, *others))
    for cls in (torch.optim.Muon, halflife.Muon):
        optimizers = [cls(param_groups(model, "muon").split()[0]), torch.optim.AdamW(others)]
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        for optimizer in optimizers:
            optimizer.step()
        assert not any(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert "hidden" not in str(others)
    assert [line.split()[0] for line in str(hidden).splitlines()[1:-1]] == ["0"] * len(HIDDEN)


def test_decay_is_the_defaults() -> None:
    model = GPT()
    by_default = {d.name for d in param_groups(model).decisions if d.decays}
    assert {d.name for d in param_groups(model, "muon").decisions if d.decays} == by_default


# The linear layers of a model, in order; those that are not hidden end in "*".
ENDS = {
    "last": ["a", "b", "c*"],
    "named": ["a", "score*", "b"],
    "in a module": ["decoder_head.x*", "blocks.0.head", "blocks.1.w"],
    "DeiT": ["patch_embed*", "blocks.0.w", "head*", "head_dist*"],
    "attention heads": ["embed_in*", "blocks.0.heads.0.key", "blocks.0.multi_head", "norm_out*"],
    "none, in a stack": ["encoder.layers.0.wi", "encoder.layers.0.wo"],
    "a patch embedding": ["patch_embed.proj*", "blocks.0.w", "classifier*"],
    "a net's fc": ["layer1.0.conv", "fc*"],
}


@pytest.mark.parametrize("names", ENDS.values(), ids=ENDS.keys())
def test_ends_are_not_hidden(names: list[str]) -> None:
    model = tree(**{name.rstrip("*").replace(".", "__"): 0 for name in names})
    hidden, _ = split(model)
    assert hidden == {f"{name}.weight" for name in names if not name.endswith("*")}


def test_the_head_that_the_model_names() -> None:
    model = tree(blocks__0__w=0, answers=0, last=0)
    cls = type("Named", (nn.Module,), {"get_output_embeddings": lambda self: self.answers})
    named = cls()
    for name, child in model.named_children():
        named.add_module(name, child)
    assert split(named)[0] == {"blocks.0.w.weight", "last.weight"}


def test_what_is_not_linear_or_not_two_dimensional_is_not_muons() -> None:
    model = nn.ModuleDict(
        {
            "conv": nn.Conv1d(4, 4, 1),
            "rnn": nn.GRU(4, 4),
            "table": nn.EmbeddingBag(5, 4),
            "bare": nn.ParameterDict({"w": torch.ones(4, 4)}),
            "hidden": nn.Linear(4, 4),
            "head": nn.Linear(4, 4),
        }
    )
    assert split(model)[0] == {"hidden.weight"}


def test_overrides_move_a_matrix() -> None:
    model = GPT()
    overrides = {"layers.0.linear1.weight": {"use_muon": False}}
    assert split(model, overrides=overrides)[0] == HIDDEN - {"layers.0.linear1.weight"}


def test_frozen_parameters_are_in_no_half() -> None:
    model = GPT()
    model.layers[0].requires_grad_(False)
    hidden, others = split(model)
    assert hidden == {name for name in HIDDEN if name.startswith("layers.1")}
    assert not any(name.startswith("layers.0") for name in others)


def test_other_policies_have_no_halves() -> None:
    with pytest.raises(ValueError, match=r'^split: every group must have use_muon.*policy="muon"'):
        param_groups(GPT()).split()


def test_muon_with_layer_decay() -> None:
    hidden, others = param_groups(GPT(), "muon", lr=1.0, layer_decay=DECAY).split()
    assert sorted({group["lr"] for group in hidden}) == [0.25, 0.5]
    assert sorted({group["lr"] for group in others}) == [0.125, 0.25, 0.5, 1.0]
