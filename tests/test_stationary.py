"""Definition 1 of Xie et al.: which points a step leaves where they are, by taking the step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import PEAK, RuleCase
from halflife import Corrected, DecayRule, HalfLife, Proximal
from halflife.theory.gradient_norms import uncoupled_decay_gradient
from halflife.units.stationary import stationarity_of

F64 = torch.float64
LRS = [PEAK, PEAK, 0.7 * PEAK, 0.25 * PEAK]
CURVATURE = torch.tensor([1.0, 5.0, 0.2], dtype=F64)
TARGET = torch.tensor([1.0, -2.0, 3.0], dtype=F64)
# SGD's effective rate is 1. Of a rule that divides norms see below: they are another at each point.
KNOWN = {"effective_rate": 1.0, "mean_square": 1.0}
ASKED = [case for case in cases.RULES if "gradient_norm" not in case.rule.needs]
STRONG = {"l2", "decoupled", "independent", "stable", "stable_eps", "proximal"}
STRONG |= {"proximal_independent"}


def moved(rule: DecayRule, weight_decay: float, w: Tensor, lr: float) -> float:
    """How far one step of SGD on the quadratic goes from w."""
    p = torch.nn.Parameter(w.clone())
    optimizer = halflife.SGD([p], lr=lr, peak_lr=PEAK, decay=rule, weight_decay=weight_decay)
    p.grad = CURVATURE * (w - TARGET)
    optimizer.step()
    return float((p.detach() - w).abs().max())


@pytest.mark.parametrize("case", ASKED, ids=lambda case: case.id)
def test_steps_keep_the_points_that_they_are_said_to_keep(case: RuleCase) -> None:
    """The stationary point of each f_t, and every step of the schedule from there."""
    found = stationarity_of(case.rule, LRS, case.weight_decay, measured=KNOWN)
    assert found.strong == (case.id in STRONG)
    assert found.kind == ("strong" if found.strong else "weak")
    for t, c in enumerate(found.coefficients):
        assert c is not None
        w = CURVATURE * TARGET / (CURVATURE + c)  # grad L + c w = 0
        kept = found.kept_at(t)
        assert t in kept
        for later, lr in enumerate(LRS):
            distance = moved(case.rule, case.weight_decay, w, lr)
            assert (distance < 1e-14) == (later in kept)
            slope = CURVATURE * (w - TARGET) + (found.coefficients[later] or 0.0) * w
            wanted = found.gradient_norm(t, later, float(w.norm()))
            assert float(slope.norm()) == pytest.approx(wanted, rel=1e-9, abs=1e-13)


def test_theorem_1_is_the_rule_constants() -> None:
    found = stationarity_of("constant", LRS, 0.04)
    for t, (lr, next_lr) in enumerate(itertools.pairwise(LRS)):
        wanted = uncoupled_decay_gradient(
            weight_norm=3.0, weight_decay=0.04, lr=lr, next_lr=next_lr
        )
        assert found.gradient_norm(t, t + 1, 3.0) == pytest.approx(wanted, rel=1e-12)
    # Corrected decays with the lr squared: weak as well, and moving the other way.
    slower = stationarity_of(Corrected(), LRS, 2.0).coefficients
    assert slower == pytest.approx([2.0, 2.0, 1.4, 0.5])


def test_a_bent_rule_has_the_inner_rules_objective() -> None:
    plain = stationarity_of("independent", LRS, 0.04).coefficients
    assert stationarity_of(Proximal("independent"), LRS, 0.04).coefficients == pytest.approx(plain)


def test_steps_without_an_lr_keep_every_point() -> None:
    found = stationarity_of("constant", [0.5, 0.0, 0.5], 0.25)
    assert found.coefficients == (0.5, None, 0.5)
    assert found.strong
    assert found.kept_at(0) == (0, 1, 2)
    with pytest.raises(ValueError, match="every point stays there"):
        found.kept_at(1)


def test_without_decay_and_under_a_scheduled_one() -> None:
    assert stationarity_of("constant", LRS, 0.0).strong
    halved = stationarity_of("decoupled", [0.5, 0.5], [0.5, 0.25])
    assert (halved.coefficients, halved.kind) == ((0.5, 0.25), "weak")
    # A decay that is scheduled against the lr makes Hanson and Pratt's points strong.
    assert stationarity_of("constant", LRS, [0.5 * lr for lr in LRS]).strong
    assert stationarity_of("decoupled", LRS, HalfLife(steps=100)).strong


def test_what_a_rule_follows_must_be_given_and_may_move() -> None:
    rates = [1.0, 1.0, 2.0, 3.0]
    found = stationarity_of("stable", LRS, 0.5, measured={"effective_rate": rates})
    assert found.coefficients == pytest.approx([0.5, 0.5, 1.0, 1.5])
    assert not found.strong  # AdamS too: its objective follows the gradients
    with pytest.raises(ValueError, match=r"follows effective_rate, known in a training step only"):
        stationarity_of("stable", LRS, 0.5)


def test_a_rule_that_divides_norms_is_asked_for_those_given() -> None:
    """``c = wd |g| / |w|``; at a stationary point ``|g| = c |w|``, so a wd of 1 alone keeps one."""
    norms = {"gradient_norm": [2.0, 2.0, 3.0, 1.0], "weight_norm": 4.0}
    found = stationarity_of("adaptive", LRS, 0.5, measured=norms)
    assert found.coefficients == pytest.approx([0.25, 0.25, 0.375, 0.125])
    with pytest.raises(ValueError, match="follows weight_norm, known in a training step only"):
        stationarity_of("adaptive", LRS, 0.5, measured={"gradient_norm": 2.0})


class Joined(DecayRule):
    """Of a user: a fraction, and a multiple of the weights in the gradient."""

    def rate(self, step: halflife.rules.Step) -> float:
        return 0.5 * float(step.lr)

    def gradient_coefficient(self, step: halflife.rules.Step) -> float:
        return float(step.weight_decay)


def test_a_rule_of_ones_own_is_asked() -> None:
    assert stationarity_of(Joined(), [0.5, 0.25], 0.5).coefficients == (0.75, 0.75)


@pytest.mark.parametrize("name", ["cautious", "anchored", "huber", "proximal_l1"])
def test_maps_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"rule=\w+\(.*must remove a fraction or join"):
        stationarity_of(name, LRS, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lrs": []}, "at least one step"),
        ({"lrs": [-1.0]}, "finite number >= 0"),
        ({"weight_decay": "0.1"}, "weight_decay='0.1': must be a finite number >= 0"),
        ({"weight_decay": [0.1]}, "weight_decay: 1 numbers for 4 steps"),
        ({"peak_lr": -1.0}, "peak_lr=-1.0: must be a finite number > 0"),
        ({"peak_lr": PEAK / 2, "rule": "independent"}, "is above its peak_lr"),
        ({"weight_decay": 1e3}, "would remove the fraction 20"),
        ({"measured": {"effective_rate": [1.0]}}, "effective_rate: 1 numbers for 4 steps"),
    ],
)
def test_errors(arguments: Mapping[str, object], message: str) -> None:
    given = {"rule": "decoupled", "lrs": LRS, "weight_decay": 0.1, **arguments}
    with pytest.raises(ValueError, match=message):
        stationarity_of(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "norm", "message"),
    [(4, 1.0, "step must be at most 3, got 4"), (-1, 1.0, "an integer >= 0"), (0, -1.0, "norm")],
)
def test_errors_of_a_step(step: int, norm: float, message: str) -> None:
    found = stationarity_of("constant", LRS, 0.04)
    with pytest.raises(ValueError, match=message):
        found.gradient_norm(0, step, norm)
