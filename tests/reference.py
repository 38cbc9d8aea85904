"""The algorithms as their papers write them, in float64, for the tests to compare with.

Slow, unrolled and paper-shaped. Imports nothing from halflife, and shares no formula with it: the
decays are written as updates of the weights, not as fractions and coefficients. All arrays are
float64; ``None`` is a gradient that a parameter missed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass
class Group:
    """One parameter group: weights, and per-step learning rates."""

    weights: list[Array]
    lrs: list[float]
    weight_decay: float
    peak_lr: float


@dataclass
class Run:
    """Hyper-parameters of one run; the attributes are torch's names."""

    rule: str
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    maximize: bool = False
    steps: dict[tuple[int, int], int] = field(default_factory=dict)
    state: dict[tuple[int, int], dict[str, Array]] = field(default_factory=dict)


def adam(run: Run, groups: list[Group], gradients: list[list[list[Array | None]]]) -> None:
    """Adam, AMSGrad and every decay rule on them; gradients[t][group][parameter]."""
    b1, b2 = run.betas
    for t, all_gradients in enumerate(gradients):
        ratio = ratio_of_norms(groups, all_gradients)
        moments = {}
        for i, group in enumerate(groups):
            for j, w in enumerate(group.weights):
                g = all_gradients[i][j]
                if g is None:
                    continue
                g = -g if run.maximize else g
                if run.rule == "l2":
                    g = g + group.weight_decay * w
                s = run.state.setdefault((i, j), {"m": 0 * w, "v": 0 * w, "max": 0 * w})
                k = run.steps[i, j] = run.steps.get((i, j), 0) + 1
                s["m"] = b1 * s["m"] + (1 - b1) * g
                s["v"] = b2 * s["v"] + (1 - b2) * g * g
                s["max"] = np.maximum(s["max"], s["v"])
                second = (s["max"] if run.amsgrad else s["v"]) / (1 - b2**k)
                moments[i, j] = s["m"] / (1 - b1**k), second
        # SWD: one mean over every element of every parameter that has a gradient.
        total = sum(second.sum() for _, second in moments.values())
        count = sum(second.size for _, second in moments.values())
        mean_second = total / count if count else 0.0
        for (i, j), (first, second) in moments.items():
            group = groups[i]
            direction = first / (np.sqrt(second) + run.eps)
            scale = 1 / math.sqrt(mean_second) if mean_second > 0 else 0.0
            update(run.rule, group, j, t, direction, ratio if run.rule == "adaptive" else scale)


def sgd(run: Run, groups: list[Group], gradients: list[list[list[Array | None]]]) -> None:
    """SGD with torch's momentum buffer, and every decay rule on it."""
    mu, damp = run.momentum, run.dampening
    for t, all_gradients in enumerate(gradients):
        ratio = ratio_of_norms(groups, all_gradients)
        for i, group in enumerate(groups):
            for j, w in enumerate(group.weights):
                g = all_gradients[i][j]
                if g is None:
                    continue
                g = -g if run.maximize else g
                if run.rule == "l2":
                    g = g + group.weight_decay * w
                direction = g
                if mu:
                    s = run.state.setdefault((i, j), {})
                    s["buf"] = mu * s["buf"] + (1 - damp) * g if "buf" in s else g
                    direction = g + mu * s["buf"] if run.nesterov else s["buf"]
                scale = (1 - damp) / (1 - mu) if mu else 1.0
                update(run.rule, group, j, t, direction, ratio if run.rule == "adaptive" else scale)


def ratio_of_norms(groups: list[Group], gradients: list[list[Array | None]]) -> float:
    """AWD: ||g|| / ||w||, every element of the model that has a gradient."""
    pairs = [
        (w, g)
        for group, row in zip(groups, gradients, strict=True)
        for w, g in zip(group.weights, row, strict=True)
        if g is not None
    ]
    weight = sum(float((w * w).sum()) for w, _ in pairs)
    gradient = sum(float((g * g).sum()) for _, g in pairs)
    return math.sqrt(gradient / weight) if weight else 0.0


def update(rule: str, group: Group, j: int, t: int, direction: Array, scale: float) -> None:
    """One weight update, each rule as its paper writes it."""
    w, lr, lam = group.weights[j], group.lrs[t], group.weight_decay
    eta = lr / group.peak_lr  # the papers' schedule multiplier
    alpha = group.peak_lr
    if rule == "l2":  # the decay is in the gradient already
        new = w - lr * direction
    elif rule == "decoupled":  # torch.optim.AdamW
        new = w - lr * lam * w - lr * direction
    elif rule == "independent":  # 001, Algorithms 1 and 2: eta_t (alpha u + lambda w)
        new = w - eta * (alpha * direction + lam * w)
    elif rule == "constant":  # Hanson & Pratt; Eq. (1) of 000 and 001
        new = w - (lam * w if lr > 0 else 0.0) - lr * direction
    elif rule == "corrected":  # AdamC: lambda proportional to the learning rate
        new = w - lr * (lam * eta) * w - lr * direction
    elif rule == "stable":  # 000: AdamS, SGDS
        new = (1 - lr * lam * scale) * w - lr * direction
    elif rule == "stable_eps":  # 000, section 4: a small value added to the mean, here 0.5
        new = (1 - lr * lam / math.sqrt(scale**-2 + 0.5)) * w - lr * direction
    elif rule == "adaptive":  # AWD, decoupled: the decay is as long as lr lam times the gradient
        new = w - lr * lam * scale * w - lr * direction
    elif rule == "proximal":  # 002 (P1), with torch's unit of lambda
        new = (w - lr * direction) / (1 + lr * lam)
    elif rule == "proximal_independent":  # 004: AdamProx
        new = (w - eta * alpha * direction) / (1 + lam * eta)
    else:
        raise KeyError(rule)
    group.weights[j] = new


RUNNERS: dict[str, Any] = {"adam": adam, "sgd": sgd}


# --- schedules, written out ----------------------------------------------------------------------


def cosine(peak: float, total: int) -> list[float]:
    return [0.5 * peak * (1 + math.cos(math.pi * t / total)) for t in range(total)]


def warmup_from_zero(peak: float, total: int) -> list[float]:
    warm = total // 3
    down = [peak * (1 - (t - warm) / (total - warm)) for t in range(warm, total)]
    return [peak * t / warm for t in range(warm)] + down


def constant(peak: float, total: int) -> list[float]:
    return [peak] * total


SCHEDULES = {"cosine": cosine, "warmup_from_zero": warmup_from_zero, "constant": constant}
