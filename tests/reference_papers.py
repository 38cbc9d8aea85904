"""What `reference` and `reference_optimizers` leave out of the catalogue, as the papers write it.

As these: slow, unrolled, float64, and without anything from halflife. A function here takes a whole
step of one parameter, decay included; it returns the new weights. ``h`` holds the paper's settings,
``s`` what is kept of the parameter, ``k`` counts its gradients from 1, and the schedule is given as
the papers do: ``alpha``, the peak lr, and ``eta``, its multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from reference import Array, Group

Settings = dict[str, Any]
State = dict[str, Any]
Step = Callable[..., Array]


def adam_step(h: Settings, s: State, g: Array, k: int) -> tuple[Array, Array]:
    """001, Algorithm 2, lines 7 to 10: Adam's m_hat and D = sqrt(v_hat) + eps."""
    b1, b2 = h.get("betas", (0.9, 0.999))
    s["m"] = b1 * s.get("m", 0 * g) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0 * g) + (1 - b2) * g**2
    return s["m"] / (1 - b1**k), np.sqrt(s["v"] / (1 - b2**k)) + h.get("eps", 1e-8)


# --- 001: SGD with the lr inside the buffer --------------------------------------------------


def sgd_l2_paper(h, s, w, g, k, alpha, eta, lam):
    """Algorithm 1, violet."""
    g = g + lam * w
    s["m"] = h["momentum"] * s.get("m", 0 * w) + eta * alpha * g
    return w - s["m"]


def sgdw_paper(h, s, w, g, k, alpha, eta, lam):
    """Algorithm 1, green."""
    s["m"] = h["momentum"] * s.get("m", 0 * w) + eta * alpha * g
    return w - s["m"] - eta * lam * w


# --- 002, 004: proximal steps ----------------------------------------------------------------


def adamp_blog(h, s, w, g, k, alpha, eta, lam):
    """002: w = (I + eta lambda alpha D^-1)^-1 (w - eta alpha D^-1 m_hat)."""
    m_hat, d = adam_step(h, s, g, k)
    return (w - eta * alpha * m_hat / d) / (1 + eta * lam * alpha / d)


def adamproxl1(h, s, w, g, k, alpha, eta, lam):
    """004: the metric is eta I, p is alpha u."""
    m_hat, d = adam_step(h, s, g, k)
    z = w - eta * (alpha * m_hat / d)
    return np.sign(z) * np.maximum(np.abs(z) - lam * eta, 0)


def adamproxl1_preconditioned(h, s, w, g, k, alpha, eta, lam):
    """004: the metric M is alpha eta / D, p is m_hat."""
    m_hat, d = adam_step(h, s, g, k)
    metric = alpha * eta / d
    z = w - metric * m_hat
    return np.sign(z) * np.maximum(np.abs(z) - lam * metric, 0)


def adam_without_decay(h, s, w, g, k, alpha, eta, lam):
    """The gradient step that `adamproxl2` shortens."""
    m_hat, d = adam_step(h, s, g, k)
    return w - eta * alpha * m_hat / d


def cautious_adamw(h, s, w, g, k, alpha, eta, lam):
    """Chen et al. 2025: x - eta_t (u + lambda 1[u x >= 0] x)."""
    m_hat, d = adam_step(h, s, g, k)
    u = m_hat / d
    return w - eta * alpha * (u + lam * (u * w >= 0) * w)


# --- 003: as analysed ------------------------------------------------------------------------


def moments_003(h: Settings, s: State, g: Array, k: int) -> tuple[Array, Array]:
    """Eq. (2), with the paper's betas; n is with delta under the root, and nothing is corrected."""
    b1, b2 = h["paper_betas"]
    if k == 1 and h["moments"] == "gradient":
        s["m"], s["n"] = g, g**2
    else:
        s["m"] = (1 - b1) * s.get("m", 0 * g) + b1 * g
        s["n"] = (1 - b2) * s.get("n", 0 * g) + b2 * g**2
    return s["m"], np.sqrt(s["n"] + h["delta"])


def adamw_003(h, s, w, g, k, alpha, eta, lam):
    """Algorithm 1; its eta_k is the lr."""
    m, v = moments_003(h, s, g, k)
    return (1 - lam * eta * alpha) * w - eta * alpha * m / v


def l2_adam_003(h, s, w, g, k, alpha, eta, lam):
    m, v = moments_003(h, s, g + lam * w, k)
    return w - eta * alpha * m / v


# --- baselines -------------------------------------------------------------------------------


