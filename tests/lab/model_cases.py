"""Every model by name, with settings and inputs that a test can afford."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halflife.lab.models import MODELS, build

VOCABULARY = 11
TEXT = {"lstm", "gpt", "gpt2-small"}

# Depths and the papers' layers stay; widths that only cost time do not.
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"widths": [12, 8, 5], "batch_norm": True},
    "resnet18": {"classes": 5},
    "resnet34": {"classes": 5},
    "resnet50": {"classes": 5},
    "shake-shake-26-2x64d": {"width": 8},
    "shake-shake-26-2x96d": {"width": 12},
    "vit-s16": {"classes": 5, "image": 12, "patch": 4, "depth": 2, "width": 24, "heads": 3},
    "lstm": {"vocabulary": VOCABULARY, "width": 16},
    "gpt": {"vocabulary": VOCABULARY, "context": 8, "layers": 2, "width": 32},
    "gpt2-small": {"vocabulary": VOCABULARY, "layers": 2, "heads": 2, "width": 32},
}
SIDES = {"resnet18": 32, "resnet34": 32, "resnet50": 32, "vgg16-bn": 32, "vgg16-nobn": 32}
SIDES |= {"vit-s16": 12}

IMAGES = [name for name in MODELS if name not in TEXT | {"mlp"}]

# Another depth or width of a model that is there, and no other layers.
SIMILAR = {"resnet34", "densenet121", "shake-shake-26-2x96d", "gpt2-small"}
SIMILAR |= {f"resnet{depth}{norm}" for depth in (44, 56, 110, 218) for norm in ("", "-nobn")}


def cases(names: Iterable[str], slow: Iterable[str] = ()) -> list[Any]:
    """Names for a test; those of similar models, and those listed, are for the slow tests."""
    slow = SIMILAR | set(slow)
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in names]


def small(name: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **SETTINGS.get(name, {}) | settings)


def inputs(name: str, rows: int = 2, channels: int = 3) -> Tensor:
    torch.manual_seed(1)
    if name in TEXT:
        return torch.randint(VOCABULARY, (rows, 6))
    if name == "mlp":
        return torch.randn(rows, 12)
    side = SIDES.get(name, 8)
    return torch.randn(rows, channels, side, side)


def logits(model: nn.Module, given: Tensor) -> Tensor:
    """What a model gives, without the state of a recurrent one."""
    outputs = model(given)
    return outputs[0] if isinstance(outputs, tuple) else outputs
