"""Data sets by their names."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from ...checks import near
from .cifar import load_cifar10, load_cifar100
from .dataset import Dataset
from .digits import load_digits
from .fashion_mnist import load_fashion_mnist
from .imagenet import load_imagenet
from .imagenet32 import load_imagenet32
from .mnist1d import load_mnist1d
from .text import load_ptb, load_text

__all__ = ["DATASETS", "load"]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "digits": load_digits,
    "fashion-mnist": load_fashion_mnist,
    "imagenet": load_imagenet,
    "imagenet32": load_imagenet32,
    "mnist1d": load_mnist1d,
    "ptb": load_ptb,
    "text": load_text,
}


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float | None = None,
    seed: int | None = None,
    verify: bool | None = None,
    **settings: Any,
) -> Dataset:
    """A data set by its name.

    Args:
        name: one of `DATASETS`.
        root: where its files are. Default: ``$HALFLIFE_DATA`` and the places that the reader of
            this data set names.
        validation: rows to hold out of the official training set, or their share. Default: the
            reader's.
        seed: of the choice of these rows. Default: 0.
        verify: require the official data set, whole: digests where they are published, numbers of
            rows. Default: True.
        settings: what else the reader takes, such as a text's ``level``.

    Raises:
        ValueError: for an unknown name, or a setting that the data set has not.

    Example:
        >>> len(load("digits", validation=0).train)
        1437
    """
    if name not in DATASETS:
        raise ValueError(
            f"name={name!r}: unknown data set; those that are here are {', '.join(DATASETS)}"
            f"{near(name, DATASETS)}"
        )
    reader = DATASETS[name]
    given = {"root": root, "validation": validation, "seed": seed, "verify": verify, **settings}
    given = {key: value for key, value in given.items() if value is not None}
    known = inspect.signature(reader).parameters
    for key in given:
        if key not in known:
            raise ValueError(
                f"{key}={given[key]!r}: the data set {name!r} has no such setting; it takes "
                f"{', '.join(known)}{near(key, known)}"
            )
    if name == "text" and root is None:
        raise ValueError("root=None: the data set 'text' must be a file; name it.")
    return reader(**given)
