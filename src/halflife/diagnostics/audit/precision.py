r"""How much of the decay survives the rounding of the weights' dtype.

A dtype with ``p`` significant bits rounds ``w (1 - d)`` to ``w`` for every ``d < 2^-(p+1)``
(bfloat16 2^-9, float16 2^-12, float32 2^-25). Whether an optimizer loses the decay by that is found
by running a copy of it on a sample of the weights, without gradients: what rounds stochastically or
carries the remainders along keeps it. torch's fused kernels round decay and update together; there
an update of RMS ``s`` carries the decay over weights spaced by ``q`` to about

    kept = 1 - 2 exp(-2 pi^2 s^2 / q^2)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from ...probe import copied, unnoticed
from ...rounding import is_half
from .groups import GroupDecay
from .subjects import local

__all__ = ["Rounding", "rounding_of", "unchanged_share"]

_SAMPLE = 4096
_MOST_STEPS = 256


class Rounding(NamedTuple):
    """What rounding does to a group's decay.

    Args:
        kept: share of the decay that is left; None if that cannot be known.
        threshold: the fraction below which rounding to nearest loses all.
        dithered: whether the updates have to carry it (torch's fused kernels).
    """

    kept: float | None
    threshold: float
    dithered: bool


def unchanged_share(tensor: Tensor, fraction: float) -> float | None:
    """Share of the weights that ``round(w (1 - d))`` leaves as they are; zeros do not count."""
    weights = _sample(tensor)
    if weights is None or not 0.0 < fraction < torch.finfo(weights.dtype).eps:
        return None
    return float(
        (_double(weights) * (1.0 - fraction)).to(weights.dtype).eq(weights).double().mean()
    )


def rounding_of(decay: GroupDecay, tensors: list[Tensor]) -> Rounding | None:
    """What is left of the group's decay on weights of one dtype; None where nothing can be lost."""
    fraction = decay.fraction
    if not fraction or decay.has_own_rule or decay.native is None:
        return None  # our own rules keep it, see halflife.rounding
    samples = [s for t in tensors if (s := _sample(t)) is not None]
    if not samples or decay.native.kind == "l2":
        return None  # L2 is rounded with the gradient, which is not known
    weights = torch.cat(samples)
    weights = weights[:: max(1, weights.numel() // _SAMPLE)]
    eps = torch.finfo(weights.dtype).eps
    if fraction >= eps:
        return None
    if is_half(weights) and decay.settings.get("fused") and _is_torchs(decay.optimizer):
        return Rounding(_carried(decay, weights), eps / 4.0, True)
    return Rounding(_kept(decay, weights, fraction), eps / 4.0, False)


def _sample(tensor: Tensor) -> Tensor | None:
    values = local(tensor)
    if values is None or not values.dtype.is_floating_point or values.numel() == 0:
        return None
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.numel() // _SAMPLE)].cpu()
    return flat[flat != 0.0] if bool((flat != 0.0).any()) else None


def _is_torchs(optimizer: Optimizer) -> bool:
    return type(optimizer).__module__.startswith("torch.optim")


def _carried(decay: GroupDecay, weights: Tensor) -> float | None:
    if decay.base.update_rms is None:
        return None
    size = decay.lr * decay.base.update_rms
    exponent = torch.frexp(_double(weights))[1].double() - 1.0  # w = 1.x * 2^exponent
    spacing = torch.finfo(weights.dtype).eps * torch.exp2(exponent)
    return float((1.0 - 2.0 * torch.exp(-2.0 * (math.pi * size / spacing) ** 2)).clamp(0.0).mean())


def _kept(decay: GroupDecay, weights: Tensor, fraction: float) -> float | None:
    """Decay of a copy without gradients, relative to what it would be without rounding."""
    steps = min(_MOST_STEPS, max(1, math.ceil(2.0 * torch.finfo(weights.dtype).eps / fraction)))
    start, settings = _double(weights), dict(decay.settings)
    settings.update({key: False for key in ("foreach", "fused", "capturable") if key in settings})
    settings["lr"], settings["weight_decay"] = decay.lr, decay.weight_decay
    try:
        with unnoticed(), torch.no_grad():
            params: list[Tensor] = [torch.nn.Parameter(weights.clone())]
            optimizer = copied(decay.optimizer, settings, params)
            for _ in range(steps):
                params[0].grad = torch.zeros_like(params[0])
                optimizer.step()
            end = _double(params[0].detach())
    except Exception:  # it takes only matrices, or wants a closure: what torch's for-loop does
        end = start.clone()
        for _ in range(steps):
            end = _double((end * (1.0 - fraction)).to(weights.dtype))
    removed = float((start - end).dot(start) / start.dot(start))
    expected = -math.expm1(steps * math.log1p(-fraction)) if fraction < 1.0 else 1.0
    return removed / expected if math.isfinite(removed) else None


def _double(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float64)
