"""The algorithms of the five papers on weight decay that this library is built on."""

from __future__ import annotations

from ..optim.adai import Adai
from ..optim.adam import Adam, AdamW
from ..optim.adam_delta import AdamDelta
from ..optim.heavy_ball import HeavyBall
from ..optim.sgd import SGD
from ..rules.published import PUBLISHED
from ..theory.adagrad import AdaGrad
from . import schedule
from .entry import Algorithm

__all__ = ["PAPERS"]

_LOSHCHILOV = "Loshchilov & Hutter 2019, Decoupled weight decay regularization"
_XIE = "Xie et al. 2023, On the overlooked pitfalls of weight decay"
_SCHAIPP = "Schaipp 2023, Decay no more"
_ZHOU = "Zhou et al. 2024, Towards understanding convergence and generalization of AdamW"
_ZHUANG = "Zhuang et al. 2022, Understanding AdamW through proximal methods and scale-freeness"

# 0.025 / sqrt(391 batches * 1800 epochs): the normalized coefficient at CIFAR-10's longest run.
_NORMALIZED = 3e-5
_NORMALIZED_NOTE = (
    "the paper gives the coefficient normalized, 0.025 to 0.05: pass "
    "weight_decay=Normalized(0.025, ...); the default is that of batches of 128 over 1800 epochs"
)
_LR_NOTE = "the paper sweeps the lr and names none: 0.05 is of its authors' SGDR (2017)"