def nadam(h, s, w, g, k, alpha, eta, lam):
    """Dozat 2016, with the momentum schedule mu_k = b1 (1 - 0.96^(k psi) / 2)."""
    g = g + lam * w
    b1, b2 = 0.9, 0.999
    mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (j * 0.004)) for j in (k, k + 1))
    s["product"] = s.get("product", 1.0) * mu
    s["m"] = b1 * s.get("m", 0 * w) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0 * w) + (1 - b2) * g**2
    ahead = mu_next * s["m"] / (1 - s["product"] * mu_next) + (1 - mu) * g / (1 - s["product"])
    return w - eta * alpha * ahead / (np.sqrt(s["v"] / (1 - b2**k)) + 1e-8)


def radam(h, s, w, g, k, alpha, eta, lam):
    """Liu et al. 2020, Algorithm 2, as torch has it: rectified from rho_t > 5, eps before bc2."""
    g = g + lam * w
    b1, b2 = 0.9, 0.999
    s["m"] = b1 * s.get("m", 0 * w) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0 * w) + (1 - b2) * g**2
    m_hat = s["m"] / (1 - b1**k)
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * k * b2**k / (1 - b2**k)
    if rho <= 5:
        return w - eta * alpha * m_hat
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return w - eta * alpha * r * m_hat * math.sqrt(1 - b2**k) / (np.sqrt(s["v"]) + 1e-8)


def rmsprop(h, s, w, g, k, alpha, eta, lam):
    g = g + lam * w
    s["v"] = 0.99 * s.get("v", 0 * w) + 0.01 * g**2
    return w - eta * alpha * g / (np.sqrt(s["v"]) + 1e-8)


def adagrad(h, s, w, g, k, alpha, eta, lam):
    g = g + lam * w
    s["sum"] = s.get("sum", 0 * w) + g**2
    return w - eta * alpha * g / (np.sqrt(s["sum"]) + 1e-10)


def adagrad_004(h, s, w, g, k, alpha, eta, lam):
    """004, Algorithm 2: projected on the cube around x_1; ``s`` keeps the points to average."""
    s.setdefault("points", []).append(w)
    s["sum"] = s.get("sum", 0 * w) + g**2
    step = np.where(s["sum"] > 0, eta * alpha * g / np.sqrt(s["sum"]), 0)
    first = s["points"][0]
    return np.clip(w - step, first - h["radius"], first + h["radius"])


def muon(h, s, w, g, k, alpha, eta, lam):
    """Jordan et al. 2024, as torch has it: Nesterov, and Newton-Schulz in bfloat16."""
    s["m"] = 0.95 * s.get("m", 0 * w) + 0.05 * g
    x = torch.from_numpy(0.05 * g + 0.95 * s["m"]).bfloat16()
    tall = w.shape[0] > w.shape[1]
    x = x.T if tall else x
    x = x / x.norm()
    for _ in range(5):
        a = x @ x.T
        b = torch.addmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, b, x, beta=3.4445)
    orthogonal = (x.T if tall else x).double().numpy()
    size = eta * alpha * math.sqrt(max(1, w.shape[0] / w.shape[1]))
    return (1 - eta * alpha * lam) * w - size * orthogonal


# --- drivers ---------------------------------------------------------------------------------


def run(step: Step, h: Settings, groups: list[Group], gradients: list) -> dict:
    """Every step of every group; gradients[t][group][parameter]. Returns the state."""
    state: dict[tuple[int, int], State] = {}
    for t, row in enumerate(gradients):
        moved = []
        for i, group in enumerate(groups):
            for j, w in enumerate(group.weights):
                if (g := row[i][j]) is None:
                    continue
                s = state.setdefault((i, j), {"k": 0})
                s["k"] += 1
                alpha, eta = group.peak_lr, group.lrs[t] / group.peak_lr
                group.weights[j] = step(h, s, w, g, s["k"], alpha, eta, group.weight_decay)
                moved.append((group, j, eta))
        if step is adam_without_decay:
            shorten(moved)
    return state


def shorten(moved: list[tuple[Group, int, float]]) -> None:
    """004, AdamProxL2: z max(1 - lambda eta / ||z||, 0), z all weights that took a step."""
    norm = math.sqrt(sum(float((group.weights[j] ** 2).sum()) for group, j, _ in moved))
    for group, j, eta in moved:
        group.weights[j] = max(1 - group.weight_decay * eta / norm, 0.0) * group.weights[j]


# --- schedules, written out ------------------------------------------------------------------


def warm_restarts(steps: int, first: int) -> list[tuple[float, int]]:
    """001, Eq. (14) per batch, cycles twice as long each time: (eta, batches in the cycle)."""
    values: list[tuple[float, int]] = []
    length = first
    while len(values) < steps:
        values += [(0.5 + 0.5 * math.cos(math.pi * k / length), length) for k in range(length)]
        length *= 2
    return values[:steps]
