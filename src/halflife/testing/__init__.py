"""The conformance suite: what a decayed optimizer and a decay rule must do, as checks to run.

    from halflife.testing import check_optimizer, check_rule

    def test_my_optimizer():
        check_optimizer(MyOptimizer, betas=(0.9, 0.99))  # any torch.optim.Optimizer class

    def test_my_rule():
        check_rule(MyRule(), weight_decay=0.1)

A failing check raises an ``AssertionError`` that lists every failure and why it matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.optim import Optimizer

from ..mechanism.attach import decayed
from ..mechanism.decayed import Decayed
from ..rules.contract import DecayRule, RuleName, as_rule
from .optimizers import Case
from .report import Check, Report, outcome
from .rules import RULE_CHECKS, visible

__all__ = ["Check", "Report", "check_optimizer", "check_rule"]

_RULES: list[RuleName]
_RULES = ["l2", "decoupled", "independent", "constant", "corrected", "proximal"]
_SHAPES = ((4, 3), (5,), (2, 3))
_TOLERANCE = 1e-10


def check_optimizer(
    cls: type[Optimizer],
    *,
    rules: Sequence[DecayRule | RuleName] = _RULES,
    shapes: Sequence[tuple[int, ...]] = _SHAPES,
    tolerance: float = _TOLERANCE,
    **arguments: Any,
) -> Report:
    """Check that an optimizer class keeps the contract with every rule.

    Args:
        cls: a decayed class, or any optimizer class, which is then checked as ``decayed(cls)``.
        rules: rules, or their names. A rule that the class refuses is skipped.
        shapes: of the parameters; only matrices for an optimizer that takes nothing else.
        tolerance: relative, where bitwise equality is not promised. The parameters are float64.
        **arguments: the optimizer's own, without lr, weight_decay and decay.

    Raises:
        AssertionError: listing the checks that failed.

    Example:
        >>> report = check_optimizer(torch.optim.RAdam, rules=["independent"])
        >>> len(report.of("passed")), len(report.of("failed"))
        (15, 0)
    """
    checks: list[Check] = []
    for rule in map(as_rule, rules):
        case = Case(_decayed(cls), rule, visible(rule), tuple(shapes), tolerance, arguments)
        checks += case.run()
    return _judged(cls.__name__, checks)


def check_rule(
    rule: DecayRule | RuleName,
    *,
    weight_decay: float | None = None,
    optimizers: Sequence[type[Optimizer]] = (torch.optim.SGD, torch.optim.AdamW),
) -> Report:
    """Check a rule by itself and on optimizers.

    Args:
        rule: the rule, or its name.
        weight_decay: a coefficient whose decay is visible at lr 0.02, and well below removing
            everything. Default: the one that removes 5 %.
        optimizers: on which it is checked.

    Raises:
        AssertionError: listing the checks that failed.

    Example:
        >>> print(check_rule(as_rule("corrected"), optimizers=[]))
        Corrected(): 4 passed, 0 failed
          passed  coefficient inverts fraction [corrected]
          passed  fraction broadcasts over tensors [corrected]
          passed  no weight_decay removes nothing [corrected]
          passed  round trip as plain data [corrected]
    """
    rule = as_rule(rule)
    amount = visible(rule) if weight_decay is None else weight_decay
    checks = [outcome(name, rule, check, rule, amount) for name, check in RULE_CHECKS.items()]
    for cls in optimizers:
        checks += Case(_decayed(cls), rule, amount, _SHAPES, _TOLERANCE, {}).run()
    return _judged(repr(rule), checks)


def _decayed(cls: type[Optimizer]) -> type[Decayed]:
    return cast("type[Decayed]", decayed(cls))


def _judged(subject: str, checks: list[Check]) -> Report:
    report = Report(subject, tuple(checks))
    failed = report.of("failed")
    assert not failed, report.text(failed)
    return report
