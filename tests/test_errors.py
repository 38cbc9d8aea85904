"""Bad input: name, value, requirement and remedy, raised before anything changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import halflife
from halflife import (
    SGD,
    Adam,
    AdamW,
    Fraction,
    HalfLife,
    L2Regularization,
    Normalized,
    Proximal,
    Rotation,
    TargetRMS,
    Timescale,
    TotalDecay,
    attach,
    decayed,
)
from halflife.rules.contract import as_rule
from halflife.rules.step import Step

NAN = math.nan


def weight() -> list[torch.Tensor]:
    return [torch.nn.Parameter(torch.ones(2))]


def group(**entries: Any) -> list[dict[str, Any]]:
    return [{"params": weight(), **entries}]


Case = tuple[Callable[[], Any], type[Exception], str]

CASES: dict[str, Case] = {
    # --- numbers of the optimizer
    "AdamW lr negative": (
        lambda: AdamW(weight(), lr=-1.0),
        ValueError,
        "Invalid learning rate: -1.0",
    ),
    "AdamW lr NaN": (lambda: AdamW(weight(), lr=NAN), ValueError, "Invalid learning rate: nan"),
    "SGD lr NaN": (
        lambda: SGD(weight(), lr=NAN),
        ValueError,
        "lr=nan of parameter group 0: must be a finite number >= 0; use maximize=True to ascend.",
    ),
    "AdamW lr inf": (
        lambda: AdamW(weight(), lr=math.inf),
        ValueError,
        "lr=inf of parameter group 0: must be a finite number >= 0; use maximize=True to ascend.",
    ),
    "group lr negative": (
        lambda: AdamW(group(lr=-0.5)),
        ValueError,
        "lr=-0.5 of parameter group 0: must be a finite number >= 0; use maximize=True to ascend.",
    ),
    "group lr text": (
        lambda: AdamW(group(lr="0.1")),
        TypeError,
        "lr='0.1' of parameter group 0: must be a number.",
    ),
    "Adam wd negative": (
        lambda: Adam(weight(), weight_decay=-0.1),
        ValueError,
        "Invalid weight_decay value: -0.1",
    ),
    "AdamW wd NaN": (
        lambda: AdamW(weight(), weight_decay=NAN),
        ValueError,
        "Invalid weight_decay value: nan",
    ),
    "SGD wd NaN": (
        lambda: SGD(weight(), weight_decay=NAN),
        ValueError,
        "weight_decay=nan of parameter group 0: must be a finite number >= 0; 0 turns the decay off.",
    ),
    "group wd negative": (
        lambda: AdamW(group(weight_decay=-1)),
        ValueError,
        "weight_decay=-1 of parameter group 0: must be a finite number >= 0; 0 turns the decay off.",
    ),
    "group wd text": (
        lambda: AdamW(group(weight_decay="high")),
        TypeError,
        "weight_decay='high' of parameter group 0: must be a number or a strength such as HalfLife(steps=5000).",
    ),
    "group wd bool": (
        lambda: AdamW(group(weight_decay=True)),
        TypeError,
        "weight_decay=True of parameter group 0: must be a number or a strength such as HalfLife(steps=5000).",
    ),
    "betas": (
        lambda: AdamW(weight(), betas=(1.0, 0.9)),
        ValueError,
        "Invalid beta parameter at index 0: 1.0",
    ),
    "betas NaN": (
        lambda: AdamW(weight(), betas=(0.9, NAN)),
        ValueError,
        "Invalid beta parameter at index 1: nan",
    ),
    # --- peak
    "peak below lr": (
        lambda: AdamW(weight(), lr=0.1, peak_lr=0.01),
        ValueError,
        "peak_lr=0.01 of parameter group 0 is below its lr=0.1: the peak is the schedule's highest lr; raise peak_lr or leave it out.",
    ),
    "peak negative": (
        lambda: AdamW(weight(), lr=0.1, peak_lr=-1.0),
        ValueError,
        "peak_lr=-1.0 of parameter group 0: must be a finite number >= 0; pass the schedule's highest lr.",
    ),
    "peak NaN": (
        lambda: AdamW(weight(), lr=0.1, peak_lr=NAN),
        ValueError,
        "peak_lr=nan of parameter group 0: must be a finite number >= 0; pass the schedule's highest lr.",
    ),
    "peak zero": (
        lambda: AdamW(weight(), lr=0.0, decay="independent"),
        ValueError,
        "peak_lr=0.0 of parameter group 0: this rule divides by the schedule's highest lr, which must be positive and finite; pass peak_lr= to the optimizer (or in the group), as an optimizer built at lr=0 for a warm-up needs.",
    ),
    "peak unknown": (
        lambda: as_rule("corrected").fraction(Step(0.1, None, 0.1)),
        ValueError,
        "peak_lr=None of the parameter group: this rule divides by",
    ),
    "lr above peak": (
        lambda: stepped(lr=0.1, to=0.2, decay="independent", weight_decay=0.1),
        ValueError,
        "lr=0.2 of parameter group 0 is above its peak_lr=0.1: this rule needs the schedule's highest lr; pass peak_lr= to the optimizer (OneCycleLR's max_lr, the end of a warm-up), or set it in the group when you raise the schedule.",
    ),
    # --- fraction of 1 or more
    "lr*wd = 1": (
        lambda: AdamW(weight(), lr=0.5, weight_decay=2.0),
        ValueError,
        "weight_decay=2.0 of parameter group 0 at lr=0.5: Decoupled() would remove the fraction 1 of each weight in a step, and 1 or more flips its sign; keep weight_decay below 2 at this lr.",
    ),
    "independent 1.5": (
        lambda: AdamW(weight(), weight_decay=1.5, decay="independent"),
        ValueError,
        "weight_decay=1.5 of parameter group 0 at lr=0.001: Independent() would remove the fraction 1.5 of each weight in a step",
    ),
    "lr raised": (
        lambda: stepped(lr=0.1, to=2.0, weight_decay=0.9),
        ValueError,
        "weight_decay=0.9 of parameter group 0 at lr=2.0: Decoupled() would remove the fraction 1.8 of each weight",
    ),
    # --- rules
    "unknown rule": (
        lambda: AdamW(weight(), decay="indpendent"),
        ValueError,
        "decay='indpendent': unknown rule, did you mean 'independent'; the known ones are adaptive, anchored, ",
    ),
    "unknown rule in a group": (
        lambda: AdamW(group(decay="x7")),
        ValueError,
        "decay='x7': unknown rule; the known ones are adaptive, anchored",
    ),
    "rule class": (
        lambda: AdamW(weight(), decay=L2Regularization),
        TypeError,
        "or None; write L2Regularization().",
    ),  # type: ignore[arg-type]
    "rule number": (
        lambda: AdamW(weight(), decay=0.1),
        TypeError,
        "decay=0.1: must be a DecayRule, one of the names",
    ),  # type: ignore[arg-type]
    "proximal L2": (
        lambda: Proximal(L2Regularization()),
        ValueError,
        "rule=L2Regularization(): Proximal shrinks by the inner rule's fraction, and this rule is not one of a fraction alone; use Proximal(Decoupled()), or Proximal(Independent()) for AdamProx.",
    ),
    "no effective rate": (
        lambda: decayed_step(torch.optim.Rprop, "stable"),
        ValueError,
        "decay=Stable() of parameter group 0: needs the optimizer's effective rate, and Rprop declares none; choose another rule or optimizer, or see halflife.rules.facts.",
    ),
    # --- keywords
    "keyword typo": (
        lambda: AdamW(weight(), weigth_decay=0.1),
        TypeError,
        "weigth_decay=0.1: unknown keyword, did you mean 'weight_decay'?",
    ),
    "keyword of another": (
        lambda: AdamW(weight(), peak=0.1),
        TypeError,
        "peak=0.1: unknown keyword, did you mean 'peak_lr'?",
    ),
    "keyword far off": (
        lambda: SGD(weight(), qqq=1),
        TypeError,
        "qqq=1: unknown keyword; known are lr, momentum",
    ),
    "keyword of decayed": (
        lambda: decayed(torch.optim.NAdam)(weight(), momentun_decay=0.1),
        TypeError,
        "momentun_decay=0.1: unknown keyword, did you mean 'momentum_decay'?",
    ),
    "decayed of an instance": (
        lambda: decayed(torch.optim.SGD(weight(), 0.1)),
        TypeError,
        "must be a class derived from torch.optim.Optimizer; for an instance use attach(optimizer, rule).",
    ),  # type: ignore[arg-type]
    "attach unknown": (
        lambda: attach(torch.optim.SGD(weight(), 0.1), "stabel"),
        ValueError,
        "decay='stabel': unknown rule, did you mean 'stable'",
    ),
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


def stepped(lr: float, to: float, **arguments: Any) -> None:
    params = weight()
    optimizer = AdamW(params, lr=lr, **arguments)
    params[0].grad = torch.ones(2)
    optimizer.param_groups[0]["lr"] = to
    optimizer.step()


def decayed_step(base: Any, rule: str) -> None:
    params = weight()
    optimizer = decayed(base)(params, weight_decay=0.1, decay=rule)
    params[0].grad = torch.ones(2)
    optimizer.step()


@pytest.mark.parametrize("case", CASES)
def test_message(case: str) -> None:
    run, error, message = CASES[case]
    with pytest.raises(error) as caught:
        run()
    assert message in str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_messages_are_one_sentence_with_a_remedy(case: str) -> None:
    run, error, _ = CASES[case]
    with pytest.raises(error) as caught:
        run()
    text = str(caught.value)
    assert "\n" not in text
    if not text.startswith("Invalid"):  # torch's own
        assert ":" in text


def test_a_refused_late_group_is_not_added() -> None:
    optimizer = AdamW(weight(), lr=0.1)
    with pytest.raises(ValueError, match="weight_decay=11"):
        optimizer.add_param_group({"params": weight(), "weight_decay": 11})
    assert len(optimizer.param_groups) == 1
