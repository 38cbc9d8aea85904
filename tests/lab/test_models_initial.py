"""Initial weights of the lab's models: as in the sources that their docstrings name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from model_cases import IMAGES, SETTINGS, cases, small
from torch import Tensor, nn

from halflife.lab.models import build


def assert_drawn(name: str, values: Tensor, std: float) -> None:
    """Five standard errors: with the seed fixed it holds or not, and by chance hardly ever not."""
    values = values.detach().double()
    n = values.numel()
    assert abs(values.mean()) < 5 * std / math.sqrt(n), name
    assert abs(values.std() / std - 1) < 5 / math.sqrt(2 * n), name


def layers_of(model: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(module, kind):
            yield name, module


def he(fan: float, leak: float = 0.0) -> float:
    return math.sqrt(2 / (1 + leak**2) / fan)


def fan_in(weight: Tensor) -> int:
    return weight[0].numel()


def fan_out(weight: Tensor) -> int:
    return weight.shape[0] * weight[0, 0].numel()


@pytest.mark.parametrize("leak", [0.0, 0.5])
def test_cifar_resnets_begin_with_he_fan_in(leak: float) -> None:
    model = small("resnet20-nobn", leak=leak)
    for name, layer in [*layers_of(model, nn.Conv2d), *layers_of(model, nn.Linear)]:
        assert_drawn(name, layer.weight, he(fan_in(layer.weight), leak))
    assert 0 < model.get_parameter("head.bias").abs().max() <= 1 / 8  # torch's


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg16-nobn", "densenet-bc-100-12", "shake-shake-26-2x64d"]
)
def test_convolutions_begin_with_he_fan_out(name: str) -> None:
    model = small(name)
    for layer_name, layer in layers_of(model, nn.Conv2d):
        assert_drawn(layer_name, layer.weight, he(fan_out(layer.weight)))
        assert layer.bias is None or not layer.bias.any()


def test_densenet121_for_imagenet_begins_with_he_fan_in() -> None:
    model = small("densenet121", stem="imagenet")
    for name, layer in layers_of(model, nn.Conv2d):
        assert_drawn(name, layer.weight, he(fan_in(layer.weight)))
    assert not model.get_parameter("head.bias").any()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("resnet18", {"stem": "cifar"}), ("vgg16-bn", {}), ("densenet121", {}), ("googlenet", {})],
)
def test_the_rest_begins_as_torch_has_it(name: str, settings: dict[str, Any]) -> None:
    """U(-b, b) with b = 1 / √fan_in, weights and biases."""
    model = small(name, **settings)
    for layer_name, layer in [*layers_of(model, nn.Conv2d), *layers_of(model, nn.Linear)]:
        bound = 1 / math.sqrt(fan_in(layer.weight))
        assert layer.weight.abs().max() <= bound
        assert_drawn(layer_name, layer.weight, bound / math.sqrt(3))


def test_heads() -> None:
    assert_drawn("vgg16", small("vgg16-nobn").get_parameter("head.weight"), 0.01)
    assert not small("vgg16-nobn").get_parameter("head.bias").any()
    shaken = small("shake-shake-26-2x64d", width=64)
    assert_drawn("shake", shaken.get_parameter("head.weight"), 1 / math.sqrt(3 * 256))
    assert not shaken.get_parameter("head.bias").any()


@pytest.mark.parametrize("name", cases(IMAGES))
def test_batch_norms_begin_as_the_identity(name: str) -> None:
    norms = list(layers_of(small(name), nn.BatchNorm2d))
    assert bool(norms) == (not name.endswith("-nobn") and name != "vit-s16")
    for _, norm in norms:
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert not norm.bias.any()


def test_vit_begins_as_deit_does() -> None:
    model = small("vit-s16", image=224, patch=16, width=96)
    for name in ("class_token", "position"):
        assert_drawn(name, model.get_parameter(name), 0.02)
    for name, layer in layers_of(model, nn.Linear):
        assert_drawn(name, layer.weight, 0.02)
        assert not layer.bias.any()
    patches = model.get_parameter("patches.weight")
    assert_drawn("patches", patches, 1 / math.sqrt(3 * fan_in(patches)))
    assert {norm.eps for _, norm in layers_of(model, nn.LayerNorm)} == {1e-6}


def test_gpt_begins_as_gpt2_does() -> None:
    model = small("gpt", vocabulary=500, layers=3, width=64)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            added = name.endswith(("projection.weight", "mlp.2.weight"))
            assert_drawn(name, parameter, 0.02 / math.sqrt(6) if added else 0.02)
        elif name.endswith("bias"):
            assert not parameter.any()
        else:
            assert torch.equal(parameter, torch.ones_like(parameter))


@pytest.mark.parametrize("tied", [False, True])
def test_lstm_begins_as_the_example_does(tied: bool) -> None:
    model = small("lstm", vocabulary=500, width=32, tied=tied)
    for name, parameter in model.named_parameters():
        if name == "head.bias":
            assert not parameter.any()
            continue
        bound = 1 / math.sqrt(32) if name.startswith("cells") else 0.1
        assert parameter.abs().max() <= bound
        assert_drawn(name, parameter, bound / math.sqrt(3))


@pytest.mark.parametrize("name", ["resnet20", "vgg16-nobn", "vit-s16", "lstm", "gpt", "mlp"])
def test_weights_follow_from_the_seed(name: str) -> None:
    first, again = small(name), small(name)
    torch.manual_seed(1)
    other = build(name, **SETTINGS.get(name, {}))
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim < 2 or not torch.equal(a, c)
