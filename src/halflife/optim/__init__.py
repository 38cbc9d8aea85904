"""Optimizers, a file each: the base without decay, its default rule, and what it declares."""

from .adabound import AdaBound as AdaBound
from .adadelta import Adadelta as Adadelta
from .adagrad import Adagrad as Adagrad
from .adai import Adai as Adai
from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .adam_delta import AdamDelta as AdamDelta
from .adamax import Adamax as Adamax
from .asgd import ASGD as ASGD
from .heavy_ball import HeavyBall as HeavyBall
from .lion import Lion as Lion
from .muon import Muon as Muon
from .nadam import NAdam as NAdam
from .padam import Padam as Padam
from .radam import RAdam as RAdam
from .rmsprop import RMSprop as RMSprop
from .sgd import SGD as SGD
from .yogi import Yogi as Yogi

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
    "HeavyBall",
    "Lion",
    "Muon",
    "NAdam",
    "Padam",
    "RAdam",
    "RMSprop",
    "Yogi",
]
