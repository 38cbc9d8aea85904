"""The optimizers that torch has not: one is tested by being entered here.

All tests that run over them read this list; its update is transcribed in `reference_optimizers`.
"""

from __future__ import annotations

from typing import Any

from halflife.optim.adabound import AdaBound, AdaBoundBase
from halflife.optim.adai import Adai, AdaiBase
from halflife.optim.lion import Lion, LionBase
from halflife.optim.padam import Padam, PadamBase
from halflife.optim.yogi import Yogi, YogiBase

# name: (class with a rule, class without, name of the reference, its settings)
OPTIMIZERS: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "Yogi": (Yogi, YogiBase, "yogi", {"betas": (0.9, 0.99), "eps": 1e-3}),
    "AdaBound": (
        AdaBound,
        AdaBoundBase,
        "adabound",
        {"betas": (0.9, 0.99), "eps": 1e-8, "final_lr": 0.03, "gamma": 0.2},
    ),
    "AMSBound": (
        AdaBound,
        AdaBoundBase,
        "adabound",
        {"betas": (0.9, 0.9), "eps": 1e-8, "final_lr": 0.02, "gamma": 0.05, "amsbound": True},
    ),
    "Padam": (Padam, PadamBase, "padam", {"betas": (0.9, 0.9), "eps": 1e-8, "partial": 0.25}),
    "Padam-no-amsgrad": (
        Padam,
        PadamBase,
        "padam",
        {"betas": (0.8, 0.99), "eps": 1e-8, "partial": 0.125, "amsgrad": False},
    ),
    "Lion": (Lion, LionBase, "lion", {"betas": (0.9, 0.99)}),
    "Adai": (Adai, AdaiBase, "adai", {"betas": (0.1, 0.99), "eps": 1e-3}),
    "Adai-maximize": (
        Adai,
        AdaiBase,
        "adai",
        {"betas": (0.5, 0.9), "eps": 0.01, "maximize": True},
    ),
}
