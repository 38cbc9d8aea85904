"""Algorithms that the papers compare with, and others whose decay has a name of its own."""

from __future__ import annotations

from ..optim.adabound import AdaBound
from ..optim.adagrad import Adagrad
from ..optim.adai import Adai
from ..optim.adam import Adam, AdamW
from ..optim.lion import Lion
from ..optim.muon import Muon
from ..optim.nadam import NAdam
from ..optim.padam import Padam
from ..optim.radam import RAdam
from ..optim.rmsprop import RMSprop
from ..optim.sgd import SGD
from ..optim.yogi import Yogi
from ..rules.published import PUBLISHED
from .entry import Algorithm

__all__ = ["BASELINES"]

# The L2 coefficient that Xie et al. 2023 run all of their baselines with.
_L2 = 5e-4

BASELINES = [
    Algorithm(
        "amsgrad",
        Adam,
        PUBLISHED["amsgrad"],
        "g = g + lambda w;  w = w - lr m_hat / (sqrt(max v / (1 - b2^t)) + eps)",
        "Reddi et al. 2018, On the convergence of Adam and beyond",
        "Algorithm 2, as in torch.optim.Adam",
        {"lr": 1e-3, "amsgrad": True, "weight_decay": _L2},
        note="bias-corrected as in torch; the paper corrects nothing",
    ),
    Algorithm(
        "yogi",
        Yogi,
        PUBLISHED["yogi"],
        "g = g + lambda w;  v = v - (1 - b2) sign(v - g^2) g^2;  w = w - lr m_hat / "
        "(sqrt(v_hat) + eps)",
        "Zaheer et al. 2018, Adaptive methods for nonconvex optimization",
        "Algorithm 2, as in public code",
        {"lr": 1e-2, "eps": 1e-3, "weight_decay": _L2},
        note="Xie et al. run it at lr 1e-3",
    ),
    Algorithm(
        "adabound",
        AdaBound,
        PUBLISHED["adabound"],
        "g = g + lambda w;  w = w - clip(lr sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + eps), low_t, "
        "high_t) m",
        "Luo et al. 2019, Adaptive gradient methods with dynamic bound of learning rate",
        "Algorithm 2, as in its code",
        {"lr": 1e-3, "final_lr": 0.1, "gamma": 1e-3, "weight_decay": _L2},
    ),
    Algorithm(
        "amsbound",
        AdaBound,
        PUBLISHED["amsbound"],
        "adabound with the maximum of all v so far",
        "Luo et al. 2019, Adaptive gradient methods with dynamic bound of learning rate",
        "Algorithm 3, as in its code",
        {"lr": 1e-3, "final_lr": 0.1, "gamma": 1e-3, "amsbound": True, "weight_decay": _L2},
    ),
    Algorithm(
        "padam",
        Padam,
        PUBLISHED["padam"],
        "g = g + lambda w;  w = w - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(max v) + eps)^(2p)",
        "Chen et al. 2018, Closing the generalization gap of adaptive gradient methods",
        "Algorithm 1, as in its code",
        {"lr": 0.1, "partial": 1 / 8, "weight_decay": _L2},
        note="p is 1/8 as in the paper's runs; the code's default is 1/4",
    ),
    Algorithm(
        "radam",
        RAdam,
        PUBLISHED["radam"],
        "g = g + lambda w;  w = w - lr r_t m_hat sqrt(1 - b2^t) / (sqrt(v) + eps), at first "
        "w - lr m_hat",
        "Liu et al. 2020, On the variance of the adaptive learning rate and beyond",
        "Algorithm 2, as in torch.optim.RAdam",
        {"lr": 1e-3, "weight_decay": _L2},
        note="the authors' code decays by lr lambda instead (decay='decoupled'), and does nothing "
        "at all in the first steps",
    ),
    Algorithm(
        "adai",
        Adai,
        PUBLISHED["adai"],
        "g = g + lambda w;  k = clip(1 - b0 v_hat / mean v_hat, 0, 1 - eps);  m = k m + (1 - k) g;"
        "  w = w - lr m_hat",
        "Xie et al. 2022, Adaptive inertia: disentangling the effects of adaptive learning rate "
        "and momentum",
        "Algorithm 2, as in its code",
        {"lr": 1.0, "betas": (0.1, 0.99), "eps": 1e-3, "weight_decay": _L2},
        note="adais is the one with stable decay",
    ),
    Algorithm(
        "nadam",
        NAdam,
        PUBLISHED["nadam"],
        "g = g + lambda w;  w = w - lr (mu_t+1 m_hat + (1 - mu_t) g_hat) / (sqrt(v_hat) + eps)",
        "Dozat 2016, Incorporating Nesterov momentum into Adam",
        "Algorithm 2, as in torch.optim.NAdam",
        {"lr": 2e-3, "weight_decay": _L2},
    ),
    Algorithm(
        "rmsprop",
        RMSprop,
        PUBLISHED["rmsprop"],
        "g = g + lambda w;  v = b2 v + (1 - b2) g^2;  w = w - lr g / (sqrt(v) + eps)",
        "Tieleman & Hinton 2012, lecture 6.5",
        "as in torch.optim.RMSprop",
        {"lr": 1e-2, "weight_decay": _L2},
    ),
    Algorithm(
        "adagrad",
        Adagrad,
        PUBLISHED["adagrad"],
        "g = g + lambda w;  s = s + g^2;  w = w - lr g / (sqrt(s) + eps)",
        "Duchi et al. 2011, Adaptive subgradient methods",
        "Figure 1, as in torch.optim.Adagrad",
        {"lr": 1e-2, "weight_decay": _L2},
        note="adagrad_004 is the one without eps, with projection and averaging",
    ),
    Algorithm(
        "adamc",
        AdamW,
        PUBLISHED["adamc"],
        "w = (1 - eta lr lambda) w - lr u",
        "Defazio 2025, Why gradients rapidly increase near the end of training",
        "Algorithm 1",
        {"lr": 1e-3, "weight_decay": 1e-2},
        note="there for layers before a normalisation, with 'adamw' for the others: give each its "
        "own decay; other optimizers are called AdamC too",
    ),
    Algorithm(
        "awd",
        SGD,
        PUBLISHED["awd"],
        "m = b1 m + g;  w = (1 - lr lambda ||g|| / ||w||) w - lr m",
        "Ghiasi et al. 2023, Improving robustness with adaptive weight decay",
        "section 3, decoupled",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02},
        aliases=("adaptive_weight_decay",),
        note="there the term joins the gradient and the ratio is smoothed over steps; lr and "
        "coefficient are the size of the paper's, which are tuned for each data set",
    ),
    Algorithm(
        "cautious_adamw",
        AdamW,
        PUBLISHED["cautious_adamw"],
        "w = w - lr lambda [w u >= 0] w - lr u",
        "Chen et al. 2025, Cautious weight decay",
        "Algorithm 1",
        {"lr": 1e-3, "weight_decay": 1e-2},
        aliases=("adamw_cwd",),
        note="it masks the decay; the C-AdamW of Liang et al. 2024 masks the update",
    ),
    Algorithm(
        "lion",
        Lion,
        PUBLISHED["lion"],
        "w = (1 - lr lambda) w - lr sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g",
        "Chen et al. 2023, Symbolic discovery of optimization algorithms",
        "Program 1",
        {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 1.0},
        note="3 to 10 times the weight decay of AdamW at 3 to 10 times less lr",
    ),
    Algorithm(
        "muon",
        Muon,
        PUBLISHED["muon"],
        "m = b m + (1 - b) g;  w = (1 - lr lambda) w - lr s orthogonal(b m + (1 - b) g)",
        "Jordan et al. 2024, Muon",
        "as in torch.optim.Muon",
        {"lr": 1e-3, "momentum": 0.95, "weight_decay": 0.1},
        note="for matrices only; its decay is of Liu et al. 2025, Muon is scalable for LLMs",
    ),
]
