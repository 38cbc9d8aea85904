"""Weight decay for PyTorch, done right.

    decay = halflife.HalfLife(steps=5000)
    optimizer = halflife.AdamW(model.parameters(), lr=3e-4, weight_decay=decay)
    print(halflife.describe(optimizer))

Optimizers are drop-in replacements of torch's, with the decay rule as an argument and its strength
in units a person can reason about.
"""

import typing as _typing

from . import schedules as schedules
from .groups import param_groups as param_groups
from .mechanism.attach import attach as attach
from .mechanism.attach import decayed as decayed
from .mechanism.clip import clip_grad_norm_ as clip_grad_norm_
from .mechanism.decayed import Decayed as Decayed
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
from .rules import Anchored as Anchored
from .rules import Cautious as Cautious
from .rules import HuberDecay as HuberDecay
from .rules import NormControl as NormControl
from .rules import PowerDecay as PowerDecay
from .rules import Preconditioned as Preconditioned
from .rules import ProximalL1 as ProximalL1
from .rules import ProximalNorm as ProximalNorm
from .rules.contract import DecayRule as DecayRule
from .rules.scalar import Adaptive as Adaptive
from .rules.scalar import Constant as Constant
from .rules.scalar import Corrected as Corrected
from .rules.scalar import Decoupled as Decoupled
from .rules.scalar import Independent as Independent
from .rules.scalar import L2Regularization as L2Regularization
from .rules.scalar import Proximal as Proximal
from .rules.scalar import Stable as Stable
from .units.averaging import averaging_of as averaging_of
from .units.convert import convert as convert
from .units.describe import describe as describe
from .units.recommend import recommend as recommend
from .units.strength import Fraction as Fraction
from .units.strength import HalfLife as HalfLife
from .units.strength import Normalized as Normalized
from .units.strength import Rotation as Rotation
from .units.strength import TargetRMS as TargetRMS
from .units.strength import Timescale as Timescale
from .units.strength import TotalDecay as TotalDecay
from .units.transfer import transfer as transfer

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
