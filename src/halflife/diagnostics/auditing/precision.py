r"""How much of the decay survives the rounding of the weights' dtype.

A dtype with ``p`` significant bits rounds ``w (1 - d)`` to ``w`` for every ``d < 2^-(p+1)``
(bfloat16 2^-9, float16 2^-12, float32 2^-25). Whether an optimizer loses the decay by that depends
on how it computes: some round decay and update together, and the update then carries the decay if
it is large enough; some round stochastically, or keep the remainders. So two copies of it take some
steps on a sample of the weights, with and without decay and with the same noise as gradients. What
the first has removed more than the second, against what the fractions say, is what is kept.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...bases.bench import copied, unnoticed
from .groups import GroupDecay, is_adaptive
from .subjects import local

__all__ = ["Rounding", "rounding_of", "unchanged_share"]

_SAMPLE = 4096
_LEAST_STEPS, _MOST_STEPS = 16, 256
_SETTLING = 20  # steps until the first ones, which are large, are forgotten
_IMPLEMENTATIONS = ("foreach", "capturable")  # what some devices refuse


class Rounding(NamedTuple):
    """What rounding does to a group's decay.

    Attributes:
        kept: share of the decay that is left; None if no copy could be run.
        threshold: the fraction below which rounding to nearest loses all.
    """

    kept: float | None
    threshold: float


def unchanged_share(tensor: Tensor, fraction: float) -> float | None:
    """Share of the weights that ``round(w (1 - d))`` leaves as they are; zeros do not count."""
    weights = _sample(tensor)
    if weights is None or not 0.0 < fraction < torch.finfo(weights.dtype).eps:
        return None
    rounded = (weights.double() * (1.0 - fraction)).to(weights.dtype)
    return float(rounded.eq(weights).double().mean())


def rounding_of(decay: GroupDecay, tensors: list[Tensor]) -> Rounding | None:
    """What is left of the group's decay on weights of one dtype; None where it is not in doubt."""
    fraction = decay.fraction
    if not fraction or decay.native is None:
        return None  # our own rules keep it, see halflife.tensors.rounding
    samples = [s for t in tensors if (s := _sample(t)) is not None]
    if not samples or decay.native.kind == "l2":
        return None  # L2 is rounded with the gradient, which is not known
    weights = torch.cat(samples)
    weights = weights[:: max(1, weights.numel() // _SAMPLE)]
    side = math.isqrt(weights.numel())  # some optimizers take only matrices
    weights = weights[: side * side].view(side, side)
    eps = torch.finfo(weights.dtype).eps
    if fraction >= eps:
        return None
    return Rounding(_kept(decay, weights, fraction), eps / 4.0)


def _sample(tensor: Tensor) -> Tensor | None:
    values = local(tensor)
    if values is None or not values.dtype.is_floating_point or values.numel() == 0:
        return None
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.numel() // _SAMPLE)].cpu()
    return flat[flat != 0.0] if bool((flat != 0.0).any()) else None


def _kept(decay: GroupDecay, weights: Tensor, fraction: float) -> float | None:
    most = math.ceil(2.0 * torch.finfo(weights.dtype).eps / fraction)
    steps = max(_LEAST_STEPS, min(_MOST_STEPS, most))
    start = weights.double()
    try:
        with unnoticed(), torch.no_grad():
            removed = _stepped(decay, weights, steps, 0.0) - _stepped(
                decay, weights, steps, decay.strongest.weight_decay
            )
    except Exception:  # it wants a closure, or another device
        return None
    share = float((removed * start).sum() / start.square().sum())
    return share / -math.expm1(steps * math.log1p(-fraction)) if math.isfinite(share) else None


def _stepped(decay: GroupDecay, weights: Tensor, steps: int, weight_decay: float) -> Tensor:
    """The weights after some steps of a copy of the optimizer."""
    lr: Any = decay.strongest.lr
    if isinstance(own := decay.settings["lr"], Tensor):  # some insist on it
        lr = torch.tensor(lr, dtype=own.dtype)
    settings: dict[str, Any] = {**decay.settings, "lr": lr, "weight_decay": 0.0}
    settings |= dict.fromkeys(settings.keys() & _IMPLEMENTATIONS, False)
    # Of other optimizers the size of an update follows that of the gradients, which is not known.
    size = 1.0 if is_adaptive(decay) else 0.0
    noise = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(weights.clone())
    optimizer = copied(decay.optimizer, settings, [weight])
    settling = _SETTLING + (decay.native.idle if decay.native is not None else 0)
    for step in range(settling + steps):
        if step == settling:
            weight.copy_(weights)
            optimizer.param_groups[0]["weight_decay"] = weight_decay
        weight.grad = (torch.randn(weight.shape, generator=noise) * size).to(weight.dtype)
        optimizer.step()
    return weight.detach().double()
