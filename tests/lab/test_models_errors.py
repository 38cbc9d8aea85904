"""What the lab's models refuse, in whole sentences."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import halflife.lab.models as models


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        ("resnet21", {}, ValueError, r"^model='resnet21' is not known, the models are mlp, .*; did you mean 'resnet2\d*'\?$"),
        ("resnet18", {"clases": 10}, TypeError, r"^build\('resnet18'\): clases=10 is no setting of this model, which has classes, channels, stem, width; did you mean 'classes'\?$"),
        ("gpt", {}, TypeError, r"^build\('gpt'\): missing a required argument: 'vocabulary'; pass it by its name\.$"),
        ("resnet18", {"classes": 0}, ValueError, r"^classes must be an integer >= 1, got 0; pass the number of classes\.$"),
        ("resnet20", {"channels": 1.0}, ValueError, r"^channels must be an integer >= 1, got 1\.0; pass 3 for colours"),
        ("resnet20", {"leak": -0.1}, ValueError, r"^leak must be a finite number >= 0, got -0\.1; pass the slope"),
        ("resnet18", {"stem": "mnist"}, ValueError, r"^stem must be 'imagenet' or 'cifar', got 'mnist'; "),
        ("densenet121", {"stem": ""}, ValueError, r"^stem must be 'imagenet' or 'cifar', got ''; "),
        ("densenet-bc-100-12", {"growth": 0}, ValueError, r"^growth must be an integer >= 1, got 0; "),
        ("vit-s16", {"image": 30}, ValueError, r"^image must be a multiple of patch=16, got 30; change either\.$"),
        ("vit-s16", {"heads": 5}, ValueError, r"^width must be a multiple of heads=5, got 384; change either\.$"),
        ("vit-s16", {"drop_path": 1.0}, ValueError, r"^drop_path must be a number in \[0, 1\), got 1\.0; "),
        ("vit-s16", {"depth": 0}, ValueError, r"^depth must be an integer >= 1, got 0; "),
        ("gpt", {"vocabulary": 0}, ValueError, r"^vocabulary must be an integer >= 1, got 0; "),
        ("gpt2-small", {"dropout": -1}, ValueError, r"^dropout must be a number in \[0, 1\), got -1; "),
        ("lstm", {"vocabulary": 9, "dropout": 1}, ValueError, r"^dropout must be a number in \[0, 1\), got 1; "),
        ("lstm", {"vocabulary": 9, "layers": 0}, ValueError, r"^layers must be an integer >= 1, got 0; "),
    ],
)  # fmt: skip
def test_what_cannot_be_built(
    name: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with torch.device("meta"), pytest.raises(error, match=message):
        models.build(name, **settings)


@pytest.mark.parametrize("depth", [2, 19, 21, 20.0, True])
def test_depths_that_cannot_be(depth: Any) -> None:
    with pytest.raises(ValueError, match=r"^depth must be 6n \+ 2 with n blocks a stage, got "):
        models.cifar_resnet(depth)


@pytest.mark.parametrize("width", [0, -2, 63, 64.0])
def test_widths_that_cannot_be(width: Any) -> None:
    with pytest.raises(ValueError, match=r"^width must be a positive even number, got "):
        models.shake_shake26(width)
