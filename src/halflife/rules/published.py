"""The published names of algorithms, and the rule that each one's weight decay is.

The one table of such names: the catalogue takes its rules from here, and conversion its
conventions, so that a name cannot mean two things. Names without weight decay are not in it.
"""

from __future__ import annotations

from .after import Preconditioned, ProximalL1, ProximalNorm
from .before import Cautious
from .contract import DecayRule
from .scalar import (
    Adaptive,
    Constant,
    Corrected,
    Decoupled,
    Independent,
    L2Regularization,
    Proximal,
    Stable,
)

__all__ = ["L2_ON_SGD", "NORMALIZED", "PUBLISHED"]

# An L2 term has a fraction on SGD only; elsewhere it is divided by the gradients' size.
L2_ON_SGD = ("sgd_l2", "sgdm_l2", "sgd_l2_paper", "sgdr")
_L2_ELSEWHERE = (
    *("adam_l2", "adaml2", "adam_l2_regularization", "l2_adam_003", "l2_adam_d", "amsgrad", "yogi"),
    *("adabound", "amsbound", "padam", "radam", "adai", "nadam", "rmsprop", "adagrad"),
)
# Their number is normalized by the length of the cycle, and a schedule makes the coefficient of it.
NORMALIZED = ("sgdwr", "adamwr")

PUBLISHED: dict[str, DecayRule] = {
    **dict.fromkeys((*L2_ON_SGD, *_L2_ELSEWHERE), L2Regularization()),
    **dict.fromkeys(("sgd_hanson_pratt", "hanson_pratt"), Constant()),
    **dict.fromkeys(("sgdw", "sgdw_paper"), Independent()),
    **dict.fromkeys(("adamw_paper", "adamlh", "adamw_lh"), Independent()),
    **dict.fromkeys(NORMALIZED, Independent()),
    **dict.fromkeys(("adamw", "adamw_pt", "adamw_torch"), Decoupled()),
    **dict.fromkeys(("adamw_003", "adamw_analysed", "adamw_d", "stagewise_adamw"), Decoupled()),
    **dict.fromkeys(("lion", "muon"), Decoupled()),
    **dict.fromkeys(("sgdc", "adamc"), Corrected()),
    **dict.fromkeys(("sgds", "adams", "adam_swd", "adais", "adai_s", "swd"), Stable()),
    **dict.fromkeys(("adamprox", "proxadam"), Proximal(Independent())),
    **dict.fromkeys(("awd", "adaptive_weight_decay"), Adaptive()),
    **dict.fromkeys(("cautious_adamw", "adamw_cwd"), Cautious(Decoupled())),
    "adamp_blog": Preconditioned(),
    "adamproxl1": ProximalL1(Independent()),
    "adamproxl1_preconditioned": ProximalL1(Decoupled(), metric="preconditioned"),
    "adamproxl2": ProximalNorm(Independent()),
}
