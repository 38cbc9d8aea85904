"""Bad strengths, and bad norms to clip at: name, value, requirement and remedy."""

from __future__ import annotations

import math

import pytest
import torch

import halflife
from halflife import (
    SGD,
    Adam,
    AdamW,
    Fraction,
    HalfLife,
    Normalized,
    Proximal,
    Rotation,
    TargetRMS,
    Timescale,
    TotalDecay,
    decayed,
)
from messages import Case, check_message, check_sentence, weight

NAN = math.nan

CASES: dict[str, Case] = {
    # --- strengths
    "TargetRMS with L2": (
        lambda: Adam(weight(), weight_decay=TargetRMS(0.02)),
        ValueError,
        "L2Regularization adds weight_decay*w to the gradient and has no fraction of its own, so a strength cannot be turned into its coefficient; pass a number as weight_decay, or choose a rule such as decay='decoupled'.",
    ),
    "HalfLife with L2": (
        lambda: SGD(weight(), weight_decay=HalfLife(steps=10)),
        ValueError,
        "L2Regularization adds weight_decay*w to the gradient",
    ),
    "strength without a rule": (
        lambda: decayed(torch.optim.NAdam)(weight(), weight_decay=HalfLife(steps=9)),
        ValueError,
        "a strength needs a decay rule to become a number; pass decay=, for example decay='decoupled'.",
    ),
    "strength with stable Adam": (
        lambda: AdamW(weight(), decay="stable", weight_decay=HalfLife(steps=9)),
        ValueError,
        "weight_decay of this rule on AdamW: its fraction follows the effective rate, which is known in a training step only, not when a strength is resolved; pass a number (SWD's is 5e-4), or put the rule on SGD.",
    ),
    "TargetRMS on SGD": (
        lambda: SGD(weight(), decay="decoupled", weight_decay=TargetRMS(0.1)),
        ValueError,
        "TargetRMS(0.1) on SGD: the size of its updates depends on the gradients",
    ),
    "TargetRMS too small": (
        lambda: AdamW(weight(), lr=0.1, weight_decay=TargetRMS(1e-3)),
        ValueError,
        "TargetRMS(0.001) at lr=0.1: a single update is larger than that, the target must be above 0.0229; lower the lr or raise the target.",
    ),
    "TargetRMS 0": (
        lambda: TargetRMS(0.0),
        ValueError,
        "TargetRMS: value=0.0 must be a positive, finite number",
    ),
    "TargetRMS NaN": (
        lambda: TargetRMS(NAN),
        ValueError,
        "TargetRMS: value=nan must be a positive, finite number",
    ),
    "Rotation too far": (
        lambda: AdamW(weight(), weight_decay=Rotation(0.5)),
        ValueError,
        "Rotation(0.5) on AdamW: with momentum 0.9 no decay turns the weights by more than 0.451 radians per step; lower the angle.",
    ),
    "Rotation unknown momentum": (
        lambda: decayed(torch.optim.Rprop)(weight(), decay="decoupled", weight_decay=Rotation(0.1)),
        ValueError,
        "Rotation(0.1) on Rprop: its momentum is unknown here",
    ),
    "Rotation negative": (
        lambda: Rotation(-0.1),
        ValueError,
        "Rotation: radians=-0.1 must be an angle in (0, 1) radians",
    ),
    "Fraction 1": (
        lambda: Fraction(1.0),
        ValueError,
        "Fraction: value=1.0 must be a number in [0, 1)",
    ),
    "Fraction NaN": (
        lambda: Fraction(NAN),
        ValueError,
        "Fraction: value=nan must be a number in [0, 1)",
    ),
    "HalfLife nothing": (
        lambda: HalfLife(),
        ValueError,
        "HalfLife(steps=None, epochs=None): give exactly one of the two, as in HalfLife(steps=5000) or HalfLife(epochs=2, steps_per_epoch=391).",
    ),
    "HalfLife both": (
        lambda: HalfLife(steps=1, epochs=1),
        ValueError,
        "HalfLife(steps=1, epochs=1): give exactly one of the two",
    ),
    "HalfLife epochs alone": (
        lambda: HalfLife(epochs=2),
        ValueError,
        "HalfLife(epochs=2): an optimizer does not know what an epoch is; pass steps_per_epoch=len(dataloader) too.",
    ),
    "HalfLife 0": (
        lambda: HalfLife(steps=0),
        ValueError,
        "HalfLife: steps=0 must be longer than one step",
    ),
    "HalfLife NaN": (
        lambda: HalfLife(steps=NAN),
        ValueError,
        "HalfLife: steps=nan must be longer than one step",
    ),
    "HalfLife of one step in epochs": (
        lambda: HalfLife(epochs=0.5, steps_per_epoch=2),
        ValueError,
        "HalfLife: epochs=0.5 must be longer than one step",
    ),
    "Timescale of less than a step in epochs": (
        lambda: Timescale(epochs=0.1, steps_per_epoch=5),
        ValueError,
        "Timescale: epochs=0.1 must be longer than one step",
    ),
    "Timescale 1": (
        lambda: Timescale(steps=1),
        ValueError,
        "Timescale: steps=1 must be longer than one step",
    ),
    "Normalized negative": (
        lambda: Normalized(-1, batch_size=1, dataset_size=1, epochs=1),
        ValueError,
        "Normalized: value=-1 must be at least 0 and below",
    ),
    "Normalized batch": (
        lambda: Normalized(0.1, batch_size=0, dataset_size=1, epochs=1),
        ValueError,
        "Normalized: batch_size=0 must be a positive number",
    ),
    "Normalized epochs": (
        lambda: Normalized(0.1, batch_size=1, dataset_size=1, epochs=NAN),
        ValueError,
        "Normalized: epochs=nan must be a positive number",
    ),
    "TotalDecay negative": (
        lambda: TotalDecay(-1.0, schedule=[1.0]),
        ValueError,
        "TotalDecay: total=-1.0 must be a finite number >= 0",
    ),
    "TotalDecay without steps": (
        lambda: TotalDecay(1.0, schedule=lambda t: 1.0),
        ValueError,
        "TotalDecay(1.0, steps=None): the schedule is a function, so the number of steps to sum over must be given; pass steps=.",
    ),
    "TotalDecay above peak": (
        lambda: TotalDecay(1.0, schedule=[2.0]),
        ValueError,
        "must be multipliers of the peak lr in [0, 1], not all zero",
    ),
    "TotalDecay all zero": (
        lambda: TotalDecay(1.0, schedule=[0.0]),
        ValueError,
        "must be multipliers of the peak lr in [0, 1], not all zero",
    ),
    "TotalDecay impossible": (
        lambda: AdamW(weight(), weight_decay=TotalDecay(3.0, schedule=[1.0] * 2), decay=Proximal()),
        ValueError,
        "TotalDecay(3.0): Proximal(rule=Decoupled()) cannot remove that much in 2 steps; lower the total.",
    ),
    "TotalDecay too steep": (
        lambda: AdamW(weight(), weight_decay=TotalDecay(3.0, schedule=[1.0] * 2)),
        ValueError,
        "would remove the fraction 1.5 of each weight",
    ),
    # --- clip
    "clip negative": (
        lambda: halflife.clip_grad_norm_(SGD(weight()), -1.0),
        ValueError,
        "max_norm=-1.0: must be a number >= 0; pass math.inf to measure only.",
    ),
    "clip NaN": (
        lambda: halflife.clip_grad_norm_(SGD(weight()), NAN),
        ValueError,
        "max_norm=nan: must be a number >= 0",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_message(case: str) -> None:
    check_message(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_messages_are_one_sentence_with_a_remedy(case: str) -> None:
    check_sentence(*CASES[case])
