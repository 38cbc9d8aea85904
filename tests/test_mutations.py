"""The tests must be able to fail: each rule with one factor removed or wrong must be caught.

Three well-known libraries' suites miss exactly these mutations, because they test at a constant
learning rate, where most rules coincide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import cases
import test_rules
from cases import RULES
from halflife import (
    Adaptive,
    Constant,
    Corrected,
    Decoupled,
    Independent,
    L2Regularization,
    Proximal,
    Stable,
)
from halflife.bases.effective_rate import AdamRate, SGDRate

ADAM = cases.optimizer("AdamW")
AMSGRAD = cases.optimizer("AMSGrad")
MOMENTUM = cases.optimizer("SGD-momentum")


def _mean_of_the_step_before(self: AdamRate, group: dict[str, Any]) -> Any:
    if self._mean is None:
        self._mean, self.before = getattr(self, "before", math.inf), self._compute()  # type: ignore[attr-defined]
    return self._mean


# (what is mutated, method, the mutant, rule whose test must fail, optimizer)
MUTATIONS: list[tuple[type, str, Callable[..., Any], str, Any]] = [
    (Decoupled, "rate", lambda self, step: 1.0, "decoupled", ADAM),
    (Decoupled, "rate", lambda self, step: step.peak_lr, "decoupled", ADAM),
    (Independent, "rate", lambda self, step: 1.0, "independent", ADAM),
    (Independent, "rate", lambda self, step: step.lr, "independent", ADAM),
    (Constant, "rate", lambda self, step: step.lr / step.peak_lr, "constant", ADAM),
    (Constant, "rate", lambda self, step: 1.0, "constant", ADAM),
    (Corrected, "rate", lambda self, step: step.lr, "corrected", ADAM),
    (Corrected, "rate", lambda self, step: step.lr**2, "corrected", ADAM),
    (Corrected, "rate", lambda self, step: step.lr / step.peak_lr, "corrected", ADAM),
    (Stable, "rate", lambda self, step: step.lr, "stable", ADAM),
    (Stable, "rate", lambda self, step: step.effective_rate, "stable", ADAM),
    (Stable, "rate", lambda self, step: step.lr * step.effective_rate**2, "stable", ADAM),
    (Stable, "rate", lambda self, step: step.lr, "stable", MOMENTUM),
    (Stable, "rate", lambda self, step: step.lr * step.effective_rate, "stable_eps", ADAM),
    (
        Stable,
        "rate",
        lambda self, step: step.lr / (1 / step.effective_rate + self.eps),
        "stable_eps",
        ADAM,
    ),
    (Adaptive, "rate", lambda self, step: step.lr, "adaptive", ADAM),
    (
        Adaptive,
        "rate",
        lambda self, step: step.lr * step.measured("gradient_norm") / 9.0,
        "adaptive",
        ADAM,
    ),
    (Adaptive, "rate", lambda self, step: step.lr / step.measured("weight_norm"), "adaptive", ADAM),
    (
        Adaptive,
        "rate",
        lambda self, step: 1e-3 * step.measured("gradient_norm"),
        "adaptive",
        MOMENTUM,
    ),
    (L2Regularization, "gradient_coefficient", lambda self, step: 0.0, "l2", ADAM),
    (L2Regularization, "gradient_coefficient", lambda self, step: step.lr, "l2", ADAM),
    (Proximal, "direction_scale", lambda self, step: 1.0, "proximal", ADAM),
    (Proximal, "rate", lambda self, step: self.rule.rate(step), "proximal", ADAM),
    (AdamRate, "of", lambda self, group: 1.0, "stable", ADAM),
    (AdamRate, "mean_square", _mean_of_the_step_before, "stable", ADAM),
    (SGDRate, "of", lambda self, group: 1.0, "stable", MOMENTUM),
    (SGDRate, "of", lambda self, group: 1 / (1 - group["momentum"]), "stable", MOMENTUM),
]


def caught(rule_id: str, optimizer: Any) -> bool:
    """Whether the oracle test of this rule fails under any of its schedules."""
    rule = next(r for r in RULES if r.id == rule_id)
    for schedule in test_rules.SCHEDULES:
        try:
            test_rules.test_float64_oracle(rule, optimizer, schedule, "for-loop")
        except (AssertionError, ValueError):  # a wrong fraction may also be refused
            return True
    return False


@pytest.mark.parametrize(
    ("owner", "method", "mutant", "rule", "optimizer"),
    MUTATIONS,
    ids=[f"{m[0].__name__}.{m[1]}-{i}" for i, m in enumerate(MUTATIONS)],
)
def test_mutation_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    mutant: Callable[..., Any],
    rule: str,
    optimizer: Any,
) -> None:
    monkeypatch.setattr(owner, method, mutant)
    assert caught(rule, optimizer)


def test_nothing_is_caught_without_a_mutation() -> None:
    for rule in RULES:
        assert not caught(rule.id, ADAM)


@pytest.mark.parametrize("optimizer", [ADAM, AMSGRAD], ids=lambda o: o.name)
def test_mean_per_group_is_caught(monkeypatch: pytest.MonkeyPatch, optimizer: Any) -> None:
    """Stable's mean is over the whole model; one mean per group is another algorithm."""

    def of_one_group(self: AdamRate, group: dict[str, Any]) -> Any:
        alone = SimpleNamespace(param_groups=[group], state=self._optimizer.state)
        return AdamRate(alone)._compute()  # type: ignore[arg-type]

    monkeypatch.setattr(AdamRate, "mean_square", of_one_group)
    assert caught("stable", optimizer)


def test_schedules_really_change() -> None:
    """At a constant lr several rules coincide: such a schedule would blind the suite."""
    for name, lrs in cases.schedules().items():
        assert max(lrs) > 2 * min(lrs), name
