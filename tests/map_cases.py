"""The rules that are maps, each with its paper's formula; `cases` hands them on as ``MAPS``.

A new map is tested by being entered here. Its formula says what a weight becomes, in float64, from
what `Seen` shows it; `oracles.map_weights` runs it around torch's own optimizers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from halflife import Independent
from halflife.rules import (
    Anchored,
    Cautious,
    DecayMap,
    HuberDecay,
    NormControl,
    PowerDecay,
    Preconditioned,
    ProximalL1,
    ProximalNorm,
)


@dataclass
class Seen:
    """What an oracle may look at: one parameter around one native step without decay."""

    start: Tensor  # the weights before anything
    u: Tensor  # update direction: (before - after) / lr
    D: Tensor | None  # sqrt(v_hat) + eps
    initial: Tensor
    norm: float  # of all decayed weights after the step


def cautious(w: Tensor, x: float, s: Seen) -> Tensor:
    return torch.where(w * s.u >= 0, w - x * w, w)


def soft(w: Tensor, threshold: Any) -> Tensor:
    return torch.sign(w) * torch.clamp(w.abs() - threshold, min=0)


def norm_control(w: Tensor, x: float, s: Seen) -> Tensor:
    rms = w.square().mean().sqrt()
    return w - x * (1 - 0.5 / rms) * w


def anchored(w: Tensor, x: float, s: Seen) -> Tensor:
    return w - x * (w - s.initial)


@dataclass(frozen=True)
class MapCase:
    """A map at one choice of its settings.

    ``lab`` is the rule and the coefficient of the lab's short run, where they must differ: its
    weights are smaller, and it takes the first case of every rule.
    """

    id: str
    rule: DecayMap
    formula: Callable[[Tensor, float, Seen], Tensor]
    weight_decay: float  # visible within STEPS at PEAK
    amount: str = "decoupled"  # which rule gives the amount
    lab: tuple[DecayMap, float] | None = None

    @property
    def adam_only(self) -> bool:
        return "preconditioner" in self.rule.needs

    @property
    def in_lab(self) -> tuple[DecayMap, float]:
        return self.lab or (self.rule, self.weight_decay)


MAPS = [
    MapCase("cautious", Cautious(), cautious, 2.0, lab=(Cautious(), 1.0)),
    MapCase("cautious-independent", Cautious("independent"), cautious, 0.04, "independent"),
    MapCase("anchored", Anchored(), anchored, 2.0, lab=(Anchored("independent"), 1e-2)),
    MapCase("anchored-1", Anchored(to=1.0), lambda w, x, s: w - x * (w - 1), 2.0),
    MapCase(
        "huber",
        HuberDecay(delta=0.4),
        lambda w, x, s: w - x * w.clamp(-0.4, 0.4),
        2.0,
        lab=(HuberDecay(delta=0.05), 1.0),
    ),
    MapCase(
        "norm_control",
        NormControl(target=0.5),
        norm_control,
        2.0,
        lab=(NormControl(target=0.1), 1.0),
    ),
    MapCase(
        "l1",
        ProximalL1(Independent()),
        lambda w, x, s: soft(w, x),
        0.02,
        "independent",
        lab=(ProximalL1(), 0.1),
    ),
    MapCase(
        "l1-preconditioned",
        ProximalL1(metric="preconditioned"),
        lambda w, x, s: soft(w, x / s.D),
        0.3,
    ),
    MapCase(
        "norm",
        ProximalNorm(),
        lambda w, x, s: max(1 - x / s.norm, 0.0) * w,
        2.0,
        lab=(ProximalNorm(), 1.0),
    ),
    MapCase(
        "norm-tensor",
        ProximalNorm(per_tensor=True),
        lambda w, x, s: torch.clamp(1 - x / w.norm(), min=0) * w,
        0.5,
    ),
    MapCase(
        "preconditioned",
        Preconditioned(),
        lambda w, x, s: w / (1 + x / s.D),
        1.0,
        lab=(Preconditioned(), 1e-3),
    ),
    MapCase(
        "power-1",
        PowerDecay(power=1.0),
        lambda w, x, s: w / (1 + x / w.abs()),
        0.5,
        lab=(PowerDecay(power=1.5), 0.3),
    ),
    MapCase("power-3", PowerDecay(power=3.0), lambda w, x, s: w / (1 + x * w.abs()), 2.0),
]
