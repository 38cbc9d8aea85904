"""Weight decay for PyTorch, done right."""

from .decay import Constant as Constant
from .decay import Corrected as Corrected
from .decay import DecayRule as DecayRule
from .decay import Decoupled as Decoupled
from .decay import Independent as Independent
from .decay import L2Regularization as L2Regularization
from .decay import Proximal as Proximal
from .decay import Stable as Stable
from .decayed import Decayed as Decayed
from .decayed import attach as attach
from .decayed import decayed as decayed
from .optim import SGD as SGD
from .optim import Adam as Adam
from .optim import AdamW as AdamW
from .strength import HalfLife as HalfLife
