"""Our own base optimizers as their papers or codes write them, in float64, for the tests.

As `reference`: slow, unrolled, and without anything from halflife. A function here is one
parameter's step; it returns the direction ``u`` of ``w - lr u``, and ``E^-2`` of the update
``lr E m_hat`` that stable decay follows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference import Array, Group, ratio_of_norms, update

Settings = dict[str, Any]
State = dict[str, Any]


def yogi(h: Settings, s: State, g: Array, k: int, lr: float, base_lr: float) -> tuple:
    b1, b2 = h["betas"]
    start = np.full_like(g, 1e-6)
    m, v = s.get("m", start), s.get("v", start)
    s["m"] = b1 * m + (1 - b1) * g
    s["v"] = v - (1 - b2) * np.sign(v - g**2) * g**2
    m_hat, v_hat = s["m"] / (1 - b1**k), s["v"] / (1 - b2**k)
    return m_hat / (np.sqrt(v_hat) + h["eps"]), v_hat


def adabound(h: Settings, s: State, g: Array, k: int, lr: float, base_lr: float) -> tuple:
    b1, b2 = h["betas"]
    s["m"] = b1 * s.get("m", 0 * g) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0 * g) + (1 - b2) * g**2
    s["max"] = np.maximum(s.get("max", 0 * g), s["v"])
    v = s["max"] if h.get("amsbound") else s["v"]
    bc1, bc2 = 1 - b1**k, 1 - b2**k
    if lr == 0:
        return 0 * g, np.ones_like(g)
    final = h["final_lr"] * lr / base_lr
    low, high = final * (1 - 1 / (h["gamma"] * k + 1)), final * (1 + 1 / (h["gamma"] * k))
    step = lr * math.sqrt(bc2) / bc1
    rate = np.clip(step / (np.sqrt(v) + h["eps"]), low, high)
    without_eps = np.clip(step / np.sqrt(v), low, high)  # update = lr E (m / bc1)
    return rate * s["m"] / lr, (lr / (bc1 * without_eps)) ** 2


def padam(h: Settings, s: State, g: Array, k: int, lr: float, base_lr: float) -> tuple:
    b1, b2 = h["betas"]
    s["m"] = b1 * s.get("m", 0 * g) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0 * g) + (1 - b2) * g**2
    s["max"] = np.maximum(s.get("max", 0 * g), s["v"])
    v = s["max"] if h.get("amsgrad", True) else s["v"]
    p, bc1, bc2 = h["partial"], 1 - b1**k, 1 - b2**k
    size = math.sqrt(bc2) / bc1
    return size * s["m"] / (np.sqrt(v) + h["eps"]) ** (2 * p), v ** (2 * p) / bc2


def lion(h: Settings, s: State, g: Array, k: int, lr: float, base_lr: float) -> tuple:
    b1, b2 = h["betas"]
    m = s.get("m", 0 * g)
    s["m"] = b2 * m + (1 - b2) * g
    return np.sign(b1 * m + (1 - b1) * g), np.ones_like(g)


def adai(h: Settings, s: State, g: Array, mean: float) -> tuple:
    """As its code: with the product of the inertias; ``s["v_hat"]`` is this step's."""
    b0 = h["betas"][0]
    inertia = np.clip(1 - b0 * s["v_hat"] / mean, 0, 1 - h["eps"])
    s["product"] = s.get("product", np.ones_like(g)) * inertia
    s["m"] = inertia * s.get("m", 0 * g) + (1 - inertia) * g
    return s["m"] / (1 - s["product"]), np.ones_like(g)


STEPS = {"yogi": yogi, "adabound": adabound, "padam": padam, "lion": lion}
NAMES = (*STEPS, "adai")  # Adai's step needs the whole model


def run(
    name: str, settings: Settings, rule: str, groups: list[Group], gradients: list
) -> dict[tuple[int, int], State]:
    """Every step of every group, by the rule; gradients[t][group][parameter]. Returns the state."""
    state: dict[tuple[int, int], State] = {}
    for t, row in enumerate(gradients):
        present: dict[tuple[int, int], Array] = {}
        for i, group in enumerate(groups):
            for j, w in enumerate(group.weights):
                g = row[i][j]
                if g is None:
                    continue
                g = -g if settings.get("maximize") else g
                present[i, j] = g + group.weight_decay * w if rule == "l2" else g
                s = state.setdefault((i, j), {"k": 0})
                s["k"] += 1
        taken = {}
        if name == "adai":
            b2 = settings["betas"][1]
            for key, g in present.items():
                s = state[key]
                s["v"] = b2 * s.get("v", 0 * g) + (1 - b2) * g**2
                s["v_hat"] = s["v"] / (1 - b2 ** s["k"])
            mean = float(np.mean(np.concatenate([state[key]["v_hat"].ravel() for key in present])))
            taken = {key: adai(settings, state[key], g, mean) for key, g in present.items()}
        else:
            for (i, j), g in present.items():
                s, group = state[i, j], groups[i]
                taken[i, j] = STEPS[name](settings, s, g, s["k"], group.lrs[t], group.peak_lr)
        inverse = np.concatenate([inverse.ravel() for _, inverse in taken.values()])
        scale = float(np.mean(inverse)) ** -0.5
        if rule == "adaptive":
            scale = ratio_of_norms(groups, row)
        for (i, j), (direction, _) in taken.items():
            update(rule, groups[i], j, t, direction, scale)
    return state
