"""Decay rules: how much of each weight a step removes.

`scalar` has the rules that are arithmetic on two scalars of a group, ``w <- a w - s u``. The others
are maps on the weights, around a native step without decay: which elements decay, toward what, by
which norm. A map takes its strength from an inner rule, `Decoupled` unless told otherwise, and acts

    before the native step   Cautious, Anchored, HuberDecay, NormControl
    after it                 ProximalL1, ProximalNorm, Preconditioned, PowerDecay

    w <- w - d [w u >= 0] w              Cautious
    w <- w - d (w - anchor)              Anchored
    w <- sign(z) max(|z| - x, 0)         ProximalL1, z the weights after the native step

``d`` and ``x`` are both the inner rule's ``weight_decay * rate``; as a threshold it is in units of
the weights.
"""

from .after import PowerDecay as PowerDecay
from .after import Preconditioned as Preconditioned
from .after import ProximalL1 as ProximalL1
from .after import ProximalNorm as ProximalNorm
from .before import Anchored as Anchored
from .before import Cautious as Cautious
from .before import HuberDecay as HuberDecay
from .before import NormControl as NormControl
from .contract import DecayRule as DecayRule
from .contract import RuleName as RuleName
from .contract import as_rule as as_rule
from .contract import rule_names as rule_names
from .maps import ANCHOR_KEY as ANCHOR_KEY
from .maps import DecayMap as DecayMap
from .maps import View as View
from .maps import apply_maps as apply_maps
from .maps import keep_anchors as keep_anchors
from .scalar import Adaptive as Adaptive
from .scalar import Constant as Constant
from .scalar import Corrected as Corrected
from .scalar import Decoupled as Decoupled
from .scalar import Independent as Independent
from .scalar import L2Regularization as L2Regularization
from .scalar import Proximal as Proximal
from .scalar import Stable as Stable
from .step import Step as Step

__all__ = [
    "Adaptive",
    "Anchored",
    "Cautious",
    "Constant",
    "Corrected",
    "DecayMap",
    "DecayRule",
    "Decoupled",
    "HuberDecay",
    "Independent",
    "L2Regularization",
    "NormControl",
    "PowerDecay",
    "Preconditioned",
    "Proximal",
    "ProximalL1",
    "ProximalNorm",
    "RuleName",
    "Stable",
    "Step",
    "View",
    "as_rule",
    "rule_names",
]
