"""Schedules of the learning rate and of weight decay, for any torch optimizer.

A *curve* is a function of the step alone, the multiplier of a base value:

    value(t) = base * curve(t)        t = 0, 1, 2, ... optimizer steps already done

A *scheduler* writes that value into ``optimizer.param_groups``: `CurveLR` into ``lr`` (it is a
torch ``LRScheduler`` and composes with torch's own), `WeightDecayScheduler` into ``weight_decay``,
`JointScheduler` into both. The base is what a group held when the scheduler first saw it.

A scheduler sets a coefficient and never decides what it means. Whether the lr also multiplies the
decay is the business of the decay rule: torch's AdamW removes ``lr * weight_decay`` of a weight, so
a scheduled weight decay acts there on top of a scheduled lr.
"""

from .curves import Curve, constant, cosine, exponential, linear, log_time, multistep, warmup
from .named import schedule_named
from .restarts import Cycle, cosine_warm_restarts, normalized_decay
from .schedulers import CurveLR, JointScheduler, WeightDecayScheduler

__all__ = [
    "Curve",
    "CurveLR",
    "Cycle",
    "JointScheduler",
    "WeightDecayScheduler",
    "constant",
    "cosine",
    "cosine_warm_restarts",
    "exponential",
    "linear",
    "log_time",
    "multistep",
    "normalized_decay",
    "schedule_named",
    "warmup",
]
