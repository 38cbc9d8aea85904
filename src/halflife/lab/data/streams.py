"""Windows of tokens: what a language model is trained on.

    windows         the text is cut into as many streams as a batch has rows, and read on from
                    window to window: a recurrent model carries its state over (truncated
                    backpropagation through time; Zaremba et al. 2014)
    random_windows  windows from anywhere, for models without a state

Targets are the inputs shifted by one token. Windows become int64 one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...checks import require, require_count
from .randomness import generator_at, require_share

__all__ = ["random_windows", "window_count", "windows"]


def window_count(length: int, batch: int, time: int) -> int:
    """Windows in one pass over a text of this length; the last one may be shorter.

    Example:
        >>> window_count(929_589, 20, 35)
        1328
    """
    return -(-((length - 1) // batch) // time)


def windows(
    tokens: Tensor,
    batch: int,
    time: int,
    *,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    device: torch.device | str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a text in contiguous streams.

    Stream b is the b-th of `batch` equal pieces; what is left over at the end of the text, less
    than one token a stream, is left out. Window k + 1 of a stream begins where window k ended.

    Args:
        tokens: ``[length]``.
        batch: streams, of all processes together.
        time: tokens of a window; the last window may have fewer.
        rank: number of this process.
        world: how many processes share the streams: rank r has streams r, r + world, ...
        start: windows that were already taken.
        device: where they go.

    Returns:
        An iterator of inputs and targets, int64 ``[batch / world, time]``.

    Raises:
        ValueError: for numbers that do not go together, or a text shorter than the batch.

    Example:
        >>> [x.tolist() for x, _ in windows(torch.arange(9), 2, 3)]
        [[[0, 1, 2], [4, 5, 6]], [[3], [7]]]
    """
    _check(tokens, batch, time, rank, world, start)
    length = (len(tokens) - 1) // batch
    require(length > 0, "batch", f"less than the text's {len(tokens)} tokens", batch,
            "take fewer streams or a longer text")  # fmt: skip
    inputs = tokens[: batch * length].view(batch, length)[rank::world]
    targets = tokens[1 : batch * length + 1].view(batch, length)[rank::world]
    return _iterate(inputs, targets, time, start, device)


def _iterate(
    inputs: Tensor, targets: Tensor, time: int, start: int, device: torch.device | str | None
) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(start * time, inputs.shape[1], time):
        place = slice(first, first + time)
        yield _whole(inputs[:, place], device), _whole(targets[:, place], device)


def random_windows(
    tokens: Tensor,
    batch: int,
    time: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    steps: int | None = None,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    device: torch.device | str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows that begin anywhere, all places equally likely.

    Args:
        tokens: ``[length]``.
        batch: windows of one step, of all processes together.
        time: tokens of a window.
        seed: of the places.
        epoch: number of the epoch: with `seed` and the step, it is all that they follow from.
        steps: how many steps; default: as many as `windows` would take of the same text.
        rank: number of this process.
        world: how many processes share each step.
        start: steps that were already taken.
        device: where they go.

    Returns:
        An iterator of inputs and targets, int64 ``[batch / world, time]``.

    Raises:
        ValueError: for numbers that do not go together, or a text that is no longer than a window.
    """
    _check(tokens, batch, time, rank, world, start)
    require(len(tokens) > time, "time", f"less than the text's {len(tokens)} tokens", time,
            "take shorter windows")  # fmt: skip
    steps = max(1, (len(tokens) - 1) // (batch * time)) if steps is None else steps
    return _draw(tokens, batch, time, (seed, epoch), range(start, steps), (rank, world), device)


def _draw(
    tokens: Tensor,
    batch: int,
    time: int,
    seeds: tuple[int, int],
    steps: range,
    share: tuple[int, int],
    device: torch.device | str | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    # No version of torch indexes 16 bits without a sign on every device: they are read as signed.
    signed = tokens.view(torch.int16) if tokens.dtype == torch.uint16 else tokens
    reach = torch.arange(time + 1)
    rank, world = share
    for step in steps:
        places = torch.randint(
            len(tokens) - time, (batch, 1), generator=generator_at("windows", *seeds, step)
        )
        found = signed[places[rank::world] + reach].long()
        if tokens.dtype == torch.uint16:
            found &= 0xFFFF
        yield _whole(found[:, :-1], device), _whole(found[:, 1:], device)


def _check(tokens: Tensor, batch: int, time: int, rank: int, world: int, start: int) -> None:
    require(tokens.dim() == 1, "tokens", "of one dimension", tuple(tokens.shape),
            "pass a split's inputs")  # fmt: skip
    require_count("batch", batch, "pass the rows of one step")
    require_count("time", time, "pass the tokens of one window")
    require_share("batch", batch, rank, world)
    require_count("start", start, "pass the windows already taken", minimum=0)


def _whole(part: Tensor, device: torch.device | str | None) -> Tensor:
    return part.to(torch.int64).contiguous().to(device)
