"""Settings that fit a model to data, and to little time."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..data import Split
from ..data.image_files import Pictures
from ..models import MODELS

__all__ = ["LEAST", "fitted", "image_shape", "narrowed"]

_CUT = 224  # pixels that pictures in files are cut to
_SMALL = 64  # pixels: below it a network has the stem of CIFAR
_PATCHES = 7  # on a side, at least: of those few pixels
LEAST = {"vgg16-bn": 32, "vgg16-nobn": 32}  # pixels that a model needs

# What a trial in minutes on a CPU trains in the place of the paper's network: the same layers,
# fewer of them or narrower.
_NARROW: Mapping[str, Mapping[str, Any]] = {
    "resnet": {"width": 16},
    "vgg16": {"width": 16},
    "densenet121": {"growth": 8},
    "densenet-bc": {"growth": 4},
    "googlenet": {"width": 48},
    "shake-shake": {"width": 16},
    "vit": {"depth": 2, "width": 96, "heads": 3},
    "lstm": {"width": 128},
    "gpt": {"layers": 2, "heads": 2, "width": 64},
}
_SHALLOW = {"depth": 20}  # the CIFAR ResNets, which are narrow


def fitted(
    model: str, *, classes: int, channels: int = 3, side: int | None = None,
    context: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The settings that a model has of those that its data decides.

    Args:
        model: name of `halflife.lab.models`.
        classes: of images, or the tokens of a vocabulary.
        channels: of images.
        side: pixels of height and width; None for text.
        context: tokens of a window.
    """
    given: dict[str, Any] = {"vocabulary": classes, "context": context}
    if side is not None:
        given = {"classes": classes, "channels": channels, "image": side}
        if side <= _SMALL:
            patch = max(p for p in range(1, max(2, side // _PATCHES + 1)) if side % p == 0)
            given |= {"stem": "cifar", "patch": patch}
    return {name: value for name, value in given.items() if name in _known(model) and value}


def image_shape(split: Split) -> tuple[int, int]:
    """Channels and side of the images that a network gets, held or read from files.

    Pictures of many sizes are cut to those of the networks for ImageNet.

    Raises:
        ValueError: if the rows are no images.
    """
    inputs = split.inputs
    if isinstance(inputs, Pictures):
        return 3, _CUT
    shape = inputs.shape[1:] if isinstance(inputs, Tensor) else inputs[torch.tensor([0])].shape[1:]
    if len(shape) != 3:
        raise ValueError(
            f"data: its rows must be images, got {tuple(shape)}; name data of images, such as "
            "fashion-mnist."
        )
    return int(shape[0]), int(shape[-1])


def narrowed(model: str) -> dict[str, Any]:
    """Settings of a model for a trial in minutes."""
    known = _known(model)
    if model.startswith("resnet") and "depth" in known:
        return dict(_SHALLOW) if known["depth"].default > _SHALLOW["depth"] else {}
    found = next(value for prefix, value in _NARROW.items() if model.startswith(prefix))
    return dict(found)


def _known(model: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(MODELS[model]).parameters
