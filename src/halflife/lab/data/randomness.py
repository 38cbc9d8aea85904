"""Random numbers that follow from what they are for, and which of them are a process's own."""

from __future__ import annotations

import hashlib

import torch

from ...checks import require, require_count

__all__ = ["generator_at", "require_share"]


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


def require_share(name: str, rows: int, rank: int, world: int) -> None:
    """Check that the rows of a step are divided among so many processes, of which this is one.

    Raises:
        ValueError: for numbers that are none, or rows that cannot be divided.
    """
    require_count("world", world, "pass the number of processes")
    require(
        rows % world == 0, name, f"a multiple of world={world}", rows,
        "give each process as many rows",
    )  # fmt: skip
    require_count("rank", rank, "pass the number of this process", minimum=0)
    require(rank < world, "rank", f"below world={world}", rank, "count processes from 0")
