"""The registry that the core tests run over: rules, optimizers, implementations, schedules.

A new rule or optimizer is tested by being entered here. A `Rule` names its counterpart in
`reference`, and coefficients at which its decay is large enough to see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import halflife
import reference
from halflife import (
    Adaptive,
    Constant,
    Corrected,
    DecayRule,
    Decoupled,
    Independent,
    L2Regularization,
    Proximal,
    Stable,
)

PEAK = 0.02
STEPS = 24


def measured(rate: Any) -> dict[str, Any]:
    """Every number that a rule may ask of a step, such that each makes the rate this one."""
    return {"effective_rate": rate, "gradient_norm": rate, "weight_norm": 1.0}


@dataclass(frozen=True)
class RuleCase:
    rule: DecayRule
    reference: str
    weight_decay: float  # visible within STEPS at PEAK, and removes less than everything

    @property
    def id(self) -> str:
        return self.reference


RULES = [
    RuleCase(L2Regularization(), "l2", 0.3),
    RuleCase(Decoupled(), "decoupled", 2.0),
    RuleCase(Independent(), "independent", 0.04),
    RuleCase(Constant(), "constant", 0.04),
    RuleCase(Corrected(), "corrected", 2.0),
    RuleCase(Stable(), "stable", 0.9),
    RuleCase(Adaptive(), "adaptive", 0.9),
    RuleCase(Proximal(), "proximal", 2.0),
    RuleCase(Proximal(Independent()), "proximal_independent", 0.04),
]


@dataclass(frozen=True)
class OptimizerCase:
    name: str
    cls: Callable[..., Any]
    runner: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.name

    def make(self, params: Any, rule: RuleCase, **arguments: Any) -> Any:
        settings: dict[str, Any] = {
            "lr": PEAK,
            "decay": rule.rule,
            "weight_decay": rule.weight_decay,
            **self.arguments,
            **arguments,
        }
        return self.cls(params, **settings)


OPTIMIZERS = [
    OptimizerCase("SGD", halflife.SGD, "sgd"),
    OptimizerCase("SGD-momentum", halflife.SGD, "sgd", {"momentum": 0.9, "dampening": 0.4}),
    OptimizerCase("SGD-nesterov", halflife.SGD, "sgd", {"momentum": 0.9, "nesterov": True}),
    OptimizerCase("Adam", halflife.Adam, "adam"),
    OptimizerCase("AMSGrad", halflife.Adam, "adam", {"amsgrad": True}),
    OptimizerCase("AdamW", halflife.AdamW, "adam", {"betas": (0.8, 0.95), "eps": 1e-3}),
    OptimizerCase("AdamW-maximize", halflife.AdamW, "adam", {"maximize": True}),
]

IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "open": {},
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}

SHAPES = [(5, 3), (4,), (), (2, 3, 2)]
EVERY_OTHER = 2  # index of the parameter that misses every other gradient


def make_params(seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for shape in SHAPES
    ]


def make_gradients(
    steps: int = STEPS, seed: int = 1, missing: bool = True
) -> list[list[Tensor | None]]:
    """gradients[t][parameter]; with ``missing``, one parameter has one every other step only."""
    generator = torch.Generator().manual_seed(seed)
    gradients: list[list[Tensor | None]] = []
    for t in range(steps):
        row: list[Tensor | None] = [
            torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES
        ]
        if missing and t % 2:
            row[EVERY_OTHER] = None
        gradients.append(row)
    return gradients


def set_gradients(params: list[Tensor], row: list[Tensor | None]) -> None:
    for p, g in zip(params, row, strict=True):
        p.grad = None if g is None else g.clone().to(p.dtype)


def train(
    optimizer: Any,
    params: list[Tensor],
    gradients: list[list[Tensor | None]],
    lrs: list[list[float]],
) -> None:
    """Step through the gradients, writing ``lrs[group][t]`` into the groups as a scheduler does."""
    for t, row in enumerate(gradients):
        set_gradients(params, row)
        for group, schedule in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = schedule[t]
        optimizer.step()


def schedule(name: str, peak: float = PEAK, total: int = STEPS) -> list[float]:
    return reference.SCHEDULES[name](peak, total)


def one_cycle(peak: float = PEAK, total: int = STEPS) -> list[float]:
    """torch's own OneCycleLR, read off a dummy."""
    dummy = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(dummy, max_lr=peak, total_steps=total)
    lrs = []
    for _ in range(total):
        lrs.append(dummy.param_groups[0]["lr"])
        dummy.step()
        scheduler.step()
    return lrs


def schedules() -> dict[str, list[float]]:
    """The changing schedules under which every rule is tested."""
    return {
        "cosine": schedule("cosine"),
        "warmup_from_zero": schedule("warmup_from_zero"),
        "one_cycle": one_cycle(),
    }
