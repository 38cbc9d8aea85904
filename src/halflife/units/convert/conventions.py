"""The conventions: each a kind of them, with its unit and its formula in words."""

from __future__ import annotations

from ...rules.scalar import Constant, Corrected, Decoupled, Independent, Proximal
from ...theory import equilibrium
from ..strength import (
    Fraction,
    HalfLife,
    Normalized,
    Rotation,
    Strength,
    TargetRMS,
    Timescale,
    TotalDecay,
)
from .kinds import (
    Convention,
    DecayAfter,
    FixedConvention,
    RateConvention,
    ScionRadius,
    StrengthConvention,
    Total,
)
from .kinds import RuleConvention as RuleConvention
from .recipe import Setting

__all__ = ["CONVENTIONS", "FIXED"]


def _total(value: float, setting: Setting) -> Strength:
    return TotalDecay(value, schedule=setting.require_multipliers("'total'"))


def _normalized(value: float, setting: Setting) -> Normalized:
    budget = {k: getattr(setting, k) for k in ("batch_size", "dataset_size", "epochs")}
    missing = [name for name, given in budget.items() if given is None]
    if missing:
        raise ValueError(
            f"{missing[0]}=None: the normalized coefficient is stated for a budget; pass "
            f"{', '.join(f'{name}=' for name in missing)}."
        )
    return Normalized(value, **budget)


def _rms(fraction: float, lr: float, setting: Setting) -> float:
    base = setting.base(lr)
    _require_decay(fraction, "rms")
    if base.momentum is None or base.update_rms is None:
        raise ValueError(
            f"optimizer={setting.optimizer!r} with 'rms': the size of its updates depends on the "
            "gradients, so no decay has a known equilibrium RMS; convert to 'timescale' instead."
        )
    return equilibrium.rms(fraction, lr, base.momentum, base.update_rms)


def _rotation(fraction: float, lr: float, setting: Setting) -> float:
    _require_decay(fraction, "rotation")
    base = setting.base(lr)
    assert base.momentum is not None  # so of all three
    return equilibrium.rotation(fraction, base.momentum)


def _require_decay(fraction: float, name: str) -> None:
    if fraction == 0.0:
        raise ValueError(
            f"value without decay to {name!r}: without decay there is no equilibrium; convert to "
            "'half_life' instead, which is infinite."
        )


_AFTER_LR = "fraction per step"
_PER_LR = "1/lr"
_MODEL = "a prediction for weights in a random walk"

CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        RuleConvention("decoupled", _PER_LR, "w <- (1 - lr v) w - lr u", rule=Decoupled()),
        RuleConvention(
            "independent",
            "fraction per step at the peak",
            "w <- (1 - (lr/peak) v) w - lr u",
            rule=Independent(),
        ),
        StrengthConvention(
            "normalized",
            "dimensionless",
            "w <- (1 - (lr/peak) v sqrt(b/(B T))) w - lr u",
            note="0.025 to 0.05 in the AdamW paper",
            strength=_normalized,
            number=lambda d, lr, s: d / _normalized(1.0, s).fraction(s.base(lr)),
        ),
        RuleConvention(
            "constant",
            _AFTER_LR,
            "w <- (1 - v) w - lr u",
            rule=Constant(),
            note="the schedule does not touch it",
        ),
        RuleConvention("corrected", _PER_LR, "w <- (1 - (lr^2/peak) v) w - lr u", rule=Corrected()),
        RateConvention(
            "l2",
            "loss / weight^2",
            "g <- g + v w; in the long run d = lr v (1 - dampening)/(1 - momentum)",
            sgd_only=True,
        ),
        RateConvention(
            "stable",
            "1/(lr * effective rate)",
            "w <- (1 - lr v e) w - lr u, e = (1 - dampening)/(1 - momentum) on SGD, "
            "1/sqrt(mean of v_hat) on Adam",
        ),
        RuleConvention(
            "proximal", _PER_LR, "w <- (w - lr u) / (1 + lr v)", rule=Proximal(Decoupled())
        ),
        RuleConvention(
            "proximal_independent",
            "dimensionless",
            "w <- (w - lr u) / (1 + (lr/peak) v)",
            rule=Proximal(Independent()),
        ),
        RuleConvention("decoupled_after", _PER_LR, "w <- (1 - lr v)(w - lr u)", rule=DecayAfter()),
        ScionRadius(
            "scion",
            "radius",
            "w <- (1 - lr) w - lr v u",
            note="its lr is the fraction itself",
        ),
        StrengthConvention(
            "fraction",
            _AFTER_LR,
            "d = v",
            follows_rule=True,
            strength=lambda v, s: Fraction(v),
            number=lambda d, lr, s: d,
        ),
        StrengthConvention(
            "half_life",
            "steps",
            "d = 1 - 2^(-1/v)",
            follows_rule=True,
            strength=lambda v, s: HalfLife(steps=v),
            number=lambda d, lr, s: equilibrium.half_life(d),
        ),
        StrengthConvention(
            "timescale",
            "steps",
            "d = 1/v",
            follows_rule=True,
            strength=lambda v, s: Timescale(steps=v),
            number=lambda d, lr, s: equilibrium.timescale(d),
        ),
        StrengthConvention(
            "rms",
            "RMS of the weights",
            "v = lr U sqrt((1 + a b)/((1 - a^2)(1 - a b))), a = 1 - d",
            follows_rule=True,
            note=_MODEL,
            strength=lambda v, s: TargetRMS(v),
            number=_rms,
        ),
        StrengthConvention(
            "rotation",
            "radians per step",
            "sin v = sqrt((1 - a^2)(1 - b^2))/(1 + a b), a = 1 - d",
            follows_rule=True,
            note=_MODEL,
            strength=lambda v, s: Rotation(v),
            number=_rotation,
        ),
        Total(
            "total",
            "sum of the fractions",
            "v = sum of d over the schedule",
            follows_rule=True,
            strength=_total,
            number=lambda d, lr, s: d,
        ),
    )
}

# What libraries have in place of `constant`: no convention of its own, as they differ at lr 0 only.
FIXED = FixedConvention(
    "fixed",
    _AFTER_LR,
    "w <- (1 - v) w - lr u, at lr 0 too",
    note="it decays at lr 0 too, where 'constant' does not",
)
