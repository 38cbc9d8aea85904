"""Weight decay for PyTorch, done right.

    decay = halflife.HalfLife(steps=5000)
    optimizer = halflife.AdamW(model.parameters(), lr=3e-4, weight_decay=decay)
    print(halflife.describe(optimizer))

Optimizers are drop-in replacements of torch's, with the decay rule as an argument and its strength
in units a person can reason about.
"""

from . import schedules as schedules
from .attach import attach as attach
from .attach import decayed as decayed
from .clip import clip_grad_norm_ as clip_grad_norm_
from .decay import Constant as Constant
from .decay import Corrected as Corrected
from .decay import DecayRule as DecayRule
from .decay import Decoupled as Decoupled
from .decay import Independent as Independent
from .decay import L2Regularization as L2Regularization
from .decay import Proximal as Proximal
from .decay import Stable as Stable
from .decayed import Decayed as Decayed
from .describe import describe as describe
from .optim import SGD as SGD
from .optim import Adam as Adam
from .optim import AdamW as AdamW
from .param_groups import param_groups as param_groups
from .strength import Fraction as Fraction
from .strength import HalfLife as HalfLife
from .strength import Normalized as Normalized
from .strength import Rotation as Rotation
from .strength import TargetRMS as TargetRMS
from .strength import Timescale as Timescale
from .strength import TotalDecay as TotalDecay

__version__ = "0.1.0"

__all__ = [
    # optimizers
    "SGD",
    "Adam",
    "AdamW",
    # decay rules
    "Constant",
    "Corrected",
    "DecayRule",
    "Decayed",
    "Decoupled",
    # strengths
    "Fraction",
    "HalfLife",
    "Independent",
    "L2Regularization",
    "Normalized",
    "Proximal",
    "Rotation",
    "Stable",
    "TargetRMS",
    "Timescale",
    "TotalDecay",
    "attach",
    "clip_grad_norm_",
    "decayed",
    "describe",
    "param_groups",
    "schedules",
]
