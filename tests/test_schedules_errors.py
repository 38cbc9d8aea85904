"""Bad input to curves and schedulers, with the exact messages."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from halflife.schedules import (
    CurveLR,
    JointScheduler,
    WeightDecayScheduler,
    constant,
    cosine,
    cosine_warm_restarts,
    exponential,
    linear,
    log_time,
    multistep,
    normalized_decay,
    warmup,
)

RESTARTS = cosine_warm_restarts(2, 2, steps_per_epoch=3)


def make_optimizer() -> torch.optim.Optimizer:
    w = torch.ones(3, requires_grad=True)
    return torch.optim.AdamW([w], lr=0.5, weight_decay=0.125)


NAN = float("nan")
RUN = "pass the number of optimizer steps of the run."
MULTIPLE = "pass a multiple of the base value"
BAD_CURVES: list[tuple[Callable[[], object], str]] = [
    (lambda: cosine(0), f"cosine: total must be an integer >= 1, got 0; {RUN}"),
    (lambda: cosine(NAN), f"cosine: total must be an integer >= 1, got nan; {RUN}"),  # type: ignore[arg-type]
    (lambda: linear(True), f"linear: total must be an integer >= 1, got True; {RUN}"),
    (
        lambda: linear(3, final=NAN),
        f"linear: final must be a finite number >= 0, got nan; {MULTIPLE}.",
    ),
    (
        lambda: cosine(3, start=-1.0),
        f"cosine: start must be a finite number >= 0, got -1.0; {MULTIPLE}.",
    ),
    (
        lambda: multistep([0.5]),  # type: ignore[list-item]
        "multistep: each milestone must be an integer >= 1, got 0.5; pass optimizer steps.",
    ),
    (
        lambda: multistep([5, 5]),
        "multistep: milestones must be strictly increasing, got (5, 5); "
        "sort them and remove duplicates.",
    ),
    (
        lambda: multistep([5], gamma=0.0),
        "multistep: gamma must be a finite number > 0, got 0.0; pass the factor per milestone.",
    ),
    (
        lambda: exponential(1.5),
        "exponential: rate must be a number > 0 and <= 1, got 1.5; "
        "pass the factor per step, such as 0.99999.",
    ),
    (
        lambda: exponential.reaching(NAN, 5),
        "exponential.reaching: final must be a number > 0 and <= 1, got nan; "
        "pass the multiplier at the last step.",
    ),
    (
        lambda: exponential.theorem(b2=0.001, c_inf=1.0, delta=1e-4),
        "exponential.theorem: mu = b2*c_inf**2/delta must be >= 0 and < 1, got 10.0; "
        "raise delta above b2*c_inf**2 = 0.001.",
    ),
    (
        lambda: exponential.theorem(b2=-0.1, c_inf=1.0, delta=1.0),
        "exponential.theorem: b2 must be a finite number >= 0, got -0.1; "
        "pass 1 - beta_2 of torch, such as 0.001.",
    ),
    (
        lambda: exponential.theorem(b2=0.1, c_inf=1.0, delta=0.0),
        "exponential.theorem: delta must be a finite number > 0, got 0.0; "
        "pass the constant under the root, such as 1e-4.",
    ),
    (
        lambda: log_time(math.inf),
        "log_time: t0 must be a finite number > 0, got inf; "
        "pass steps, such as a tenth of the run.",
    ),
    (
        lambda: warmup(-1),
        "warmup: steps must be an integer >= 0, got -1; pass optimizer steps.",
    ),
    (
        lambda: warmup(2, start=1.5),
        "warmup: start must be a number >= 0 and <= 1, got 1.5; "
        "pass a fraction of the value to reach.",
    ),
    (
        lambda: cosine_warm_restarts(0, steps_per_epoch=1),
        "cosine_warm_restarts: T_0 must be an integer >= 1, got 0; "
        "pass the epochs of the first cycle.",
    ),
    (
        lambda: cosine_warm_restarts(1, 1.5, steps_per_epoch=1),  # type: ignore[arg-type]
        "cosine_warm_restarts: T_mult must be an integer >= 1, got 1.5; "
        "pass 1 for cycles of equal length.",
    ),
    (
        lambda: cosine_warm_restarts(1, steps_per_epoch=390.6),  # type: ignore[arg-type]
        "cosine_warm_restarts: steps_per_epoch must be an integer >= 1, got 390.6; "
        "pass ceil(dataset_size / batch_size).",
    ),
    (
        lambda: cosine_warm_restarts(1, steps_per_epoch=1, eta_max=[]),
        "cosine_warm_restarts: eta_max must be one number or more, got []; "
        f"{MULTIPLE}, or one for each cycle.",
    ),
    (
        lambda: cosine_warm_restarts(1, steps_per_epoch=1, eta_min=[0.0, -1]),
        "cosine_warm_restarts: eta_min must be a finite number >= 0, got -1; "
        f"{MULTIPLE}, or one for each cycle.",
    ),
    (
        lambda: RESTARTS.snapshot_epochs(0),
        "cosine_warm_restarts.snapshot_epochs: epochs must be an integer >= 1, got 0; "
        "pass the epochs of the run.",
    ),
    (
        lambda: normalized_decay(RESTARTS, base="lambda"),  # type: ignore[arg-type]
        "normalized_decay: base must be 'lambda_norm' or 'first_cycle', got 'lambda'; "
        "say what the group's weight_decay stands for.",
    ),
    (
        lambda: cosine(3)(-1),
        "cosine: step must be an integer >= 0, got -1; pass the optimizer steps already done.",
    ),
    (
        lambda: CurveLR(make_optimizer(), lambda step: NAN),
        "CurveLR: curve(0) must be a finite number >= 0, got nan; "
        "correct the function given as the curve.",
    ),
    (
        lambda: WeightDecayScheduler(make_optimizer(), lambda step: -1.0),
        "WeightDecayScheduler: curve(0) must be a finite number >= 0, got -1.0; "
        "correct the function given as the curve.",
    ),
    (
        lambda: WeightDecayScheduler(
            torch.optim.Rprop([torch.zeros(1, requires_grad=True)]), constant()
        ),
        "WeightDecayScheduler: weight_decay of group 0 must be a finite number >= 0, got None; "
        "use an optimizer that has a weight_decay.",
    ),
    (
        lambda: WeightDecayScheduler(make_optimizer(), constant()).load_state_dict(
            {"last_epoch": 1}
        ),
        "WeightDecayScheduler: state_dict must have 'last_step' and 'base_values', got "
        "['last_epoch']; pass what WeightDecayScheduler.state_dict() returned.",
    ),
    (
        lambda: WeightDecayScheduler(make_optimizer(), constant()).load_state_dict(
            {"last_step": 1, "base_values": [0.1, 0.1]}
        ),
        "WeightDecayScheduler: state_dict must have at most 1 base_values, one for each group, "
        "got 2; add the missing groups first.",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD_CURVES, ids=[m for _, m in BAD_CURVES])
def test_bad_values(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: warmup(3, 1.0),  # type: ignore[arg-type]
        lambda: CurveLR(make_optimizer(), 0.1),  # type: ignore[arg-type]
        lambda: CurveLR(torch.nn.Linear(1, 1), cosine(3)),  # type: ignore[arg-type]
        lambda: WeightDecayScheduler(torch.nn.Linear(1, 1), cosine(3)),  # type: ignore[arg-type]
        lambda: WeightDecayScheduler(make_optimizer(), None),  # type: ignore[arg-type]
        lambda: normalized_decay(cosine(3)),  # type: ignore[arg-type]
    ],
)
def test_bad_types(call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"must be a|is not an Optimizer"):
        call()


@pytest.mark.parametrize("bad", [{"lr": lambda t: NAN}, {"lr": 3}, {"weight_decay": lambda t: -1}])
def test_nothing_changes_when_a_scheduler_is_refused(bad: dict[str, Any]) -> None:
    optimizer = make_optimizer()
    before = copy.deepcopy(optimizer.state_dict())
    curves = {"lr": cosine(3, start=0.5), "weight_decay": cosine(3, start=0.5), **bad}
    with pytest.raises((TypeError, ValueError), match="must be"):
        JointScheduler(optimizer, **curves)
    if "lr" in bad:
        with pytest.raises((TypeError, ValueError), match="must be"):
            CurveLR(optimizer, bad["lr"])
    assert optimizer.state_dict() == before
