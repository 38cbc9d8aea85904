"""Checks of a rule by itself: it is arithmetic on scalars."""

from __future__ import annotations

import json
import math

import torch

from ..rules.contract import DecayRule, as_rule
from ..rules.step import Step
from .report import Skip

__all__ = ["LRS", "PEAK", "RULE_CHECKS", "visible"]

PEAK = 0.02
LRS = (0.02, 0.017, 0.011, 0.006, 0.002)  # changing: at a constant lr many rules are the same
_FRACTION = 0.05


def visible(rule: DecayRule) -> float:
    """A coefficient that removes 5 % of each weight at the peak; for L2, of that size."""
    try:
        step = Step(PEAK, PEAK, 0.0, lambda _: 1.0)
        return float(rule.coefficient(_FRACTION, step))
    except ValueError:
        return 0.3


def _steps(weight_decay: float) -> list[Step]:
    return [Step(lr, PEAK, weight_decay, lambda _: 2.0) for lr in LRS]


def _coefficient_inverts_fraction(rule: DecayRule, weight_decay: float) -> None:
    for step in _steps(weight_decay):
        fraction = float(rule.fraction(step))
        if fraction == 0.0:
            raise Skip("it removes no fraction")
        back = float(rule.coefficient(fraction, step))
        assert math.isclose(back, weight_decay, rel_tol=1e-9), (
            f"fraction {fraction:.6g} at lr {step.lr} gives the coefficient {back:.6g} instead of "
            f"{weight_decay:.6g}: strengths such as HalfLife would mean something else"
        )


def _no_weight_decay_removes_nothing(rule: DecayRule, weight_decay: float) -> None:
    for step in _steps(0.0):
        amounts = [rule.fraction(step), rule.gradient_coefficient(step)]
        assert all(float(amount) == 0.0 for amount in amounts), (
            f"weight_decay 0 at lr {step.lr} still decays by {amounts}: a no-decay group would not "
            "be one"
        )


def _round_trip_as_plain_data(rule: DecayRule, weight_decay: float) -> None:
    data = json.loads(json.dumps(rule.as_dict()))
    assert as_rule(data) == rule, (
        f"{data} reads back as {as_rule(data)!r}: a checkpoint would load another rule"
    )


def _fraction_broadcasts(rule: DecayRule, weight_decay: float) -> None:
    lrs = torch.tensor(LRS, dtype=torch.float64)
    peak = torch.tensor(PEAK, dtype=torch.float64)
    at_once = torch.as_tensor(rule.fraction(Step(lrs, peak, weight_decay, lambda _: 2.0)))
    one_by_one = torch.tensor(
        [float(rule.fraction(s)) for s in _steps(weight_decay)], dtype=torch.float64
    )
    assert torch.allclose(at_once.double().expand(len(LRS)), one_by_one, rtol=1e-12, atol=0.0), (
        f"a tensor of learning rates gives {at_once.tolist()}, floats give {one_by_one.tolist()}: "
        "stacked models and compiled steps pass tensors"
    )


RULE_CHECKS = {
    "coefficient inverts fraction": _coefficient_inverts_fraction,
    "fraction broadcasts over tensors": _fraction_broadcasts,
    "no weight_decay removes nothing": _no_weight_decay_removes_nothing,
    "round trip as plain data": _round_trip_as_plain_data,
}
