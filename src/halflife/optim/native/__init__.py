"""Our own base optimizers: without weight decay, which is the business of `halflife.Decayed`."""

from .adabound import AdaBound as AdaBound
from .adai import Adai as Adai
from .adam_delta import AdamDelta as AdamDelta
from .heavy_ball import HeavyBall as HeavyBall
from .lion import Lion as Lion
from .padam import Padam as Padam
from .yogi import Yogi as Yogi

__all__ = ["AdaBound", "Adai", "AdamDelta", "HeavyBall", "Lion", "Padam", "Yogi"]
