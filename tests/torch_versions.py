"""What the tests know of torch's versions: what an older one does otherwise, and since when.

What the package refuses by name there (`halflife.versions`) is skipped with that name; what torch
itself did otherwise is written here, once.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator

import pytest
import torch

from halflife import versions
from halflife.versions import TORCH

__all__ = [
    "ADAGRAD_TAKES_GROUPS", "ADAM", "ADAMW", "GRAPHS", "LAST_LR_IS_A_COPY", "QUIET",
    "RECOMPILE_LIMIT", "TORCH", "before", "refused", "since",
]  # fmt: skip

if not hasattr(torch.optim, "Muon"):  # tests are collected all the same, and skipped below
    torch.optim.Muon = versions.Muon  # type: ignore[misc]


def before(major: int, minor: int, what: str) -> pytest.MarkDecorator:
    """Skip a test before a version of torch, saying what that one changed."""
    return pytest.mark.skipif((major, minor) > TORCH, reason=f"torch {major}.{minor}: {what}")


def since(major: int, minor: int, what: str) -> pytest.MarkDecorator:
    """Skip a test from a version of torch on, saying what that one changed."""
    return pytest.mark.skipif((major, minor) <= TORCH, reason=f"torch {major}.{minor}: {what}")


# Whether a scheduler's state keeps its own copy of an lr that is a tensor.
LAST_LR_IS_A_COPY = TORCH >= (2, 9)

# Whether torch's Adagrad takes groups that are added later.
ADAGRAD_TAKES_GROUPS = TORCH >= (2, 12)

# In how many graphs, at most, a step of ours is compiled: an older dynamo breaks more of them.
GRAPHS = 7 if TORCH >= (2, 9) else 12

# The option of torch._dynamo.config for how often a function is compiled anew.
RECOMPILE_LIMIT = "recompile_limit" if TORCH >= (2, 7) else "cache_size_limit"

# Warnings of torch's own code about itself, and whether this version has them.
QUIET = [
    (TORCH < (2, 9), "ignore:The epoch parameter in `scheduler.step:UserWarning"),  # SequentialLR
    (TORCH < (2, 9), "ignore:Graph break due to unsupported builtin:UserWarning"),  # a rule's check
    (TORCH < (2, 7), "ignore:Skipping serialization of skipfiles:UserWarning"),  # inductor's cache
    # LBFGS; the warning itself came with 2.8.
    (TORCH < (2, 9), "ignore:Converting a tensor with requires_grad=True to a scalar:UserWarning"),
    # Inductor's first import in a process, which may be any test's; a FutureWarning since 2.14.
    (True, "ignore:`torch.jit:DeprecationWarning"),
    (True, "ignore:`torch.jit:FutureWarning"),
    (True, "ignore:Synchronization debug mode is a prototype:UserWarning"),  # tests/gpu's
]

# How a native step takes a decay: both since Adam has a switch, which AdamW inherits.
ADAM, ADAMW = ("switch", "switch") if TORCH >= (2, 7) else ("l2", "decoupled")

# What torch says of something that it has, or does right, since a version only.
LACKS = [
    ((2, 9), RuntimeError, r"torch\.optim\.Muon came with torch 2\.9"),
    # Adam's differentiable step wrote over what its derivative needs.
    ((2, 9), RuntimeError, r"gradient computation has been modified .*LerpBackward0"),
    ((2, 7), TypeError, r"unexpected keyword argument 'decoupled_weight_decay'"),
    ((2, 7), ValueError, r"decoupled_weight_decay=True: Adam has no such argument"),
]


def refused(error: BaseException) -> str | None:
    """Why this version of torch cannot take a test that ended so; None of any other error."""
    error = getattr(error, "failures", [error])[0]  # pytest's, of a doctest
    if isinstance(error, doctest.UnexpectedException):
        error = error.exc_info[1]
    for version, kind, says in LACKS:
        found = re.search(says, str(error)) if version > TORCH and isinstance(error, kind) else None
        if found:
            return f"torch {'.'.join(map(str, version))}: {found.group()}"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    try:
        return (yield)
    except Exception as error:
        if (reason := refused(error)) is not None:
            pytest.skip(reason)
        raise
