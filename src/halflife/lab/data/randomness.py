"""Random numbers that follow from what they are for, so that any step can be drawn again."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["generator_at"]


def generator_at(purpose: str, *numbers: int) -> torch.Generator:
    """Random numbers for one purpose at one place, such as an epoch and a step.

    Two places share no numbers, and no place needs those before it: a training that goes on at
    step k draws what it would have drawn.

    Args:
        purpose: what is drawn.
        numbers: seed, epoch, step.

    Example:
        >>> a, b = generator_at("order", 0, 3), generator_at("order", 0, 3)
        >>> bool(torch.rand(1, generator=a) == torch.rand(1, generator=b))
        True
    """
    text = "/".join([purpose, *map(str, map(int, numbers))])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    # Below 2**63: seeds are signed on some devices.
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
