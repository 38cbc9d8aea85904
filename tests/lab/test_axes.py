"""Axes, and strengths in the currency common to all rules."""

from __future__ import annotations

import pytest

from halflife.lab import log
from halflife.lab.sweeping.axes import Axis, Currency, axis_of, parse_axis
from halflife.lab.trials.bases import OptimizerKind
from halflife.rules.contract import as_rule

BASES = {"adamw": OptimizerKind("adamw").base, "sgd": OptimizerKind("sgd").base}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-4:1e-1:4", (1e-4, 1e-3, 1e-2, 1e-1)),
        ("0.1:1e-3:3", (1e-3, 1e-2, 0.1)),
        ("0.3,0.1, 0.3", (0.1, 0.3)),
        ("0.5", (0.5,)),
    ],
)
def test_parse_axis(text, values):
    assert parse_axis("lr", text).values == pytest.approx(values, rel=1e-11)


@pytest.mark.parametrize("text", ["", "a", "1:2", "0:1:3", "-1,2", "1e-3:1e-1:0", "nan", "1:inf:3"])
def test_bad_axis(text):
    with pytest.raises(ValueError, match=r"strength='.*': must be lo:hi:n"):
        parse_axis("strength", text)


def test_what_an_axis_may_be_given_as():
    for given in (log(1e-3, 1e-1, 3), "1e-3:1e-1:3", [0.1, 0.001, 0.01], (0.01, 0.1, 0.001)):
        assert axis_of("lr", given).values == (0.001, 0.01, 0.1)
    assert axis_of("lr", 0.1).values == (0.1,)


@pytest.mark.parametrize("bad", [[], [0.0], [-1.0], ["x"], [float("nan")], [0.1, None], 0.0])
def test_what_it_may_not(bad):
    with pytest.raises(
        ValueError, match=r"^weight_decay=.*must be lab.log\(low, high, n\), or a list"
    ):
        axis_of("weight_decay", bad)


def test_an_axis_grows_by_its_own_spacing():
    axis = parse_axis("lr", "1e-4:1e-1:9")
    factor = 1000 ** (1 / 8)
    assert axis.beyond("high") == pytest.approx(0.1 * factor)
    assert axis.beyond("low") == pytest.approx(1e-4 / factor)
    assert axis.extended(axis.beyond("low")).values[1:] == axis.values
    assert Axis((0.1,)).beyond("high") is None


@pytest.mark.parametrize("optimizer", BASES)
@pytest.mark.parametrize("name", ["decoupled", "independent", "constant", "corrected", "proximal"])
def test_a_strength_is_the_fraction_at_the_central_lr(name, optimizer):
    currency = Currency(as_rule(name), BASES[optimizer], 3e-3)
    for strength in (1e-5, 0.1, 0.9):
        coefficient = currency.coefficient(strength)
        assert currency.fraction(coefficient, 3e-3) == pytest.approx(strength, rel=1e-12)
        assert currency.strength(coefficient) == pytest.approx(strength, rel=1e-12)


def test_a_strength_of_stable():
    on_sgd = Currency(as_rule("stable"), BASES["sgd"], 0.1)
    assert not on_sgd.needs_probe
    assert on_sgd.coefficient(0.5) == pytest.approx(0.5 / (0.1 / (1 - 0.9)))
    on_adam = Currency(as_rule("stable"), BASES["adamw"], 0.1, effective_rate=200.0)
    assert on_adam.needs_probe
    assert on_adam.coefficient(0.5) == pytest.approx(0.5 / (0.1 * 200.0))


def test_a_strength_of_l2():
    on_adam = Currency(as_rule("l2"), BASES["adamw"], 0.01)
    assert on_adam.coefficient(1e-3) == pytest.approx(1e-3 / 0.01 / 100)
    assert on_adam.strength(on_adam.coefficient(1e-3)) == pytest.approx(1e-3)
    # On SGD: what a constant weight loses per step in the long run, lr * wd / (1 - momentum).
    on_sgd = Currency(as_rule("l2"), BASES["sgd"], 0.01)
    assert on_sgd.coefficient(1e-3) * 0.01 / (1 - 0.9) == pytest.approx(1e-3)
    assert on_sgd.strength(on_sgd.coefficient(1e-3)) == pytest.approx(1e-3)