PAPERS = [
    # --- SGD ---------------------------------------------------------------------------------
    Algorithm(
        "sgd_l2",
        SGD,
        PUBLISHED["sgd_l2"],
        "g = g + lambda w;  m = b1 m + g;  w = w - lr m",
        _XIE,
        "Eq. (2); torch.optim.SGD",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        aliases=("sgdm_l2",),
        note="with a changing lr this is not Loshchilov & Hutter's Algorithm 1: sgd_l2_paper",
    ),
    Algorithm(
        "sgd_l2_paper",
        HeavyBall,
        PUBLISHED["sgd_l2_paper"],
        "g = g + lambda w;  m = b1 m + eta alpha g;  w = w - m",
        _LOSHCHILOV,
        "Algorithm 1, SGD with L2",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        note="the lr is inside the momentum buffer",
    ),
    Algorithm(
        "sgd_hanson_pratt",
        SGD,
        PUBLISHED["sgd_hanson_pratt"],
        "w = (1 - lambda) w - alpha eta g",
        _LOSHCHILOV,
        "Eq. (1), after Hanson & Pratt 1988",
        {"lr": 0.1, "weight_decay": 5e-5},
        aliases=("hanson_pratt",),
        note="the decay ignores the schedule; 5e-5 is sgd_l2's at its lr without momentum",
    ),
    Algorithm(
        "sgdw",
        SGD,
        PUBLISHED["sgdw"],
        "m = b1 m + g;  w = w - alpha eta m - eta lambda w",
        _LOSHCHILOV,
        "Algorithm 1, as in its code",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": _NORMALIZED},
        note=f"{_LR_NOTE}; {_NORMALIZED_NOTE}",
    ),
    Algorithm(
        "sgdw_paper",
        HeavyBall,
        PUBLISHED["sgdw_paper"],
        "m = b1 m + eta alpha g;  w = w - m - eta lambda w",
        _LOSHCHILOV,
        "Algorithm 1, SGDW",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": _NORMALIZED},
        note=f"the lr is inside the momentum buffer; {_LR_NOTE}; {_NORMALIZED_NOTE}",
    ),
    Algorithm(
        "sgdwr",
        SGD,
        PUBLISHED["sgdwr"],
        "sgdw with eta of cosine restarts, lambda = lambda_norm / sqrt(steps in the cycle)",
        _LOSHCHILOV,
        "appendix B.1 and B.2",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.025},
        schedule=schedule.restarts_with_normalized_decay,
        note=f"weight_decay is lambda_norm; the schedule turns it into lambda; {_LR_NOTE}",
    ),
    Algorithm(
        "sgdr",
        SGD,
        PUBLISHED["sgdr"],
        "sgd_l2 with eta of cosine restarts",
        "Loshchilov & Hutter 2017, SGDR",
        "section 3; appendix B.2 of the AdamW paper",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        schedule=schedule.warm_restarts,
    ),
    Algorithm(
        "sgds",
        SGD,
        PUBLISHED["sgds"],
        "m = b1 m + g;  w = (1 - lr lambda / (1 - b1)) w - lr m",
        _XIE,
        "appendix B.1 and its code",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    ),
    # --- Adam: where the decay enters --------------------------------------------------------
    Algorithm(
        "adam_l2",
        Adam,
        PUBLISHED["adam_l2"],
        "g = g + lambda w;  w = w - lr u",
        _LOSHCHILOV,
        "Algorithm 2, Adam with L2",
        {"lr": 1e-3, "weight_decay": 5e-4},
        aliases=("adaml2", "adam_l2_regularization"),
        note="5e-4 is the best in Zhuang et al.'s code for ResNets of 20 to 110 layers without "
        "batch norm (with it: 0); the same run under the loss c f takes lambda c",
    ),
    Algorithm(
        "adamw",
        AdamW,
        PUBLISHED["adamw"],
        "w = (1 - lr lambda) w - lr u",
        _LOSHCHILOV,
        "Algorithm 2, as in torch.optim.AdamW",
        {"lr": 1e-3, "weight_decay": 1e-2},
        aliases=("adamw_pt", "adamw_torch"),
        note="lambda is adamw_paper's over alpha; Xie et al. run it at 0.5",
    ),
    Algorithm(
        "adamw_paper",
        AdamW,
        PUBLISHED["adamw_paper"],
        "w = w - eta (alpha u + lambda w)",
        _LOSHCHILOV,
        "Algorithm 2, AdamW",
        {"lr": 1e-3, "weight_decay": _NORMALIZED},
        aliases=("adamlh", "adamw_lh"),
        note=_NORMALIZED_NOTE,
    ),
    Algorithm(
        "adamwr",
        AdamW,
        PUBLISHED["adamwr"],
        "adamw_paper with eta of cosine restarts, lambda = lambda_norm / sqrt(steps in the cycle)",
        _LOSHCHILOV,
        "appendix B.1 and B.2",
        {"lr": 1e-3, "weight_decay": 0.025},
        schedule=schedule.restarts_with_normalized_decay,
        note="weight_decay is lambda_norm; the schedule turns it into lambda",
    ),
    Algorithm(
        "adams",
        Adam,
        PUBLISHED["adams"],
        "w = (1 - lr lambda / sqrt(mean over the model of v_hat)) w - lr u",
        _XIE,
        "Algorithm 2",
        {"lr": 1e-3, "weight_decay": 5e-4},
        aliases=("adam_swd",),
        note="other papers call other optimizers AdamS; for full batches, whose gradients vanish, "
        "section 4 adds a small value to the mean, its code none: decay=Stable(eps=1e-8)",
    ),
    Algorithm(
        "adais",
        Adai,
        PUBLISHED["adais"],
        "w = (1 - lr lambda) w - lr u, with Adai's u",
        _XIE,
        "its code, AdaiS",
        {"lr": 1.0, "weight_decay": 5e-4},
        aliases=("adai_s",),
    ),
    # --- Adam: proximal steps ----------------------------------------------------------------
    Algorithm(
        "adamprox",
        AdamW,
        PUBLISHED["adamprox"],
        "w = (w - eta alpha u) / (1 + eta lambda)",
        _ZHUANG,
        "Eq. (5)",
        {"lr": 1e-3, "weight_decay": 1e-4},
    ),
    Algorithm(
        "proxadam",
        AdamW,
        PUBLISHED["proxadam"],
        "w = (w - eta alpha u) / (1 + eta lambda)",
        _SCHAIPP,
        "(P1), (ProxAdam)",
        {"lr": 1e-3, "weight_decay": 1e-4},
        note="adamprox by another name; the page gives no lambda, this is adamprox's",
    ),
    Algorithm(
        "adamp_blog",
        AdamW,
        PUBLISHED["adamp_blog"],
        "z = w - lr u;  w = z / (1 + lr lambda / D),  D = sqrt(v_hat) + eps",
        _SCHAIPP,
        "(AdamP)",
        {"lr": 1e-3, "weight_decay": 5e-4},
        note="not the AdamP of Heo et al. 2021; the page gives no lambda, this is adam_l2's, "
        "whose unit it has",
    ),
    Algorithm(
        "adamproxl1",
        AdamW,
        PUBLISHED["adamproxl1"],
        "z = w - eta alpha u;  w = sign(z) max(|z| - eta lambda, 0)",
        _ZHUANG,
        "section 5, L1 in the metric eta I",
        {"lr": 1e-3, "weight_decay": 1e-5},
        note="the paper trains none: lambda is ours, in units of the weights per step",
    ),
    Algorithm(
        "adamproxl1_preconditioned",
        AdamW,
        PUBLISHED["adamproxl1_preconditioned"],
        "z = w - lr u;  w = sign(z) max(|z| - lr lambda / D, 0),  D = sqrt(v_hat) + eps",
        _ZHUANG,
        "section 5, L1 in the metric of the step",
        {"lr": 1e-3, "weight_decay": 1e-5},
        note="not scale-free; the paper trains none: lambda is ours, in units of the gradient",
    ),
    Algorithm(
        "adamproxl2",
        AdamW,
        PUBLISHED["adamproxl2"],
        "z = w - eta alpha u;  w = max(1 - eta lambda / ||z||, 0) z, one norm for the model",
        _ZHUANG,
        "section 5, AdamProxL2",
        {"lr": 1e-3, "weight_decay": 1e-4},
        note="for the norm without a square; adamprox is the one with it",
    ),
    # --- Adam: as analysed -------------------------------------------------------------------
    Algorithm(
        "adamw_003",
        AdamDelta,
        PUBLISHED["adamw_003"],
        "w = (1 - lr lambda) w - lr m / sqrt(n + delta)",
        _ZHOU,
        "Eq. (2) and Algorithm 1",
        {"lr": 1e-3, "betas": (0.9, 0.999), "delta": 1e-4, "weight_decay": 0.5},
        aliases=("adamw_analysed",),
        schedule=schedule.theorem_decay,
        note="lambda is section 6's for AdamW, delta 'by default' after Theorem 3; lr, betas "
        "are Adam's, as the paper gives none; no bias correction; its betas are one minus these; "
        "moments='zero' starts as in its proofs; the schedule is Theorem 2's, and optional",
    ),
    Algorithm(
        "l2_adam_003",
        AdamDelta,
        PUBLISHED["l2_adam_003"],
        "g = g + lambda w;  w = w - lr m / sqrt(n + delta)",
        _ZHOU,
        "Eq. (2) with lambda w in the gradient",
        {"lr": 1e-3, "betas": (0.9, 0.999), "delta": 1e-4, "weight_decay": 5e-4},
        schedule=schedule.theorem_decay,
        note="as adamw_003; lambda is adam_l2's: 0.5, which section 6 gives for both, would "
        "outweigh the loss in the gradient",
    ),
    Algorithm(
        "adamw_d",
        AdamW,
        PUBLISHED["adamw_d"],
        "adamw with lambda = c1 rate^k at iteration k",
        _ZHOU,
        "section 6",
        {"lr": 1e-3, "weight_decay": 5e-2},
        schedule=schedule.exponential_decay,
        note="weight_decay is c1, here that of ViT-small; rate 0.99999 changes nothing in a short "
        "run: pass total= to the schedule",
    ),
    Algorithm(
        "l2_adam_d",
        Adam,
        PUBLISHED["l2_adam_d"],
        "adam_l2 with lambda = c1 rate^k at iteration k",
        _ZHOU,
        "section 6",
        {"lr": 1e-3, "weight_decay": 5e-4},
        schedule=schedule.exponential_decay,
        note="weight_decay is c1, which the paper tunes and does not give: this is adam_l2's",
    ),
    Algorithm(
        "stagewise_adamw",
        None,
        PUBLISHED["stagewise_adamw"],
        "stages of adamw_003, each from an iterate of the last, with lr and b1 halved",
        _ZHOU,
        "supplement, Algorithm 2",
        note="it draws an iterate at the end of each stage, and goes on from there, moments "
        "included: run halflife.theory.stagewise.stagewise_adamw",
    ),
    # --- AdaGrad -----------------------------------------------------------------------------
    Algorithm(
        "adagrad_004",
        AdaGrad,
        None,
        "w = clip(w - lr g / sqrt(sum g^2), w_1 - radius, w_1 + radius); output the mean of w",
        _ZHUANG,
        "appendix B, Algorithm 2",
        note="lr must be given: radius / sqrt(2) is published; call restart() at the end to be "
        "left with the mean",
    ),
    Algorithm(
        "adagrad_restarts_004",
        AdaGrad,
        None,
        "rounds of adagrad_004 from the mean of the last, with lr and radius halved",
        _ZHUANG,
        "appendix B, Algorithm 3",
        aliases=("adagrad_with_restarts",),
        note="call restart() after every round, of halflife.theory.adagrad.Restarts(...).steps "
        "gradients, at lr=Restarts(...).lr",
    ),
]
