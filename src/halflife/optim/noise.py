"""What the optimizers that torch has not do under gradients of pure noise; see `halflife.base`.

A strength such as `TargetRMS` needs the RMS of the update direction and its memory. For Lion and
Yogi the gradients are taken to be Gaussian.
"""

from __future__ import annotations

from typing import Any

from ..facts import declare
from ..theory import equilibrium
from . import native
from .native.adam_delta import AdamDelta
from .native.heavy_ball import HeavyBall

__all__: list[str] = []

# Where Yogi's second moment rests, squares below it weigh as much as squares above: the median of
# chi-squared with 3 degrees of freedom, in units of the gradient's variance.
_YOGI = 2.3659738843753377

Group = dict[str, Any]


def _lion(group: Group) -> dict[str, Any]:
    memory = equilibrium.sign_memory(*map(float, group["betas"]))
    return {"momentum": equilibrium.effective_momentum(memory), "update_rms": 1.0}


def _yogi(group: Group) -> dict[str, Any]:
    beta1 = float(group["betas"][0])
    return {"momentum": beta1, "update_rms": equilibrium.adam_update_rms(beta1) / _YOGI**0.5}


def _first_moment(group: Group) -> dict[str, Any]:
    return {"momentum": float(group["betas"][0])}  # the second's scale is that of the gradients


def _heavy_ball(group: Group) -> dict[str, Any]:
    momentum = float(group["momentum"])
    return {"momentum": momentum, "effective_rate": 1.0 / (1.0 - momentum)}


def _adai(group: Group) -> dict[str, Any]:
    return {"effective_rate": 1.0, "reason": "its momentum is each weight's own"}


declare(native.Lion, noise=_lion)
declare(native.Yogi, noise=_yogi)
declare(native.Padam, noise=_first_moment)
declare(native.AdaBound, noise=_first_moment)
declare(AdamDelta, noise=_first_moment)
declare(HeavyBall, noise=_heavy_ball)
declare(native.Adai, noise=_adai)
