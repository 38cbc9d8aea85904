"""The lab's models: parameters against published figures and by hand, names."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import halflife.lab.models as models
from halflife.lab.models import MODELS, build

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api" / "models.md"


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@functools.cache
def counted(name: str, **settings: Any) -> int:
    with torch.device("meta"):
        return count(build(name, **settings))


# --- parameters, as others have counted them ------------------------------------------------------

# Their sources: He et al. 2016, Table 6, prints 0.27, 0.66, 0.85 and 1.7 million; the digits are
# those that implementations of Table 6 print, akamaster/pytorch_resnet_cifar10 among them.
# torchvision's documentation of its weights (num_params). kuangliu/pytorch-cifar's models, counted
# by thop in the table of a README that forks of it have. osmr/imgclsmob's tables of CIFAR models
# (DenseNet-BC-100, Shake-Shake 26 2x32d). timm's table (vit_small_patch16_224, and deit_small).
# OpenAI's weights of GPT-2 small as transformers counts them.
PUBLISHED: list[tuple[str, dict[str, Any], int]] = [
    ("resnet20", {}, 269_722),
    ("resnet44", {}, 658_586),
    ("resnet56", {}, 853_018),
    ("resnet110", {}, 1_727_962),
    ("resnet18", {}, 11_689_512),
    ("resnet34", {}, 21_797_672),
    ("resnet50", {}, 25_557_032),
    ("resnet18", {"classes": 10, "stem": "cifar"}, 11_173_962),
    ("resnet34", {"classes": 10, "stem": "cifar"}, 21_282_122),
    ("resnet50", {"classes": 10, "stem": "cifar"}, 23_520_842),
    ("vgg16-bn", {}, 14_728_266),
    ("densenet121", {"classes": 1000, "stem": "imagenet"}, 7_978_856),
    ("densenet121", {"classes": 10}, 6_956_298),
    ("densenet-bc-100-12", {}, 769_162),
    ("googlenet", {"classes": 10}, 6_166_250),
    ("vit-s16", {}, 22_050_664),
    ("gpt2-small", {}, 124_439_808),
]


@pytest.mark.parametrize(("name", "settings", "published"), PUBLISHED)
def test_parameters_are_as_many_as_published(
    name: str, settings: dict[str, Any], published: int
) -> None:
    assert counted(name, **settings) == published


def test_shake_shake_has_the_published_parameters() -> None:
    with torch.device("meta"):
        counts = {width: count(models.shake_shake26(width)) for width in (32, 64, 96)}
    assert counts[32] == 2_923_162  # osmr/imgclsmob
    # Gastaldi 2017, Table 1: 2.9, 11.7 and 26.2 million. (Loshchilov and Hutter 2019 print 11.6
    # for the second, which is its count cut off, and 25.6 for the third, which it is not.)
    assert [round(counts[width] / 1e6, 1) for width in (32, 64, 96)] == [2.9, 11.7, 26.2]


def test_resnet218_has_the_published_parameters() -> None:
    # Zhuang et al.'s resnet.py: 3.5 million.
    assert round(counted("resnet218") / 1e6, 1) == 3.5


# --- parameters, derived by hand ------------------------------------------------------------------


def convolutions(*shapes: tuple[int, int, int]) -> int:
    """Weights of convolutions without bias: inputs, outputs, size of each."""
    return sum(a * b * k * k for a, b, k in shapes)


@pytest.mark.parametrize("depth", [20, 44, 56, 110, 218])
def test_cifar_resnets_by_formula(depth: int) -> None:
    n = (depth - 2) // 6
    weights = 9 * (3 * 16 + 2 * n * 16**2)
    weights += 9 * (16 * 32 + (2 * n - 1) * 32**2) + 9 * (32 * 64 + (2 * n - 1) * 64**2)
    head = 64 * 10 + 10
    norms = 2 * (16 * (2 * n + 1) + 32 * 2 * n + 64 * 2 * n)
    assert counted(f"resnet{depth}-nobn") == weights + head
    assert counted(f"resnet{depth}") == weights + norms + head


def resnet_by_hand(depths: tuple[int, ...], bottleneck: bool) -> int:
    """Without first layers and head."""
    total, inputs = 0, 64
    for width, depth in zip((64, 128, 256, 512), depths, strict=True):
        outputs = 4 * width if bottleneck else width
        for block in range(depth):
            if bottleneck:
                total += convolutions((inputs, width, 1), (width, width, 3), (width, outputs, 1))
                total += 2 * (width + width + outputs)
            else:
                total += convolutions((inputs, width, 3), (width, width, 3)) + 2 * 2 * width
            if block == 0 and inputs != outputs:
                total += inputs * outputs + 2 * outputs
            inputs = outputs
    return total


@pytest.mark.parametrize(
    ("name", "depths", "bottleneck"),
    [
        ("resnet18", (2, 2, 2, 2), False),
        ("resnet34", (3, 4, 6, 3), False),
        ("resnet50", (3, 4, 6, 3), True),
    ],
)
def test_resnets_by_formula(name: str, depths: tuple[int, ...], bottleneck: bool) -> None:
    body = resnet_by_hand(depths, bottleneck) + 2 * 64
    width = 2048 if bottleneck else 512
    assert counted(name) == body + 3 * 64 * 49 + (width + 1) * 1000
    small_head = (width + 1) * 100
    assert counted(name, stem="cifar", classes=100) == body + 3 * 64 * 9 + small_head


def test_vgg_by_formula() -> None:
    widths = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    pairs = list(pairwise(widths))
    plain = sum(9 * a * b + b for a, b in pairs) + 513 * 10
    assert counted("vgg16-nobn") == plain
    assert counted("vgg16-bn") == plain + 2 * sum(widths[1:])


def dense_by_hand(width: int, growth: int, depths: tuple[int, ...], norms: bool = True) -> int:
    """Blocks, transitions and the last norm; then the width of what comes out, times classes."""
    total = 0
    for block, depth in enumerate(depths):
        if block:
            total += width * (width // 2) + 2 * width * norms
            width //= 2
        for _ in range(depth):
            total += width * 4 * growth + 9 * 4 * growth * growth
            total += 2 * (width + 4 * growth) * norms
            width += growth
    return total + 2 * width * norms + (width + 1) * 10


def test_densenets_by_formula() -> None:
    body = dense_by_hand(64, 32, (6, 12, 24, 16))
    assert counted("densenet121", classes=10) == body + 3 * 64 * 9
    assert counted("densenet121", classes=10, stem="imagenet") == body + 3 * 64 * 49 + 128
    for norms, name in ((True, "densenet-bc-100-12"), (False, "densenet-bc-100-12-nobn")):
        body = dense_by_hand(24, 12, (16, 16, 16), norms)
        assert counted(name) == body + 3 * 24 * 9


def test_googlenet_by_formula() -> None:
    """From Table 1 of Szegedy et al.; each convolution with a bias and a batch norm."""

    def layer(inputs: int, outputs: int, size: int) -> int:
        return inputs * outputs * size * size + 3 * outputs

    total, inputs = layer(3, 192, 3), 192
    for one, r3, three, r5, five, pool in [
        *((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), (192, 96, 208, 16, 48, 64)),
        *((160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64)),
        *((256, 160, 320, 32, 128, 128),) * 2,
        (384, 192, 384, 48, 128, 128),
    ]:
        total += layer(inputs, one, 1) + layer(inputs, r3, 1) + layer(r3, three, 3)
        total += layer(inputs, r5, 1) + layer(r5, five, 3) + layer(five, five, 3)
        total += layer(inputs, pool, 1)
        inputs = one + three + five + pool
    assert counted("googlenet", classes=10) == total + (inputs + 1) * 10


@pytest.mark.parametrize("width", [32, 64, 96])
def test_shake_shake_by_formula(width: int) -> None:
    """From models/shakeshakeblock.lua of xgastaldi/shake-shake."""
    total, inputs = 3 * 16 * 9 + 2 * 16, 16
    for outputs in (width, 2 * width, 4 * width):
        for _ in range(4):
            total += 2 * (9 * inputs * outputs + 9 * outputs**2 + 4 * outputs)
            if inputs != outputs:
                total += 2 * inputs * (outputs // 2) + 2 * outputs
            inputs = outputs
    with torch.device("meta"):
        assert count(models.shake_shake26(width)) == total + (inputs + 1) * 10


def blocks_by_hand(width: int, layers: int) -> int:
    matrices = 3 * width**2 + width**2 + 2 * 4 * width**2
    biases = 3 * width + width + 4 * width + width
    return layers * (matrices + biases + 2 * 2 * width)


def test_transformers_by_formula() -> None:
    d = 384
    vit = 3 * 16 * 16 * d + d + d + (1 + 14 * 14) * d + blocks_by_hand(d, 12) + 2 * d
    assert counted("vit-s16") == vit + (d + 1) * 1000
    gpt2 = 50257 * 768 + 1024 * 768 + blocks_by_hand(768, 12) + 2 * 768
    assert counted("gpt2-small") == gpt2
    small = 65 * 128 + 128 * 128 + blocks_by_hand(128, 4) + 2 * 128
    assert counted("gpt", vocabulary=65) == small


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("width", "layers"), [(512, 2), (650, 2), (20, 3)])
def test_lstm_by_formula(width: int, layers: int, tied: bool) -> None:
    cells = layers * (4 * width * (width + width) + 2 * 4 * width)  # two biases, as cuDNN has
    head = 10_000 + (0 if tied else 10_000 * width)
    settings = {"width": width, "layers": layers, "tied": tied}
    assert counted("lstm", vocabulary=10_000, **settings) == 10_000 * width + cells + head


# --- the page ------------------------------------------------------------------------------------


def rows_of_the_page() -> Iterator[tuple[str, dict[str, Any], int]]:
    row = r"^\| `([^`]+)` \| (?:`([^`]+)`)? ?\| ([\d,]+) \| .+ \|$"
    for name, settings, parameters in re.findall(row, PAGE.read_text("utf-8"), re.M):
        call = ast.parse(f"f({settings})", mode="eval").body
        assert isinstance(call, ast.Call)
        values = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        yield name, values, int(parameters.replace(",", ""))


def test_the_page_counts_as_the_code_does() -> None:
    rows = list(rows_of_the_page())
    assert {name for name, _, _ in rows} == set(MODELS)
    wrong = [row for row in rows if counted(row[0], **row[1]) != row[2]]
    assert not wrong


# --- names -----------------------------------------------------------------------------------


def test_every_exported_function_is_behind_a_name() -> None:
    functions = {getattr(function, "func", function) for function in MODELS.values()}
    exported = set(models.__all__) - {"MODELS", "build"}
    assert {function.__name__ for function in functions} == exported
