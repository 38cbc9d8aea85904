"""Bad input to optimizers and rules: name, value, requirement and remedy, before anything changes."""

from __future__ import annotations

import math

import pytest
import torch

from halflife import (
    SGD,
    Adam,
    AdamW,
    L2Regularization,
    Proximal,
    attach,
    decayed,
)
from halflife.rules.contract import as_rule
from halflife.rules.step import Step
from messages import Case, check_message, check_sentence, decayed_step, group, stepped, weight

NAN = math.nan

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
    "peak just below lr": (
        lambda: AdamW(weight(), lr=0.1, peak_lr=0.1 * (1 - 1e-8)),
        ValueError,
        "peak_lr=0.099999999 of parameter group 0 is below its lr=0.1",
    ),
    "lr just above peak": (
        lambda: as_rule("independent").rate(Step(0.1 * (1 + 1e-8), 0.1)),
        ValueError,
        "is above its peak_lr=0.1: this rule needs the schedule's highest lr",
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
}


@pytest.mark.parametrize("case", CASES)
def test_message(case: str) -> None:
    check_message(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_messages_are_one_sentence_with_a_remedy(case: str) -> None:
    check_sentence(*CASES[case])


def test_a_refused_late_group_is_not_added() -> None:
    optimizer = AdamW(weight(), lr=0.1)
    with pytest.raises(ValueError, match="weight_decay=11"):
        optimizer.add_param_group({"params": weight(), "weight_decay": 11})
    assert len(optimizer.param_groups) == 1
