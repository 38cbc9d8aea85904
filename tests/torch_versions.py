"""What the tests know of torch's versions: what an older one does otherwise, and since when.

What the package refuses by name there (`halflife.versions`) is skipped with that name; what torch
itself did otherwise is written here, once.
"""

from __future__ import annotations

import doctest

import pytest
import torch

from halflife import versions
from halflife.versions import TORCH

__all__ = ["TORCH", "before", "refused"]

if not hasattr(torch.optim, "Muon"):  # tests are collected all the same, and skipped below
    torch.optim.Muon = versions.Muon  # type: ignore[misc]


def before(major: int, minor: int, what: str) -> pytest.MarkDecorator:
    """Skip a test before a version of torch, saying what that one changed."""
    return pytest.mark.skipif((major, minor) > TORCH, reason=f"torch {major}.{minor}: {what}")


def refused(error: BaseException) -> str | None:
    """What a test asked for that this version of torch has not; None of any other error."""
    if isinstance(error, doctest.UnexpectedException):
        error = error.exc_info[1]
    text = str(error)
    return text if isinstance(error, RuntimeError) and "came with torch" in text else None
