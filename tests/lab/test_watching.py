"""What is known of a training's optimizer, and of what it removes, by what the trial has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import halflife
from halflife import lab
from halflife.lab.trials.bases import OptimizerKind
from halflife.lab.trials.job import Job, Portion, run_portion


def told(
    train: Callable[..., Any], rule: str = "decoupled", stated: bool = False
) -> tuple[Any, ...]:
    job = Job(train, OptimizerKind("adamw"), (lab.Metric("val"),) * 2, stated=stated)
    (outcome,) = run_portion(job, Portion((lab.Cell(rule, 1e-2, 0.1, 0),)))
    assert outcome.status == "done", outcome.error
    return outcome.optimizer, outcome.settings, outcome.fraction


def stepped(optimizer: torch.optim.Optimizer) -> float:
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.ones_like(weight)
    optimizer.step()
    return 1.0


def own(cls: type[torch.optim.Optimizer], **settings: Any) -> torch.optim.Optimizer:
    return cls([nn.Parameter(torch.ones(2, 2))], lr=1e-2, weight_decay=0.1, **settings)  # type: ignore[call-arg]


def test_an_optimizer_that_nobody_has_seen_is_not_known() -> None:
    def train(lr: float, weight_decay: float, seed: int) -> float:
        return stepped(own(torch.optim.SGD, momentum=0.9))

    assert told(train) == (None, None, None)
    assert told(lambda trial: train(trial.lr, trial.weight_decay, trial.seed)) == (None, None, None)
    assert told(train, stated=True) == (None, None, pytest.approx(1e-3))


def test_an_optimizer_that_the_trial_made_is_known_with_its_settings() -> None:
    def train(trial: lab.Trial) -> float:
        return stepped(trial.optimizer(nn.Linear(2, 2), "sgd", nesterov=True))

    settings = {"momentum": 0.9, "nesterov": True}
    assert told(train) == ("sgd", settings, pytest.approx(1e-3))


@pytest.mark.parametrize(
    ("cls", "settings", "expected"),
    [
        (torch.optim.AdamW, {}, ("adamw", None, pytest.approx(1e-3))),
        (halflife.Lion, {}, ("lion", None, pytest.approx(1e-3))),
        # L2 removes 1 / (1 - momentum) times as much, and of Adam's nothing that could be told.
        (torch.optim.SGD, {"momentum": 0.9}, ("sgd", None, None)),
        (torch.optim.Adam, {}, ("Adam", None, None)),
    ],
)
def test_of_a_watched_optimizer_the_fraction_is_told_where_it_is_the_rules(
    cls: Any, settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    assert told(lambda trial: stepped(trial.watch(own(cls, **settings)))) == expected


def test_a_rule_that_is_taken_is_known_to_act() -> None:
    def train(trial: lab.Trial) -> float:
        return stepped(halflife.attach(own(torch.optim.RMSprop), trial.decay))

    assert told(train, "independent") == (None, None, pytest.approx(0.1))
