"""The models by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from ...checks import near
from .densenet import densenet121, densenet_bc100
from .inception import googlenet
from .perceptron import mlp
from .recurrent import lstm
from .resnet import resnet18, resnet34, resnet50
from .resnet_cifar import cifar_resnet
from .shake_shake import shake_shake26
from .transformer import gpt
from .vgg import vgg16
from .vit import vit_s16

__all__ = ["MODELS", "build"]

DEPTHS = (20, 44, 56, 110, 218)

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    **{f"resnet{depth}": functools.partial(cifar_resnet, depth=depth) for depth in DEPTHS},
    **{
        f"resnet{depth}-nobn": functools.partial(cifar_resnet, depth=depth, batch_norm=False)
        for depth in DEPTHS
    },
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "vgg16-bn": vgg16,
    "vgg16-nobn": functools.partial(vgg16, batch_norm=False),
    "densenet121": densenet121,
    "densenet-bc-100-12": densenet_bc100,
    "densenet-bc-100-12-nobn": functools.partial(densenet_bc100, batch_norm=False),
    "googlenet": googlenet,
    "shake-shake-26-2x64d": functools.partial(shake_shake26, width=64),
    "shake-shake-26-2x96d": functools.partial(shake_shake26, width=96),
    "vit-s16": vit_s16,
    "lstm": lstm,
    "gpt": gpt,
    "gpt2-small": functools.partial(
        gpt, vocabulary=50257, context=1024, layers=12, heads=12, width=768, dropout=0.1
    ),
}


def build(name: str, **settings: Any) -> nn.Module:
    """The model of that name, freshly initialised from torch's generator.

    Args:
        name: one of `MODELS`.
        settings: of the function behind it, such as ``classes=100``, ``channels=1``,
            ``stem="cifar"`` or ``leak=0.1``; what the name says can be given anew, too.

    Raises:
        TypeError: for a setting that the model does not have, or one that it lacks.
        ValueError: for an unknown name, naming the nearest, or a setting that cannot be.

    Example:
        >>> sum(p.numel() for p in build("resnet20-nobn", classes=100).parameters())
        274196
    """
    if name not in MODELS:
        raise ValueError(
            f"model={name!r} is not known, the models are {', '.join(MODELS)}{near(name, MODELS)}"
        )
    signature = inspect.signature(MODELS[name])
    for setting in settings:
        if setting not in signature.parameters:
            known = ", ".join(signature.parameters)
            raise TypeError(
                f"build({name!r}): {setting}={settings[setting]!r} is no setting of this model, "
                f"which has {known}{near(setting, signature.parameters)}"
            )
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise TypeError(f"build({name!r}): {error}; pass it by its name.") from None
    return MODELS[name](**settings)
