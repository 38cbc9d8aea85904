"""Every rule and every optimizer is in every list where it belongs; one failure names them all."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

import cases
import halflife
import strategies
import torch_versions
from halflife.algorithms import algorithms
from halflife.rules import facts
from halflife.rules.contract import DecayRule, RuleName
from oracles import fraction_and_size

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rules import ELEMENTWISE, NORMS, SCALAR_RULES

ROOT = Path(__file__).resolve().parent.parent
RULES = {n: c for n, c in DecayRule._registry.items() if c.__module__.startswith("halflife.")}
BENCHMARKS = [*SCALAR_RULES.values(), *ELEMENTWISE.values(), *NORMS.values()]
RULES_PAGE = (ROOT / "docs/rules.md").read_text("utf-8")
OPTIMIZERS_PAGE = (ROOT / "docs/api/optimizers.md").read_text("utf-8")
CATALOGUE = {entry.optimizer for entry in algorithms()}
# Optimizers that are rightly missing from the catalogue, and why.
NO_ALGORITHM = {
    name: "no paper or library of the catalogue decays with it: torch has it, and L2 by default"
    for name in ("Adadelta", "Adamax", "ASGD")
}


def has_oracle(case: cases.RuleCase | cases.MapCase) -> bool:
    if isinstance(case, cases.MapCase):
        return callable(case.formula)
    try:
        fraction_and_size(case.reference, 0.1, 0.1, 0.1, 1.0)
    except KeyError:
        return False
    return True


def missing_of_rule(name: str, cls: type[DecayRule]) -> list[str]:
    """The lists from which a rule is missing."""
    own = [case for case in (*cases.RULES, *cases.MAPS) if type(case.rule) is cls]
    has = {
        "a case in tests/cases.py": bool(own),
        "its oracle in tests/reference.py or formula in tests/map_cases.py": bool(own)
        and all(map(has_oracle, own)),
        "a row in docs/rules.md": re.search(rf"^\| `{cls.__name__}[`(]", RULES_PAGE, re.M),
        "a row in benchmarks/rules.py": any(type(rule) is cls for rule in BENCHMARKS),
        "the lab's ensemble test": name in cases.in_lab([*cases.RULES, *cases.MAPS]),
        "an export from halflife": getattr(halflife, cls.__name__, None) is cls,
        "a name in halflife.rules.contract.RuleName": name in get_args(RuleName),
    }
    return [where for where, there in has.items() if not there]


def missing_of_optimizer(name: str, cls: type[Any]) -> list[str]:
    """The lists from which an optimizer is missing."""
    page = re.findall(r"^::: (\S+)", OPTIMIZERS_PAGE, re.M)
    kinds = ("noise", "effective_rate", "direction")
    has = {
        "a case in tests/cases.py": any(o.cls is cls for o in cases.OPTIMIZERS),
        "a base in tests/strategies.py": name in strategies.BASES or name in strategies.UNDRAWN,
        "an entry in docs/api/optimizers.md": any(
            f"{cls.__module__}.".startswith(f"{entry}.") for entry in page
        ),
        "facts, declared beside the class": any(facts.fact(kind, cls) for kind in kinds),
        "an entry in halflife.algorithms": cls in CATALOGUE or name in NO_ALGORITHM,
        "an export from halflife": getattr(halflife, name, None) is cls,
    }
    return [where for where, there in has.items() if not there]


def all_of(missing: dict[str, list[str]]) -> str:
    """A line for each name that misses something."""
    return "\n".join(f"{name}: {', '.join(where)}" for name, where in missing.items() if where)


def test_every_rule_is_everywhere() -> None:
    lines = all_of({name: missing_of_rule(name, cls) for name, cls in RULES.items()})
    assert not lines, f"missing:\n{lines}"


def test_every_optimizer_is_everywhere() -> None:
    classes = {name: getattr(halflife.optim, name) for name in halflife.optim.__all__}
    if torch_versions.TORCH < (2, 9):
        del classes["Muon"]  # no case, as it cannot be built
    lines = all_of({name: missing_of_optimizer(name, cls) for name, cls in classes.items()})
    assert not lines, f"missing:\n{lines}"


def test_reasons_are_given_where_they_are_needed_only() -> None:
    assert not {*NO_ALGORITHM} & {o.__name__ for o in CATALOGUE if o is not None}
    assert not {*strategies.UNDRAWN} & {*strategies.BASES}
    assert {*NO_ALGORITHM, *strategies.UNDRAWN} <= {*halflife.optim.__all__}


@pytest.fixture
def forgotten() -> Iterator[type[DecayRule]]:
    @dataclass(frozen=True)
    class Forgotten(DecayRule):
        name = "forgotten_for_this_test"

        def rate(self, step: Any) -> Any:
            return step.lr

    yield Forgotten
    del DecayRule._registry["forgotten_for_this_test"]


def test_what_is_nowhere_is_missing_from_every_list(forgotten: type[DecayRule]) -> None:
    assert len(missing_of_rule(forgotten.name, forgotten)) == 7

    class Unheard(cases.torch.optim.Optimizer):
        """In no list."""

    assert len(missing_of_optimizer("Unheard", Unheard)) == 6


def test_a_case_without_an_oracle_is_found() -> None:
    assert not has_oracle(cases.RuleCase(halflife.Decoupled(), "written nowhere", 1.0))
