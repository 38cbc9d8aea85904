"""What a training is made of, so that an edited one is not taken for the one that was begun.

A part is a function or class of the user's own, found by following the names that the training
uses; its digest is that of its code without comments, docstrings and layout. Values that it takes
from around it (globals, closures, defaults, arguments of `functools.partial`) are parts too. What
is installed is told by its name and not followed: its versions are parts.

Two things are no edit: what the training stores while it runs, and what other modules store in it
when they are imported. So a name whose value the code itself changes is told by the statements that
give it one. Functions and classes in it, such as those of a registry, are parts that may come and
go.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

from ... import __version__
from .values import content_of
from .walk import REGISTERED, Sources, Walk, digest_of

__all__ = ["difference", "mark", "parts_of", "referred_parts"]


def parts_of(train: Any) -> dict[str, str]:
    """Digests of a training's parts, by name.

    Example:
        >>> def train(lr, weight_decay, seed):
        ...     return lr
        >>> sorted(parts_of(train))
        ['halflife', '...train', 'python', 'torch']
    """
    return _walked(train).digests(referred=False) | {
        "torch": torch.__version__.partition("+")[0],
        "halflife": __version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def referred_parts(train: Any) -> dict[str, str]:
    """Digests of those parts that another process imports by itself, where it is sent a training.

    They are of the source: what a module has computed as it was imported, such as its process's
    rank or a folder for temporary files, is another in each process.

    Example:
        >>> referred_parts(lambda lr, weight_decay, seed: lr)
        {}
    """
    return _walked(train, content=False).digests(referred=True)


def mark(*values: Any) -> str:
    """Short text that is the same for equal data.

    Example:
        >>> mark({"a": 1}) == mark({"a": 1}), mark({"a": 1}) == mark({"a": 2})
        (True, False)
    """
    return digest_of(str([content_of(v) or repr(v) for v in values]))


def difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Names of the parts that differ, are gone or are new.

    Registered ones may come and go.

    Example:
        >>> difference({"a": "1", "b": "1"}, {"a": "2", "c (registered)": "1"})
        ['a', 'b']
    """
    both = known.keys() & wanted.keys()
    one = {n for n in known.keys() ^ wanted.keys() if not n.endswith(REGISTERED)}
    return sorted(one | {n for n in both if known[n] != wanted[n]})


def _walked(train: Any, *, content: bool = True) -> Walk:
    """A training, walked twice: what it stores is known only when all its code has been seen."""
    known = Sources()
    first = Walk(known, None, content=False)
    first.begin(train)
    second = Walk(known, first.seen, content=content)
    second.begin(train)
    return second
