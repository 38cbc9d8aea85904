"""Weight decay for PyTorch, done right.

    decay = halflife.HalfLife(steps=5000)
    optimizer = halflife.AdamW(model.parameters(), lr=3e-4, weight_decay=decay)
    print(halflife.describe(optimizer))

Optimizers are drop-in replacements of torch's, with the decay rule as an argument and its strength
in units a person can reason about.
"""

import typing as _typing

from . import schedules as schedules
from .attach import attach as attach
from .attach import decayed as decayed
from .averaging import averaging_of as averaging_of
from .clip import clip_grad_norm_ as clip_grad_norm_
from .convert import convert as convert
from .decay import Adaptive as Adaptive
from .decay import Constant as Constant
from .decay import Corrected as Corrected
from .decay import Decoupled as Decoupled
from .decay import Independent as Independent
from .decay import L2Regularization as L2Regularization
from .decay import Proximal as Proximal
from .decay import Stable as Stable
from .decayed import Decayed as Decayed
from .describe import describe as describe
from .maps import Anchored as Anchored
from .maps import Cautious as Cautious
from .maps import HuberDecay as HuberDecay
from .maps import NormControl as NormControl
from .maps import PowerDecay as PowerDecay
from .maps import Preconditioned as Preconditioned
from .maps import ProximalL1 as ProximalL1
from .maps import ProximalNorm as ProximalNorm
from .optim import ASGD as ASGD
from .optim import SGD as SGD
from .optim import AdaBound as AdaBound
from .optim import Adadelta as Adadelta
from .optim import Adagrad as Adagrad
from .optim import Adai as Adai
from .optim import Adam as Adam
from .optim import Adamax as Adamax
from .optim import AdamDelta as AdamDelta
from .optim import AdamW as AdamW
from .optim import HeavyBall as HeavyBall
from .optim import Lion as Lion
from .optim import Muon as Muon
from .optim import NAdam as NAdam
from .optim import Padam as Padam
from .optim import RAdam as RAdam
from .optim import RMSprop as RMSprop
from .optim import Yogi as Yogi
from .param_groups import param_groups as param_groups
from .recommend import recommend as recommend
from .rule import DecayRule as DecayRule
from .strength import Fraction as Fraction
from .strength import HalfLife as HalfLife
from .strength import Normalized as Normalized
from .strength import Rotation as Rotation
from .strength import TargetRMS as TargetRMS
from .strength import Timescale as Timescale
from .strength import TotalDecay as TotalDecay
from .transfer import transfer as transfer

if _typing.TYPE_CHECKING:
    from . import algorithms as algorithms

__version__ = "0.1.0"

__all__ = [
    "ASGD",
    "SGD",
    "AdaBound",
    "Adadelta",
    "Adagrad",
    "Adai",
    "Adam",
    "AdamDelta",
    "AdamW",
    "Adamax",
    "Adaptive",
    "Anchored",
    "Cautious",
    "Constant",
    "Corrected",
    "DecayRule",
    "Decayed",
    "Decoupled",
    "Fraction",
    "HalfLife",
    "HeavyBall",
    "HuberDecay",
    "Independent",
    "L2Regularization",
    "Lion",
    "Muon",
    "NAdam",
    "NormControl",
    "Normalized",
    "Padam",
    "PowerDecay",
    "Preconditioned",
    "Proximal",
    "ProximalL1",
    "ProximalNorm",
    "RAdam",
    "RMSprop",
    "Rotation",
    "Stable",
    "TargetRMS",
    "Timescale",
    "TotalDecay",
    "Yogi",
    "algorithms",
    "attach",
    "averaging_of",
    "clip_grad_norm_",
    "convert",
    "decayed",
    "describe",
    "param_groups",
    "recommend",
    "schedules",
    "transfer",
]


def __getattr__(name: str) -> object:
    if name == "algorithms":  # only when asked for: to import it takes as long as the optimizers
        import importlib

        return importlib.import_module(".algorithms", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
