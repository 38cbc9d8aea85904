"""The lab's models beside those of transformers, with the same weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from halflife.lab.models import gpt, resnet18, resnet50

pytestmark = pytest.mark.slow


@pytest.fixture
def transformers() -> Any:
    """Imported where it is needed: it takes seconds."""
    return pytest.importorskip("transformers", reason="needs the extra hf")


def filled(model: nn.Module) -> nn.Module:
    """In float64, with weights that leave no part without effect."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.double().eval()


def test_gpt_is_gpt2(transformers: Any) -> None:
    ours: Any = filled(gpt(50, context=16, layers=3, heads=2, width=32))
    sizes = {"vocab_size": 50, "n_positions": 16, "n_layer": 3, "n_head": 2, "n_embd": 32}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    theirs = transformers.GPT2LMHeadModel(config).double().eval()
    weights = {"wte.weight": ours.tokens.weight, "wpe.weight": ours.positions.weight}
    weights |= {f"ln_f.{key}": value for key, value in ours.norm.state_dict().items()}
    for index, block in enumerate(ours.blocks):
        parts = {"ln_1": block.attention_norm, "ln_2": block.mlp_norm}
        linear = {"attn.c_attn": block.attention.qkv, "attn.c_proj": block.attention.projection}
        linear |= {"mlp.c_fc": block.mlp[0], "mlp.c_proj": block.mlp[2]}
        for name, module in (parts | linear).items():
            weights[f"h.{index}.{name}.weight"] = module.weight.t()  # theirs are turned
            weights[f"h.{index}.{name}.bias"] = module.bias
    theirs.transformer.load_state_dict(weights)
    tokens = torch.randint(50, (2, 16))
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-12, atol=1e-13)


def in_blocks(names: Iterable[str], block: str) -> list[str]:
    """Names in their order, but in each block the layers before the shortcut."""
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for name in names:
        found = re.match(block, name)
        parts = groups.setdefault(found[0] if found else name, ([], []))
        parts["shortcut" in name].append(name)
    return [name for layers, shortcut in groups.values() for name in (*layers, *shortcut)]


@pytest.mark.parametrize(
    ("make", "kind", "depths", "wider"),
    [(resnet18, "basic", [2, 2, 2, 2], 1), (resnet50, "bottleneck", [3, 4, 6, 3], 4)],
)
def test_resnets_are_resnets(
    transformers: Any, make: Any, kind: str, depths: list[int], wider: int
) -> None:
    ours = make(classes=7).eval()
    sizes = [wider * width for width in (64, 128, 256, 512)]
    config = transformers.ResNetConfig(
        depths=depths, hidden_sizes=sizes, layer_type=kind, num_labels=7
    )
    theirs = transformers.ResNetForImageClassification(config).eval()
    for tensor in ours.state_dict().values():  # no norm is the identity
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.rand_like(tensor) / 10)
    mine = in_blocks(ours.state_dict(), r"features\.\d+\.(?=layers|shortcut)")
    other = in_blocks(theirs.state_dict(), r"resnet\.encoder\.stages\.\d+\.layers\.\d+\.")
    weights = ours.state_dict()
    theirs.load_state_dict({b: weights[a] for a, b in zip(mine, other, strict=True)})
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images).logits, rtol=1e-5, atol=1e-5)
